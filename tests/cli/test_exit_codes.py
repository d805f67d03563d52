"""Every exit code there is, from a real process in a real predicament; and the pages name just these."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from casckpt.storage.local import LocalStorage
from tests.cli import scenes

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "casckpt.cli"]


def code_of(folder: Path, *words: str, before: str = "", **settings: object) -> int:
    """The exit code of `casckpt WORDS` in a folder.

    Args:
        before: code that the process runs first.
    """
    program = ["-c", f"import sys\n{before}\nfrom casckpt.cli import main\nsys.exit(main(sys.argv[1:]))"]
    return subprocess.run(
        [sys.executable, *(program if before else COMMAND[1:]), *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        check=False, **settings,  # type: ignore[call-overload]
    ).returncode  # fmt: skip


def busy(folder: Path) -> int:
    """Somebody holds the journal lock for longer than anyone waits."""
    with LocalStorage(folder / scenes.STORE).lock("journal", exclusive=True, wait_s=1):
        return code_of(folder, "tag", "v2", before="import casckpt.odb.locks as l; l.JOURNAL_WAIT_S = 0.2")


def full(folder: Path) -> int:
    """No file can grow beyond 1 MiB, and the disk says so where it is written."""
    (folder / "large.bin").write_bytes(os.urandom(8 << 20))
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({1 << 20}, {resource.RLIM_INFINITY}))"
    return code_of(folder, "commit", "large.bin", before=f"import resource; {limit}")


def bug(folder: Path) -> int:
    before = (
        "import casckpt.store\ndef broken(*_): raise RuntimeError('crossed wires')\ncasckpt.store.Store.runs = broken"
    )
    return code_of(folder, "runs", before=before)


def interrupted(folder: Path) -> int:
    before = f"""
import casckpt.store, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
def slow(*_, **__): os.kill(os.getpid(), {int(signal.SIGINT)})
casckpt.store.Store.runs = slow"""
    return code_of(folder, "runs", before=before)


def reader_gone(folder: Path) -> int:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        return subprocess.run(
            [*COMMAND, "log", "--all"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=theirs,
            check=False,
        ).returncode
    finally:
        os.close(theirs)


def unanswered(folder: Path) -> int:
    """The remote takes the new root, and nobody ever hears of it."""
    before = """
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Outcome
from casckpt.errors import RemoteUnavailable
import casckpt.remote.roots as roots
roots.TRIES = 1
create = FolderObjects.create
def lost(self, key, data):
    if not key.startswith("root/"):
        return create(self, key, data)
    def gone(*_, **__): raise RemoteUnavailable(remote=self.url, operation="answer", problem="it is gone")
    FolderObjects.get = FolderObjects.list = gone
    return Outcome.UNKNOWN
FolderObjects.create = lost
import casckpt.storage.retrying as retrying
retrying.time.sleep = lambda _: None"""
    return code_of(folder, "push", "nas", "wide", before=before)


def words(*words: str) -> Callable[[Path], int]:
    return lambda folder: code_of(folder, *words)


TABLE: list[tuple[int, str, Callable[[Path], int]]] = [
    (0, "history", words("log")),
    (0, "history", words("diff", "gpt", "gpt", "--exit-code")),
    (1, "history", words("diff", "gpt~1", "gpt", "--exit-code")),
    (1, "history", words("status", "--exit-code")),
    (2, "history", words("log", "--nothing")),
    (2, "history", words("show", "gpt~~~x")),
    (3, "history", words("show", "nothing")),
    (3, "empty", words("status")),
    (3, "history", words("help", "nothing")),
    (4, "damaged", words("fsck", "--full")),
    (4, "lost", words("checkout", "gpt@step=1", "x", "--replace")),
    (5, "history", words("tag", "v1", "wide")),
    (5, "history", words("init")),
    (6, "history", busy),
    (9, "history", full),
    (11, "newer", words("log")),
    (5, "parted", words("push", "nas", "gpt")),
    (13, "shared", unanswered),
    (12, "trainings", words("compare", "base", "wide", "--fail-if", "val/loss > +1%")),
    (70, "history", bug),
    (130, "history", interrupted),
    (141, "history", reader_gone),
]


@pytest.mark.parametrize(("code", "scene", "make"), TABLE)
def test_what_happened_is_the_exit_code(tmp_path: Path, code: int, scene: str, make: Callable[[Path], int]) -> None:
    scenes.SCENES[scene](tmp_path)
    assert make(tmp_path) == code


@pytest.mark.parametrize("page", ["docs/reference/cli.md", "casckpt/cli/pages/exit-codes.txt"])
def test_the_pages_name_the_codes_of_the_table_and_no_others(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    part = re.split(r"^(?:## )?Exit codes\n", text, flags=re.MULTILINE)[1]
    rows = re.findall(r"^(?:\| ([\d, ]+) \||  (\d+)  )", part, flags=re.MULTILINE)
    named = {int(number) for row in rows for number in re.findall(r"\d+", "".join(row))}
    assert named == {code for code, _, _ in TABLE}
