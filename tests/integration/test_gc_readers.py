"""Whoever reads while packs are removed and replaced reads on: stores that stay open, and calls in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.odb.pack_reader import PackReader
from tests.crash.folders import ram_folder
from tests.crash.promises import same
from tests.support.build import noise
from tests.support.packs import merge_packs

LIVE = (3, 4)
STEPS = range(5)


def state_of(step: int) -> dict[str, Any]:
    """Some of it large enough to be mapped, some of it shared between steps."""
    return {
        "model": {
            "w": np.frombuffer(noise(f"w {step}", 1_300_000), "<f4").copy(),
            "embedding": np.frombuffer(noise(f"embedding {step // 2}", 90_000), "<f2").copy(),
        },
        "optimizer": {"m": np.frombuffer(noise(f"m {step}", 200_000), "<i4").copy(), "lr": 0.1 * step},
        "step": step,
    }


def at(step: int) -> str:
    return f"main@step={step}"


@pytest.fixture
def path() -> Iterator[Path]:
    with ram_folder() as folder, casckpt.init(folder / "store") as store:
        for step in STEPS:
            store.commit(state_of(step), step=step)
        yield folder / "store"


def replace_packs(path: Path) -> None:
    """Another process frees what is dropped, writes all the rest anew and removes every file that was there."""
    with casckpt.open(path) as store:
        before = set((path / "packs").iterdir())
        store.drop(*(at(step) for step in STEPS if step not in LIVE))
        assert store.gc(now=True).packs
        merge_packs(store._repository)
        store.gc(now=True)
        assert not before & set((path / "packs").iterdir())


def plain(store: casckpt.Store) -> None:
    for step in LIVE:
        assert same(store.checkout(at(step)), state_of(step))


def into(store: casckpt.Store) -> None:
    live = state_of(0)
    assert same(store.checkout(at(4), into=live), state_of(4))


def select(store: casckpt.Store) -> None:
    assert same(store.checkout(at(3), select="model/*")["model"], state_of(3)["model"])


def lazy(store: casckpt.Store) -> None:
    leaf = store.tree(at(4))["model/w"]
    assert leaf[1000:300_000].tobytes() == state_of(4)["model"]["w"][1000:300_000].tobytes()


def mapped(store: casckpt.Store) -> None:
    assert same(store.checkout(at(3), mmap=True, verify="background"), state_of(3))
    store.wait()


def diff(store: casckpt.Store) -> None:
    found = store.diff(at(3), at(4))
    assert {leaf.path for leaf in found.leaves} >= {"model/w", "model/embedding", "optimizer/m"}


def fsck(store: casckpt.Store) -> None:
    report = store.fsck("full")
    assert report.ok, [finding.what for finding in report.findings]


READS: tuple[Callable[[casckpt.Store], None], ...] = (plain, into, select, lazy, mapped, diff, fsck)


def test_a_store_that_stays_open_reads_on_after_all_packs_were_replaced(path: Path) -> None:
    with casckpt.open(path) as store:
        for read in READS:
            read(store)
        leaf = store.tree(at(4))["model/w"]
        handed_out = store.checkout(at(4), mmap=True)
        replace_packs(path)
        for read in READS:
            read(store)
        assert leaf[1000:300_000].tobytes() == state_of(4)["model"]["w"][1000:300_000].tobytes()
        assert same(handed_out, state_of(4)), "what was mapped before went with its file"


@pytest.mark.parametrize("read", [plain, into, select, lazy, mapped, diff])
def test_a_call_reads_on_if_its_pack_goes_between_the_look_up_and_the_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[casckpt.Store], None]
) -> None:
    inner = PackReader.open
    with casckpt.open(path) as store:
        reader, left = store._repository.database.packs, [True]

        def opened(self: PackReader, name: str) -> Any:
            if self is reader and left:
                left.pop()
                replace_packs(path)
            return inner(self, name)

        monkeypatch.setattr(PackReader, "open", opened)
        read(store)
        assert not left
