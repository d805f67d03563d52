"""No text that a store holds commands a terminal, whatever it is and wherever it stands."""

from __future__ import annotations

import contextlib
import tempfile
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import casckpt
from casckpt.cli.table import COMMANDS
from casckpt.format.ids import checksum
from casckpt.format.remote import Lock, Push, RemoteRef, RemoteRoot, root_key
from tests.cli import scenes
from tests.cli.runner import run

FOREIGN = st.text(
    st.sampled_from("\x1b\x07\x00\x9b\r\n\t\u202e\u2066\u200b\u2028\u0085\ufeff\U000e0041[]0;31mJab/~検e\u0301\\")
    | st.characters(codec="utf-8"),
    min_size=1,
    max_size=12,
)
LOOKS = [
    ["status"], ["runs"], ["log", "--all"], ["log", "--oneline"], ["show", "--tree", "--config"], ["ls", "@"],
    ["ls", "@", "-R"], ["diff", "@~1", "@"], ["diff", "@~1", "@", "--values"], ["compare", "@~1", "@"],
    ["reflog"], ["fsck"], ["tag"], ["pin"], ["note", "@"], ["undo", "--list"], ["blame"], ["blame", "--by", "1"],
    ["log", "-w", "has nothing"], ["show", "nothing"], ["config", "list", "--origin"], ["doctor"], ["help"],
    ["drop", "-w", "has nothing", "-n"], ["drop", "-w", "step>0", "-n"], ["retain", "--keep-last", "1", "-n"],
    ["repack", "-n"], ["gc", "-n"], ["gc", "--now", "-n"],
    *(["du", "--by", by] for by in ("run", "commit", "component", "dtype")), ["du", "--drop", "@"],
    ["forget", "@~1", "--force", "-n"], ["forget", "main", "-n"],
    ["remote", "list"], ["remote", "log"], ["remote", "conflicts"], ["remote", "probe", "-n"], ["remote", "gc", "-n"],
    ["remote", "locks"], ["remote", "lock", "nas", "gpt", "-n"], ["remote", "unlock", "nas", "gpt", "--break", "-n"],
    ["push", "-n"], ["fetch", "-n"], ["pull", "-n"], ["fetch", "nothing"], ["drill"],
    ["bundle", "list", "FOLDER/x.bundle"],
]  # fmt: skip
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def harmful(text: str) -> set[str]:
    return {char for char in text if char != "\n" and unicodedata.category(char) in HARMFUL}


@settings(max_examples=20, deadline=None)
@given(
    words=st.lists(FOREIGN, min_size=8, max_size=8, unique=True), state=st.dictionaries(FOREIGN, FOREIGN, max_size=3)
)
def test_every_command_that_looks_prints_harmless_text(words: list[str], state: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / scenes.STORE)
        with casckpt.init(path) as store:
            for number in (1, 2):
                store.commit(
                    {**state, words[0]: {words[1]: number}, "same": words[2]},
                    step=number, metrics={words[3]: float(number)}, message=words[4], author=words[5],
                    config={words[6]: words[7]}, best=f"{words[3]}:min" if number == 1 else None,
                )  # fmt: skip
            remote(store, Path(folder), words)
        for command in LOOKS:
            command = [word.replace("FOLDER", folder) for word in command]
            for more in ([], ["--ascii"], ["--tsv", "id"]):
                done = run(*command, *more, "-C", path, environ={"COLUMNS": "60"})
                assert done.code in (0, 2, 3, 6), (command, done.err)
                assert not harmful(done.out + done.err), command
            run(*command, "--json", "-C", path)  # its form is checked, and it is ASCII
        with contextlib.suppress(UnicodeEncodeError):
            done = run("show", words[0].lstrip("-") or "x", "-C", path)
            assert not harmful(done.out + done.err)


def remote(store: casckpt.Store, folder: Path, words: list[str]) -> None:
    """Make the store one with a remote on which somebody else has written these texts, and a bundle beside it."""
    (folder / "nas").mkdir()
    store.add_remote("nas", str(folder / "nas"))
    store.push("nas")
    store.bundle_create(folder / "x.bundle")
    data = (folder / "nas" / root_key(1)).read_bytes()
    root = RemoteRoot.decode(data)
    refs = {name: ref._replace(by=words[0]) for name, ref in root.refs.items()}
    lost = f"conflicts/runs/main/last/{'0' * 12}"
    push = Push(bytes(16), words[1], words[2], words[3], root.push.time_ns, words[4])
    refs |= {lost: RemoteRef(next(iter(refs.values())).commit, 1, words[5])}
    theirs = replace(root, seq=2, prev=checksum(data), push=push, refs=dict(sorted(refs.items())))
    theirs = replace(theirs, locks={"gpt": Lock(words[6], bytes(16), 60)})
    (folder / "nas" / root_key(2)).write_bytes(theirs.encode())


def test_the_commands_above_are_those_that_look() -> None:
    changing = {"init", "commit", "checkout", "import", "export", "cat", "completion", "run", "clone"}
    assert {words[0] for words in LOOKS} == set(COMMANDS) - changing


@pytest.mark.parametrize("form", ["--json", "--ndjson"])
def test_what_is_for_programs_is_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    scenes.hostile(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("log", form).out.isascii()
