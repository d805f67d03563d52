"""A diff of values reads what two commits do not share, and says how much: counted where chunks and files are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.format.ids import Kind
from casckpt.odb.database import Database
from casckpt.storage.posix import PosixReadFile

MIB = 1 << 20
NBYTES = 30 * MIB
MOST = 0.11
"""Of the bytes of both commits, of which a tenth differ; in steps of 1 MiB, since chunks are as large."""
TREES = 0.002
"""Of the bytes of both: what trees, pages and indexes of packs may take."""

State = dict[str, Any]


def noise(nbytes: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(0, 0.02, nbytes // 4).astype(np.float32)


def one_large() -> tuple[State, State]:
    """One tensor of which the first tenth changed."""
    before = noise(NBYTES, 0)
    after = before.copy()
    after[: len(after) // 10] = noise(NBYTES // 10, 1)
    return {"w": before}, {"w": after}


def every_tenth() -> tuple[State, State]:
    """Forty tensors of which every tenth changed."""
    before = {f"w{number}": noise(NBYTES // 40, number) for number in range(40)}
    return before, before | {f"w{number}": noise(NBYTES // 40, 100 + number) for number in range(0, 40, 10)}


def many_small() -> tuple[State, State]:
    """Tensors of 16 KiB, of which one layer's, a tenth, changed."""
    names = [f"layer{number // 192}.w{number % 192:03}" for number in range(NBYTES >> 14)]
    before = {name: noise(1 << 14, number) for number, name in enumerate(names)}
    return before, before | {name: noise(1 << 14, 5000 + number) for number, name in enumerate(names[384:576])}


STATES: dict[str, Callable[[], tuple[State, State]]] = {
    "one large tensor": one_large,
    "every tenth tensor": every_tenth,
    "one layer of small tensors": many_small,
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Plain bytes of the chunks read, and bytes read from files."""
    counts: Counter[str] = Counter()
    read, read_into = Database.read, PosixReadFile.read_into

    def counting(self: Database, identity: Any, kind: Kind, *rest: Any) -> Any:
        plain = read(self, identity, kind, *rest)
        counts["chunks"] += len(plain) if kind is Kind.CHUNK else 0
        return plain

    def counting_files(self: PosixReadFile, target: memoryview, offset: int) -> int:
        found = read_into(self, target, offset)
        counts["files"] += found
        return found

    monkeypatch.setattr(Database, "read", counting)
    monkeypatch.setattr(PosixReadFile, "read_into", counting_files)
    return counts


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", STATES)
def test_a_diff_reads_what_differs_and_reports_what_it_reads(
    tmp_path: Path, counted: Counter[str], name: str, threads: int
) -> None:
    before, after = STATES[name]()
    with casckpt.init(tmp_path / "store") as store:
        store.commit(before, run="before", compress="off")
        store.commit(after, run="after", compress="off")
    with casckpt.open(tmp_path / "store", threads=threads) as store:
        counted.clear()
        values = store.diff("before", "after", values=True).values
    assert values is not None
    assert values.total_bytes == 2 * NBYTES
    assert values.read_bytes == counted["chunks"]
    assert values.read_bytes >= values.total_bytes // 10
    assert values.read_bytes <= counted["files"] <= MOST * values.total_bytes
    assert counted["files"] <= values.read_bytes + TREES * values.total_bytes
