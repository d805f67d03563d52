"""Sessions of commands with everything they print, kept as text under `transcripts/`, in three forms.

    transcripts/pipe      what a pipe gets, with the `--json` of every command
    transcripts/terminal  what a terminal of 100 columns gets; colours are words, as `<yellow>75beb7660a1b</>`
    transcripts/ascii     the same with `--ascii`

The first line of a transcript names its scene. A line `$ casckpt ...` is a command; below it stand its stdout, its
stderr with `! ` before each line, and its exit code unless that is 0. `@FILE` on a command line is what a file of the
scene holds. Commands are written into the form of the pipe; the other two run those of them that print for people.
UPDATE_TRANSCRIPTS=1 rewrites all three; read the difference before it is committed.
"""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.runner import Normal, Result, on_terminal, run
from tests.cli.scenes import SCENES

FOLDER = Path(__file__).with_name("transcripts")
SCRIPTS = sorted((FOLDER / "pipe").glob("*.txt"))
FOR_PROGRAMS = {"--json", "--ndjson", "--tsv"}


def in_ascii(*words: str) -> Result:
    """A command with --ascii, which leaves no other character in what it prints."""
    done = on_terminal(*words, "--ascii")
    assert (done.out + done.err).isascii(), words
    return done


FORMS: dict[str, Callable[..., Result]] = {"pipe": run, "terminal": on_terminal, "ascii": in_ascii}


def filled_in(word: str) -> str:
    """The content of FILE for `@FILE`, any other word itself."""
    return Path(word[1:]).read_text() if word.startswith("@") and Path(word[1:]).is_file() else word


def played(script: str, folder: Path, form: str) -> str:
    """A transcript as it comes out now."""
    first, *lines = script.splitlines()
    SCENES[first.removeprefix("# scene: ")](folder)
    shown, normal = [first, ""], Normal()
    for line in lines:
        if not line.startswith("$ casckpt"):
            continue
        words = shlex.split(line.removeprefix("$ casckpt"))
        done = FORMS[form](*map(filled_in, words))
        if form != "pipe" and FOR_PROGRAMS & set(words):
            continue  # it ran, since what follows may depend on it
        shown += [line, normal(done.out).rstrip("\n")] if done.out else [line]
        shown += [f"! {part}" for part in normal(done.err).splitlines()]
        shown += [f"[exit {done.code}]"] if done.code else []
        shown.append("")
    return "\n".join(shown)


PATH_LENGTH = 120
"""Of the folder of every scene: where lines are cut depends on it."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "x".ljust(PATH_LENGTH - len(str(tmp_path)) - 1, "x")
    folder.mkdir()
    monkeypatch.chdir(folder)
    kept = FOLDER / form / path.name
    found = played(path.read_text(), folder, form)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(found)
    else:
        assert found == kept.read_text()


def test_every_command_has_a_transcript_in_both_forms() -> None:
    from casckpt.cli.table import COMMANDS

    lines = [line for path in SCRIPTS for line in path.read_text().splitlines() if line.startswith("$ ")]
    for name in COMMANDS:
        of_command = [line for line in lines if f" {name} " in f"{line} "]
        assert any("--json" in line for line in of_command), name
        assert any("--json" not in line for line in of_command), name
