"""Commits that are unsound: what they become, what they do not become, and who agrees on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import RevisionNotFound
from casckpt.format.ids import Kind, object_id
from casckpt.odb import journal
from casckpt.store import StoreSettings

SOUND, SICK = np.ones(100, "<f4"), np.full(100, np.nan, "<f4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    casckpt.init(tmp_path / "s").close()
    return tmp_path / "s"


@pytest.fixture
def store(path: Path) -> Iterator[casckpt.Store]:
    with casckpt.open(path) as opened:
        yield opened


def commit(store: casckpt.Store, loss: float, weight: Any = SOUND, **words: Any) -> casckpt.CommitInfo:
    return store.commit({"w": weight, "loss": loss}, metrics={"loss": loss}, best="loss:min", **words)


def heads(store: casckpt.Store, run: str = "main") -> tuple[float, ...]:
    """The losses of last, best by the ref, best by the metric."""
    return tuple(store.show(f"{run}{head}").metrics["loss"] for head in ("", "/best", "/best(loss)"))


def lose(store: casckpt.Store, weight: Any) -> None:
    """Flip a bit in the only copy of a large array."""
    database = store._repository.database
    row = database.row(object_id(Kind.CHUNK, weight.tobytes()[: 1 << 20]))
    name = None if row is None else database.file_of(row)
    assert store.path is not None and row is not None and name is not None and name.startswith("packs/")
    file = store.path / name
    data = bytearray(file.read_bytes())
    data[row.offset + row.stored // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)
    database.packs.forget(name)


def damage(store: casckpt.Store, weight: Any) -> casckpt.FsckReport:
    """Damage a large array, and let a repair note it."""
    lose(store, weight)
    return store.fsck("full", repair=True)


def large(seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(300_000).astype("<f4")


def test_a_state_with_nan_becomes_the_last_and_nothing_else(store: casckpt.Store) -> None:
    sound = commit(store, 0.5, kind="recovery")
    sick = commit(store, 0.1, SICK, kind="recovery")
    assert (sick.refs, sick.nonfinite, sick.nonfinite_paths) == (("last",), 1, ("w",))
    assert heads(store) == (0.1, 0.5, 0.5)
    assert store.show("main/recovery").id == sound.id
    better = commit(store, 0.4, kind="recovery")
    assert better.refs == ("best", "last", "recovery")


def test_without_the_gate_it_is_only_shown(path: Path) -> None:
    with casckpt.open(path, settings=StoreSettings(health_gate=False)) as store:
        commit(store, 0.5)
        sick = commit(store, 0.1, SICK, kind="recovery")
        assert (sick.refs, sick.nonfinite) == (("best", "last", "recovery"), 1)
        assert heads(store) == (0.1, 0.1, 0.1)
        assert not store.runs()[0].health_gate


def test_the_file_of_the_store_switches_the_gate(path: Path) -> None:
    (path / "config.toml").write_text("health_gate = false\n")
    with casckpt.open(path) as store:
        assert commit(store, 0.1, SICK).refs == ("best", "last")
        assert store.settings().health_gate is False


def test_when_the_gate_goes_on_best_moves_to_the_best_of_the_sound_ones(path: Path) -> None:
    with casckpt.open(path, settings=StoreSettings(health_gate=False)) as store:
        commit(store, 0.6)
        commit(store, 0.5)
        commit(store, 0.1, SICK)
    with casckpt.open(path) as store:
        assert heads(store) == (0.1, 0.1, 0.5)
        worse = commit(store, 0.7)
        assert worse.refs == ("last",)
        assert heads(store) == (0.7, 0.5, 0.5)


def test_the_first_commit_of_a_run_may_be_sick(store: casckpt.Store) -> None:
    commit(store, 0.1, SICK)
    with pytest.raises(RevisionNotFound):
        store.show("main/best")
    commit(store, 0.9)
    assert heads(store) == (0.9, 0.9, 0.9)


def test_a_new_rule_passes_over_them_too(store: casckpt.Store) -> None:
    store.commit({"w": SOUND}, metrics={"acc": 0.5, "loss": 1}, best="loss:min")
    store.commit({"w": SICK}, metrics={"acc": 0.9, "loss": 2})
    store.commit({"w": SICK}, metrics={"acc": 0.95, "loss": 2}, best="acc:max")
    assert store.show("best").metrics["acc"] == store.show("best(acc)").metrics["acc"] == 0.5
    store.fork_run("main", "forked")
    store.commit({"w": SICK}, run="forked", metrics={"acc": 1.0})
    assert store.commit({"w": SOUND}, run="forked", metrics={"acc": 0.1}).refs == ("best", "last")


def test_who_opened_the_store_before_agrees(path: Path) -> None:
    with casckpt.open(path) as one, casckpt.open(path) as two:
        commit(one, 0.5)
        sick = commit(two, 0.1, SICK)
        assert one.show(sick.id).nonfinite == 1
        assert heads(one) == heads(two) == (0.1, 0.5, 0.5)
        commit(one, 0.3)
        assert heads(two) == (0.3, 0.3, 0.3)


def test_marks_survive_a_rebuilt_index_and_a_sealed_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 3)
    with casckpt.open(path) as store:
        sick = commit(store, 0.1, SICK)
        for number in range(8):
            commit(store, 0.5 + number)
        files = sorted(file.name for file in (path / "journal").iterdir())
        assert len(files) > 2
        store._repository.rebuild_index()
        assert store.show(sick.id).nonfinite_paths == ("w",)
        assert heads(store) == (7.5, 0.5, 0.5)
    for name in files[:-1]:
        (path / "journal" / name).unlink()
    for file in (path / "index").iterdir():
        file.unlink()
    with casckpt.open(path) as store:
        assert store.show(sick.id).nonfinite_paths == ("w",)


def test_undo_of_the_commit_leaves_what_was_found(store: casckpt.Store) -> None:
    commit(store, 0.5)
    sick = commit(store, 0.1, SICK)
    store.undo(next(store.operations()).number)
    assert heads(store) == (0.5, 0.5, 0.5)
    assert store.show(sick.id).nonfinite == 1
    store.undo(next(store.operations()).number)
    assert heads(store) == (0.1, 0.5, 0.5)


def test_a_rehearsal_tells_of_nan_too(store: casckpt.Store, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.full(200_000, np.nan))
    info = store.commit_path(tmp_path / "w.npy", dry_run=True)
    assert (info.nonfinite_paths, info.refs) == (("w.npy",), ("last",))
    assert list(store.log()) == []


def test_a_run_counts_them_without_those_that_are_dropped(store: casckpt.Store) -> None:
    commit(store, 0.5)
    sick = [commit(store, 0.1, SICK) for _ in range(3)]
    commit(store, 0.6)
    commit(store, 0.6, run="other")
    assert [(run.name, run.nonfinite, run.damaged) for run in store.runs()] == [("other", 0, 0), ("main", 3, 0)]
    store.drop(sick[0].id)
    assert store.status().runs[1].nonfinite == 2


def test_damage_is_noted_by_a_repair_alone_and_best_leaves_it(store: casckpt.Store) -> None:
    best = large(1)
    commit(store, 0.5, large(0))
    hit = commit(store, 0.1, best)
    commit(store, 0.9, large(2))
    assert store.fsck("full").marked == ()
    report = damage(store, best)
    assert (report.marked, report.cleared) == ((hit.id,), ())
    assert (store.show(hit.id).damaged, store.show(hit.id).damaged_paths) == (1, ("w",))
    assert heads(store) == (0.9, 0.1, 0.5), "a repair moves no name"
    assert [one.id for one in store.log(where="damaged")] == [hit.id]
    again = store.fsck("full", repair=True)
    assert (again.marked, again.cleared) == ((), ())
    commit(store, 0.8, large(3))
    assert heads(store) == (0.8, 0.5, 0.5)
    kept = store.retain(casckpt.Retention(keep_last=1, keep_best=1), dry_run=True).plan.kept
    assert {store.show(one.id.hex()).metrics["loss"] for one in kept} == {0.8, 0.5}


def test_what_is_whole_again_is_found_by_a_full_repair_alone(store: casckpt.Store) -> None:
    weight = large(1)
    hit = commit(store, 0.1, weight)
    commit(store, 0.9, large(2))
    damage(store, weight)
    store.commit({"w": weight}, run="rescue")
    for quick in (store.fsck("quick", repair=True), store.fsck("full")):
        assert (quick.ok, quick.cleared) == (True, ())
        assert store.show(hit.id).damaged == 1
    assert store.fsck("full", repair=True).cleared == (hit.id,)
    assert store.show(hit.id).damaged == 0
    assert heads(store) == (0.9, 0.1, 0.1)


def test_a_quick_repair_does_not_replace_what_a_full_one_knows(store: casckpt.Store) -> None:
    one, two = large(1), large(2)
    store.commit({"a": one})
    info = store.commit({"a": one, "b": two})
    assert len(damage(store, one).marked) == 2
    lose(store, two)
    assert store.fsck("quick", repair=True).marked == ()
    assert store.show(info.id).damaged_paths == ("a",)
    assert store.fsck("full", repair=True).marked == ()
    assert store.show(info.id).damaged_paths == ("a", "b")
    store.commit({"again": one})
    store.fsck("quick", repair=True)
    assert store.show(info.id).damaged_paths == ("a", "b")
    store.fsck("full", repair=True)
    assert store.show(info.id).damaged_paths == ("b",)
