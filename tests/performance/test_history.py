"""Looking at a long history reads what it shows, and decodes each commit once. Counted, whatever the machine.

Ratios of CPU seconds hold what counts cannot: that a commit is cheap to read, to print and to draw.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.cli import main
from casckpt.format.commit import Commit
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.odb.database import Database
from casckpt.odb.index import Index
from tests.performance.guard import Guard, breach

RUNS, EACH = 20, 200
COMMITS = RUNS * EACH
A_FRAME = 500


def line(run: int, base: Commit) -> Iterator[tuple[CommitId, bytes]]:
    """The commits of a run, the oldest first; a second apart, and between those of other runs."""
    parents: tuple[CommitId, ...] = ()
    for step in range(EACH):
        metrics = {"val/loss": 2 / (step + 1), "acc": 0.5}
        time_ns = base.time_ns + (step * RUNS + run) * 10**9
        data = replace(base, run=f"run-{run}", step=step, time_ns=time_ns, parents=parents, metrics=metrics).encode()
        identity = CommitId(object_id(Kind.COMMIT, data))
        parents = (identity,)
        yield identity, data


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 4 000 commits in 20 runs that all have the same state."""
    path = tmp_path_factory.mktemp("history") / "store"
    with casckpt.init(path) as store:
        first = store.commit({"x": 1})
        repository = store._repository
        base = repository.database.commit(CommitId(ObjectId(bytes.fromhex(first.id))))
        assert base is not None
        for run in range(RUNS):
            commits = list(line(run, base))
            for start in range(0, EACH, A_FRAME):
                part = commits[start : start + A_FRAME]
                move = RefMove(f"runs/run-{run}/last", None, part[-1][0])
                objects: list[tuple[ObjectId, Kind, bytes]] = [(one, Kind.COMMIT, data) for one, data in part]
                with repository.session() as session:
                    entry = Entry("pull", base.time_ns, refs=(move,), by="test")
                    session.publish(lambda entry=entry, objects=objects: (entry, objects))  # type: ignore[misc]
    return path


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the index was read and a commit decoded."""
    counts: Counter[str] = Counter()

    def count(owner: type, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def counting(self: Any, *arguments: Any, **words: Any) -> Any:
            counts[kind] += 1
            return original(self, *arguments, **words)

        monkeypatch.setattr(owner, name, counting)

    count(Index, "get", "gets")
    count(Index, "scan", "scans")
    count(Database, "_commit", "decoded")
    return counts


def run(path: Path, *words: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(["-C", str(path), *words]) == 0
    return shown.getvalue()


@pytest.mark.parametrize(
    ("words", "decoded"),
    [
        (["log", "-n", "20"], 100),
        (["log", "--graph", "-n", "50"], 150),
        (["log", "--graph", "--all", "-n", "50"], 200),
        (["runs"], RUNS * 40),
        (["status"], RUNS * 40),
        (["show"], 60),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_shows_little_reads_little(path: Path, counted: Counter[str], words: list[str], decoded: int) -> None:
    assert run(path, *words)
    assert counted["decoded"] <= decoded
    assert counted["gets"] + counted["scans"] <= 8 * decoded


@pytest.mark.parametrize("graph", [[], ["--graph"]], ids=["list", "graph"])
def test_a_long_history_decodes_each_commit_once(path: Path, counted: Counter[str], graph: list[str]) -> None:
    assert len(run(path, "log", "--all", "--oneline", *graph).splitlines()) >= COMMITS
    assert counted["decoded"] <= COMMITS + 3 * RUNS
    assert counted["gets"] + counted["scans"] <= (6 if graph else 4) * COMMITS + 10 * RUNS


def test_a_filter_describes_only_what_it_wants(path: Path, counted: Counter[str]) -> None:
    assert len(run(path, "log", "--all", "-w", "step = 7").splitlines()) == RUNS
    assert counted["decoded"] <= COMMITS + 3 * RUNS
    assert counted["gets"] <= COMMITS + 10 * RUNS


def guards(path: Path) -> list[Guard]:
    store = casckpt.open(path)
    database = store._repository.database
    encoded = [commit.encode() for _, commit in database.commits()]

    def checked() -> Callable[[], Any]:
        return lambda: [Commit.decode(data) for data in encoded]

    return [
        Guard("reading a history", lambda: lambda: list(store.log()), checked, most=1.6),
        Guard("printing a history", lambda: lambda: run(path, "log", "--all"), checked, most=2.4),
        Guard("drawing a history", lambda: lambda: run(path, "log", "--all", "--graph"), checked, most=5.0),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3), ids=["log", "print", "draw"])
def test_a_commit_costs_little_beside_one_check_of_its_encoding(path: Path, number: int) -> None:
    assert breach(guards(path)[number]) == ""
