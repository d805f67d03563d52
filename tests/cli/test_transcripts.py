"""Sessions of commands with everything they print, kept as text under `transcripts/`.

The first line of a transcript names its scene. A line `$ casckpt ...` is a command; below it stand its stdout, its
stderr with `! ` before each line, and its exit code unless that is 0. `@FILE` on a command line is what a file of the
scene holds. UPDATE_TRANSCRIPTS=1 rewrites them; read the difference before it is committed.
"""

import os
import shlex
from pathlib import Path

import pytest

from tests.cli.runner import Normal, run
from tests.cli.scenes import SCENES

FOLDER = Path(__file__).with_name("transcripts")
TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))


def filled_in(word: str) -> str:
    """The content of FILE for `@FILE`, any other word itself."""
    return Path(word[1:]).read_text() if word.startswith("@") and Path(word[1:]).is_file() else word


def played(script: str, folder: Path) -> str:
    """A transcript as it comes out now."""
    first, *lines = script.splitlines()
    SCENES[first.removeprefix("# scene: ")](folder)
    shown, normal = [first, ""], Normal()
    for line in lines:
        if line.startswith("$ casckpt"):
            done = run(*map(filled_in, shlex.split(line.removeprefix("$ casckpt"))))
            shown += [line, normal(done.out).rstrip("\n")] if done.out else [line]
            shown += [f"! {part}" for part in normal(done.err).splitlines()]
            shown += [f"[exit {done.code}]"] if done.code else []
            shown.append("")
    return "\n".join(shown)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = path.read_text()
    found = played(script, tmp_path)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        path.write_text(found)
    else:
        assert found == script


def test_every_command_has_a_transcript_in_both_forms() -> None:
    from casckpt.cli.table import COMMANDS

    lines = [line for path in TRANSCRIPTS for line in path.read_text().splitlines() if line.startswith("$ ")]
    for name in COMMANDS:
        of_command = [line for line in lines if f" {name} " in f"{line} "]
        assert any("--json" in line for line in of_command), name
        assert any("--json" not in line for line in of_command), name
