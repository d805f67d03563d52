from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import ReadOnlyStore, UsageError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "store") as made:
        yield made


def test_an_unknown_depth_is_refused(store: casckpt.Store) -> None:
    with pytest.raises(UsageError):
        store.fsck("deep")


def test_a_report_says_what_was_looked_at(store: casckpt.Store) -> None:
    store.commit({"w": np.random.default_rng(0).bytes(100_000)})
    store.commit({"n": 1})
    quick, full = store.fsck(), store.fsck("full")
    for report in (quick, full):
        assert (report.ok, report.packs, report.commits, report.findings) == (True, 1, 2, ())
        assert report.objects > 6
    assert (quick.depth, full.depth) == ("quick", "full")
    assert quick.nbytes == 0
    assert full.nbytes > 100_000
    assert full.to_dict()["ok"] is True


def test_quick_reads_no_payload(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({"w": np.random.default_rng(0).bytes(3_000_000)})
    packs = store._repository.database.packs
    read: list[int] = []
    read_record = packs.read_record

    def counting(name: str, record: object, target: object = None) -> object:
        read.append(record.length if record.kind == 0 else 0)  # type: ignore[attr-defined]
        return read_record(name, record, target)  # type: ignore[arg-type]

    monkeypatch.setattr(packs, "read_record", counting)
    assert store.fsck().ok
    assert sum(read) == 0
    assert store.fsck("full").ok
    assert sum(read) == 3_000_000


def test_looking_changes_nothing(store: casckpt.Store) -> None:
    store.commit({"w": np.random.default_rng(0).bytes(100_000)})
    (name,) = os.listdir(store.path / "packs")
    os.truncate(store.path / "packs" / name, 50_000)

    def files() -> dict[Path, bytes]:
        return {f: f.read_bytes() for folder in ("packs", "journal", "trash") for f in (store.path / folder).iterdir()}

    before = files()
    assert not store.fsck("full").ok
    assert files() == before


def test_a_read_only_store_is_looked_at_but_not_healed(store: casckpt.Store) -> None:
    store.commit({"w": np.random.default_rng(0).bytes(100_000)})
    (name,) = os.listdir(store.path / "packs")
    os.truncate(store.path / "packs" / name, 50_000)
    with casckpt.open(store.path, read_only=True) as reader:
        assert not reader.fsck().ok
        with pytest.raises(ReadOnlyStore):
            reader.fsck(repair=True)


def test_a_repair_can_be_made_again(store: casckpt.Store) -> None:
    state = {"w": np.random.default_rng(0).bytes(100_000), "v": np.random.default_rng(1).bytes(300_000)}
    store.commit(state)
    (name,) = os.listdir(store.path / "packs")
    os.truncate(store.path / "packs" / name, 50_000)
    first = store.fsck("full", repair=True)
    second = store.fsck("full", repair=True)
    assert not first.ok
    assert not second.ok
    store.commit(state)
    assert store.fsck("full", repair=True).ok
    assert store.checkout("@~1") == store.checkout("@") == state
