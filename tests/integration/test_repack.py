"""repack, on whole stores: every commit comes back, whatever fails, and what was packed once is left alone."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import BusyError, CasckptError, DamagedLeaf, NotReadBack
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.odb import journal, locks, rewriting, session
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.ops.collect import Collector
from casckpt.ops.load import Loader
from casckpt.ops.repack import SPARE_BYTES, repack
from casckpt.storage.base import Space, Storage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage, Killed, at, never
from tests.crash.promises import make
from tests.support.histories import State, same, training

COUNT = 9
Snapshot = dict[str, bytes | None]
States = dict[str, State]


@pytest.fixture(autouse=True)
def packs_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """States of a few KiB go into packs, as large ones do."""
    monkeypatch.setattr(session, "FRAME_OBJECT_BYTES", 0)


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    make(storage)
    return storage


def opened(storage: Storage, threads: int = 1) -> Store:
    return Store(Repository(storage, threads=threads))


def committed(store: Store, states: Iterator[State], run: str = "gpt", **words: Any) -> States:
    """The states by the ids of their commits."""
    return {store.commit(state, run=run, step=10 * number, **words).id: state for number, state in enumerate(states)}


def check(store: Store, states: States) -> None:
    """Every commit comes back, also where the index was built from nothing, and fsck finds no damage."""
    for one in (store, opened(store._repository.storage)):
        for identity, state in states.items():
            assert same(one.checkout(identity), state)
    findings = store.fsck("full").findings
    assert [finding for finding in findings if finding.severity == "damage"] == []


def collect(store: Store) -> None:
    """What gc does, without a grace."""
    collector = Collector(store._repository, lambda run: 0)
    collector.collect(collector.survey(is_over=lambda one: True))


def packs_of(storage: Storage) -> set[str]:
    return set(storage.list("packs"))


# --- what it does -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("thorough", [False, True])
def test_commits_come_back_and_take_less_room(storage: MemoryStorage, threads: int, thorough: bool) -> None:
    store = opened(storage, threads)
    states = committed(store, training(COUNT))
    report = store.repack(max=thorough)
    assert report.after < 0.8 * report.before
    assert report.deltas >= COUNT - 2
    assert report.removed >= COUNT - 1
    assert [window.commits for window in report.windows] == [COUNT if thorough else COUNT - 1]
    check(store, states)


@pytest.mark.parametrize("thorough", [False, True])
def test_a_second_repack_does_nothing(storage: MemoryStorage, thorough: bool) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    store.repack(max=thorough)
    before = storage.snapshot()
    report = store.repack(max=thorough)
    assert (report.windows, report.written, report.removed, report.commits) == ((), 0, 0, 0)
    assert {name: before[name] for name in before if name.startswith(("packs/", "journal/"))} == {
        name: content for name, content in storage.snapshot().items() if name.startswith(("packs/", "journal/"))
    }
    check(store, states)


def test_commits_that_came_since_are_packed_with_each_other(storage: MemoryStorage) -> None:
    store = opened(storage)
    line = training(COUNT + 6)
    states = committed(store, (next(line) for _ in range(COUNT)))
    store.repack()
    states |= committed(store, line)
    report = store.repack()
    # The last one before was left plain then, and the last one is now.
    assert [window.commits for window in report.windows] == [6]
    check(store, states)


def test_an_archive_packs_again_what_was_packed(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    usual = store.repack()
    report = store.repack(max=True)
    assert report.windows
    assert report.after < usual.after
    check(store, states)


def test_what_names_and_pins_hold_stays_where_it_is(storage: MemoryStorage) -> None:
    store = opened(storage)
    line = training(COUNT)
    states: States = {}
    for number, state in enumerate(line):
        words = {"kind": "recovery"} if number == 5 else {}
        info = store.commit(state, run="gpt", step=number, metrics={"loss": abs(number - 3)}, best="loss:min", **words)
        states[info.id] = state
    ids = list(states)
    store.tag("v1", ids[1])
    store.pin(ids[7])
    before = packs_of(storage)
    store.repack()
    kept = packs_of(storage) & before
    # best, recovery, last, the tagged one and the pinned one.
    assert len(kept) == 5
    for name in kept:
        records = store._repository.database.packs.contents(bytes.fromhex(name.removesuffix(".pack"))).records
        assert not any(record.base_1 for record in records)
    check(store, states)


def test_chunks_that_the_newest_commit_has_too_stay_plain(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    store.repack()
    database = store._repository.database
    newest = CommitId(ObjectId(bytes.fromhex(list(states)[-1])))
    commit = database.commit(newest)
    assert commit is not None
    loader = Loader(database, newest, commit)
    for loaded in loader.components(loader.tree()):
        for blob in range(len(loaded.structure.sizes)):
            for span in loader.spans(loaded, blob):
                row = database.row(span.chunk)
                assert row is not None
                assert row.codec < 4


def test_runs_are_packed_apart(storage: MemoryStorage) -> None:
    store = opened(storage)
    lines = [training(COUNT, seed=1), training(COUNT, seed=2)]
    states: States = {}
    for number in range(COUNT):
        for run, line in zip("ab", lines, strict=True):
            state = next(line)
            states[store.commit(state, run=run, step=number).id] = state
    report = store.repack(run="a")
    assert [window.run for window in report.windows] == ["a"]
    report = store.repack()
    assert [window.run for window in report.windows] == ["b"]
    check(store, states)


def test_a_lone_commit_waits_for_others(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(2))
    report = store.repack()
    assert (report.windows, report.written, dict(report.left)) == ((), 0, {"few": 1})
    check(store, states)


def test_who_repacks_unasked_may_wait_for_more_commits(storage: MemoryStorage) -> None:
    store = opened(storage)
    line = training(6)
    states = committed(store, (next(line) for _ in range(5)))
    assert dict(repack(store._repository, fewest=5).left) == {"few": 4}
    states |= committed(store, line)
    assert repack(store._repository, fewest=5).windows[0].commits == 5
    check(store, states)


def test_a_dropped_commit_is_there_as_long_as_it_can_be_brought_back(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    dropped = list(states)[3]
    store.drop(dropped)
    store.repack()
    store.undo()
    check(store, states)


def test_a_thinned_commit_keeps_the_rest(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    thinned = list(states)[2]
    store.drop(thinned, parts="data")
    assert store.repack().windows[0].commits == COUNT - 1
    assert same(store.checkout(thinned, select="model/**")["model"], states[thinned]["model"])
    store.undo()
    check(store, states)


def test_commits_of_sealed_journal_files_are_the_same_after_it(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FRAME_OBJECT_BYTES", 64 << 10)
    monkeypatch.setattr(journal, "SEAL_FRAMES", 6)
    store = opened(storage)
    states = committed(store, training(22, size=400))
    before = [info.to_dict() for info in store.log()]
    report = store.repack()
    assert report.deltas > 0
    for one in (store, opened(storage)):
        assert [info.to_dict() for info in one.log()] == before
    check(store, states)


def test_leaves_that_grow_or_come_leave_their_neighbours_as_they_are(storage: MemoryStorage) -> None:
    store, states = opened(storage), {}
    for number, state in enumerate(training(COUNT, size=80_000)):
        state["model"]["losses"] = list(range(100 * number))
        state["model"]["curve"] = np.arange(500.0 * number)
        states[store.commit(state, run="gpt", step=number).id] = state
    report = store.repack()
    assert report.after < 0.8 * report.before
    assert report.deltas >= COUNT - 2
    check(store, states)


def test_files_are_packed_too(storage: MemoryStorage, tmp_path: Path) -> None:
    store = opened(storage)
    file, found = tmp_path / "weights.npz", {}
    for number, state in enumerate(training(6, size=90_000)):
        np.savez(file, weight=state["model"]["weight"].numpy(), log=state["data"]["log"])
        found[store.commit_path(str(file), run="files", step=number).id] = file.read_bytes()
    assert store.repack().deltas > 0
    for identity, content in found.items():
        store.checkout_path(identity, tmp_path / identity)
        assert (tmp_path / identity).read_bytes() == content


def test_a_leaf_whose_chunks_lie_in_pages_is_packed(storage: MemoryStorage) -> None:
    store = opened(storage)
    noise = np.random.default_rng(3)
    leaf = np.zeros(66 << 18, np.float32)
    states = {}
    for number in range(4):
        for chunk in (3, 65):
            leaf[chunk << 18 : chunk + 1 << 18] += noise.standard_normal(1 << 18, np.float32) * np.float32(
                1e-3 if number else 1
            )
        states[store.commit({"leaf": leaf}, run="gpt", step=number).id] = leaf.copy()
    report = store.repack(max=True)
    assert report.deltas >= 6
    for identity, wanted in states.items():
        assert np.array_equal(store.checkout(identity)["leaf"], wanted)


def test_a_dry_run_says_what_would_be_packed_and_changes_nothing(storage: MemoryStorage) -> None:
    store = opened(storage)
    committed(store, training(COUNT))
    before = storage.snapshot()
    plan = store.repack(dry_run=True)
    assert storage.snapshot() == before
    done = store.repack()
    assert plan.windows == done.windows
    assert plan.dry_run
    assert plan.windows[0].first_step == 0
    assert plan.windows[0].last_step == 10 * (COUNT - 2)


# --- what it leaves ---------------------------------------------------------------------------------------------------


def test_with_a_limit_every_call_goes_on_where_the_last_one_ended(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    before = packs_of(storage)
    calls = 1
    while "limit" in store.repack(limit_s=0).left:
        check(store, states)
        calls += 1
    assert calls > 2
    assert store.repack().commits == 0
    check(store, states)
    assert len(packs_of(storage) & before) == 1  # of the last commit


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_an_interrupt_keeps_what_was_finished(storage: MemoryStorage, part: float) -> None:
    store = opened(storage, threads=2)
    states = committed(store, training(COUNT))

    def interrupt(done: int, total: int) -> None:
        if done >= part * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.repack(progress=interrupt)
    assert storage.list("tmp") == []
    assert packs_of(storage) == {f"{pack.id.hex()}.pack" for pack in store._repository.database.pack_set()}
    check(store, states)
    store.repack()
    assert store.repack().commits == 0
    check(store, states)


def test_progress_is_told_from_the_first_to_the_last_byte(storage: MemoryStorage) -> None:
    store = opened(storage)
    committed(store, training(COUNT))
    told: list[tuple[int, int]] = []
    store.repack(progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1] > 0


class _Small(MemoryStorage):
    """A disk with so many bytes free."""

    room = 0

    def space(self) -> Space | None:
        return Space(self.room, 1 << 40)


def test_with_little_room_windows_are_smaller_and_with_none_they_are_left() -> None:
    storage = _Small()
    make(storage)
    store = opened(storage)
    states = committed(store, training(COUNT))
    assert dict(store.repack().left) == {"space": COUNT - 1}
    (whole,) = store.repack(dry_run=True).windows
    storage.room = SPARE_BYTES + whole.stored * 3 // 4
    assert [window.commits for window in store.repack().windows] == [4, 4]
    check(store, states)


def test_two_repacks_at_once_are_one_too_many(storage: MemoryStorage) -> None:
    store = opened(storage)
    committed(store, training(COUNT))
    with locks.repacking(storage), pytest.raises(BusyError):
        opened(storage).repack()
    with locks.repacking(storage):
        assert store.repack(dry_run=True).windows


# --- what fails -------------------------------------------------------------------------------------------------------


def faulty_calls(base: Snapshot) -> list[str]:
    storage = FaultyStorage(MemoryStorage(base))
    opened(storage).repack()
    return storage.calls


@pytest.mark.parametrize("action", ["kill", "kill-mid-write", "eio", "enospc", "eio-after"])
def test_a_fault_at_any_call_loses_nothing_and_the_next_repack_finishes(storage: MemoryStorage, action: Action) -> None:
    states = committed(opened(storage), training(5, size=400))
    base = storage.snapshot()
    calls, old = faulty_calls(base), packs_of(storage)
    assert len(calls) > 10
    for number in range(1, len(calls) + 1):
        inner = MemoryStorage(base)
        faulty = FaultyStorage(inner, at(number, action))
        store = opened(faulty)
        with contextlib.suppress(CasckptError, Killed):
            store.repack()
        faulty.plan = never
        if not faulty.dead:  # the same process goes on
            check(store, states)
        again = opened(inner)
        check(again, states)
        again.repack()
        assert again.repack().commits == 0, f"{action} at call {number}, {calls[number - 1]}"
        collect(again)
        assert len(packs_of(inner) & old) == 1, f"{action} at call {number}, {calls[number - 1]}"
        check(again, states)
        assert inner.list("tmp") == []


def test_a_pack_that_does_not_read_back_is_removed(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    states = committed(opened(storage), training(COUNT))
    before = packs_of(storage)
    decode = rewriting.decode

    def wrong(record: Any, stored: Any, bases: Any) -> Any:
        plain = decode(record, stored, bases)
        return plain if not record.base_1 else bytes([plain[0] ^ 1]) + bytes(plain[1:])

    store = opened(storage)
    monkeypatch.setattr(rewriting, "decode", wrong)
    with pytest.raises(NotReadBack):
        store.repack()
    monkeypatch.undo()
    database = opened(storage)._repository.database
    assert packs_of(storage) == {f"{pack.id.hex()}.pack" for pack in database.pack_set()} >= before
    assert not any(record.base_1 for pack in database.pack_set() for record in database.records(pack))
    check(store, states)


def test_a_damaged_keyframe_hits_the_commits_that_need_it_and_no_other(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    store.repack()
    database = store._repository.database
    pack = max(database.pack_set(), key=lambda pack: sum(bool(one.base_1) for one in database.records(pack)))
    records = database.records(pack)
    needs = [{number} for number in range(len(records))]
    for number, record in enumerate(records):
        for back in (record.base_1, record.base_2):
            if back:
                needs[number] |= needs[number - back]
    keyframe = next(n for n, record in enumerate(records) if any(n in needed - {m} for m, needed in enumerate(needs)))
    lost = {records[number].id for number, needed in enumerate(needs) if keyframe in needed}
    assert len(lost) == COUNT - 1
    hit = {identity for identity in states if lost & set(_chunks(store, identity))}
    content = bytearray(storage.snapshot()[pack_name(pack.id)] or b"")
    content[records[keyframe].offset] ^= 1
    store = opened(MemoryStorage({**storage.snapshot(), pack_name(pack.id): bytes(content)}))
    for identity, state in states.items():
        if identity in hit:
            with pytest.raises(DamagedLeaf) as caught:
                store.checkout(identity)
            assert caught.value.facts["commit"] == identity[:12]
        else:
            assert same(store.checkout(identity), state)
    damage = [finding for finding in store.fsck("full").findings if finding.severity == "damage" and finding.leaf]
    assert {commit for finding in damage for commit in finding.commits} == hit
    store.fsck("full", repair=True)
    report = store.repack()  # what is left of the pack is packed again
    assert report.windows
    for identity in states.keys() - hit:
        assert same(store.checkout(identity), states[identity])
    for identity in hit:
        # All but the place that lost its keyframe is there.
        assert same(store.checkout(identity, select="data/**")["data"], states[identity]["data"])


def _chunks(store: Store, identity: str) -> Iterator[ObjectId]:
    database = store._repository.database
    commit_id = CommitId(ObjectId(bytes.fromhex(identity)))
    commit = database.commit(commit_id)
    assert commit is not None
    loader = Loader(database, commit_id, commit)
    for loaded in loader.components(loader.tree()):
        for blob in range(len(loaded.structure.sizes)):
            yield from (span.chunk for span in loader.spans(loaded, blob))


def test_a_damaged_source_is_named_and_nothing_is_replaced(storage: MemoryStorage) -> None:
    store = opened(storage)
    states = committed(store, training(COUNT))
    database = store._repository.database
    row = max(
        (database.row(chunk) for chunk in _chunks(store, list(states)[2])), key=lambda row: row.stored if row else 0
    )
    assert row is not None
    name = database.file_of(row)
    assert name is not None
    content = bytearray(storage.snapshot()[name] or b"")
    content[row.offset] ^= 1
    damaged = MemoryStorage({**storage.snapshot(), name: bytes(content)})
    before = packs_of(damaged)
    with pytest.raises(casckpt.errors.IntegrityError):
        opened(damaged).repack()
    assert packs_of(damaged) >= before
    store = opened(damaged)
    for number, (identity, state) in enumerate(states.items()):
        if number != 2:
            assert same(store.checkout(identity), state)


# --- with others ------------------------------------------------------------------------------------------------------


def test_stores_that_repacked_differently_take_each_others_packs(tmp_path: Path) -> None:
    states = {}
    with casckpt.init(tmp_path / "one") as store:
        states = committed(store, training(12))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with casckpt.open(tmp_path / "one") as store:
        store.repack()
    with casckpt.open(tmp_path / "two") as store:
        store.repack(max=True)
    for pack in (tmp_path / "two" / "packs").iterdir():
        shutil.copy(pack, tmp_path / "one" / "packs")
    with casckpt.open(tmp_path / "one") as store:
        check(store, states)
        store.repack(max=True)
        check(store, states)
    shutil.rmtree(tmp_path / "one" / "index")
    with casckpt.open(tmp_path / "one") as store:
        check(store, states)


def test_commits_made_while_a_window_is_packed_are_there(storage: MemoryStorage) -> None:
    store, other = opened(storage), opened(storage)
    line = training(COUNT + 3)
    states = committed(store, (next(line) for _ in range(COUNT)))

    def commit(done: int, total: int) -> None:
        state = next(line, None)
        if state is not None:
            states[other.commit(state, run="gpt").id] = state

    store.repack(progress=commit)
    check(store, states)
    check(other, states)


def test_all_that_is_needed_is_in_one_place_when_it_is_done(storage: MemoryStorage) -> None:
    store = opened(storage)
    committed(store, training(COUNT))
    store.repack()
    database = store._repository.database
    held = [record.id for pack in database.pack_set() for record in database.records(pack) if record.kind == Kind.CHUNK]
    assert len(held) == len(set(held))
