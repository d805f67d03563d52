"""rewrite: packs are written again, all that is needed stays whole, and the old ones go by the next collection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import NotReadBack, StoreFull
from casckpt.format import pack as p
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, PackId
from casckpt.format.pack_columns import prefixes
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.ops import rewrite as rewriting
from casckpt.ops.collect import Collector
from casckpt.ops.repair import _take_in
from casckpt.ops.rewrite import Rewritten, candidates, rewrite, tidy
from casckpt.plan.hints import commits_of
from casckpt.plan.rewriting import MERGE_FROM, Candidate
from casckpt.storage.base import read_exact
from tests.unit.odb.support import content, put_file
from tests.unit.odb.test_fetch import GOLDEN, adopt


def noise(seed: int, size: int) -> Any:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def many_small(store: casckpt.Store, count: int = MERGE_FROM, start: int = 0) -> None:
    """Commits with a pack of 160 kB each, every other one encoded."""
    for step in range(start, start + count):
        store.commit({"w": noise(step, 40_000)}, run="gpt", step=step, compress="always" if step % 2 else "off")


def mostly_dead(store: casckpt.Store) -> PackId:
    """A pack of 8 MiB of which a commit needs 1 MiB after the other was dropped."""
    layers = {f"layer {number}": noise(number, 1 << 18) for number in range(8)}
    store.commit({"m": layers}, run="gpt", step=0, compress="off")
    store.commit({"m": {"layer 3": layers["layer 3"], "new": noise(99, 1 << 18)}}, run="gpt", step=1, compress="off")
    store.drop("gpt~1")
    return max(packs(store), key=lambda pack: pack.nbytes).id


def packs(store: casckpt.Store) -> set[PackRef]:
    store._repository.database.refresh()
    return set(store._repository.database.pack_set())


def damage(store: casckpt.Store, pack: PackRef) -> None:
    """Change the first byte of every chunk."""
    storage = store._repository.storage
    data = bytearray(content(storage, pack_name(pack.id)))
    for record in PackReader(storage).contents(pack.id).records:
        if record.kind == Kind.CHUNK:
            data[record.offset] ^= 255
    put_file(storage, pack_name(pack.id), bytes(data))
    store._repository.database.packs.forget(pack_name(pack.id))


class Care:
    """Rewriting and collecting, without any grace."""

    def __init__(self, store: casckpt.Store) -> None:
        self.repository = store._repository
        self.collector = Collector(self.repository, lambda run: 0)

    def rewrite(self, must: set[PackId] | None = None, **options: Any) -> Rewritten:
        survey = self.collector.survey(is_over=lambda one: True)
        given = candidates(self.repository.database, survey.reclaim.uses, must or set())
        done = rewrite(self.repository, survey.marks.needed, given, **options)
        self.collector.proven.update(pack.id for pack in done.made)
        return done

    def collect(self) -> None:
        self.collector.collect(self.collector.survey(is_over=lambda one: True))


def test_small_packs_become_one_and_every_commit_stays_exact(store: casckpt.Store) -> None:
    many_small(store)
    before = packs(store)
    care = Care(store)
    done = care.rewrite()
    (made,) = done.made
    assert (done.sources, done.nbytes, done.is_complete) == (MERGE_FROM, sum(one.nbytes for one in before), True)
    care.collect()
    assert packs(store) == {made} and made.nbytes < done.nbytes
    for step in range(MERGE_FROM):
        assert np.array_equal(store.checkout(f"gpt@step={step}")["w"], noise(step, 40_000))
    assert store.fsck("full").ok
    assert care.rewrite() == Rewritten((), 0, 0, (), is_complete=True)


def test_tidying_removes_what_it_replaced_and_is_done_then(store: casckpt.Store) -> None:
    many_small(store)
    mostly_dead(store)
    before = sum(pack.nbytes for pack in packs(store))
    collector = Collector(store._repository, lambda run: 0)
    done = tidy(collector, lambda one: True, limit_bytes=1 << 30)
    assert done.sources == MERGE_FROM + 2 and done.is_complete  # the second commit has a small pack too
    assert sum(pack.nbytes for pack in packs(store)) < before - (6 << 20)
    assert tidy(collector, lambda one: True).sources == 0
    assert store.fsck("full").ok


def test_stored_bytes_go_along_as_they_are(store: casckpt.Store) -> None:
    many_small(store)
    storage, reader = store._repository.storage, PackReader(store._repository.storage)

    def stored(pack: PackRef) -> dict[bytes, tuple[int, bytes]]:
        file = storage.open_read(pack_name(pack.id))
        rows = reader.contents(pack.id).records
        return {row.id: (row.codec, read_exact(file, row.offset, row.stored)) for row in rows}

    before = {key: value for pack in packs(store) for key, value in stored(pack).items()}
    (made,) = Care(store).rewrite().made
    assert stored(made) == before
    assert len({codec for codec, _ in before.values()}) > 1


def test_a_merged_pack_says_which_commits_wrote_it(store: casckpt.Store) -> None:
    many_small(store)
    (made,) = Care(store).rewrite().made
    hints = store._repository.database.packs.hints(made)
    told = {(one["run"], one["step"], one["tree"].hex()) for one in commits_of(hints)}
    assert told == {("gpt", info.step, info.tree) for info in store.log("gpt")}


def test_a_merged_pack_that_lost_its_frame_gives_back_the_commits_of_which_nothing_else_is_left(
    store: casckpt.Store,
) -> None:
    many_small(store)
    (made,) = Care(store).rewrite().made
    with casckpt.memory() as other:
        other.commit({"w": noise(3, 40_000)}, run="gpt", step=3, compress="always")
        name = pack_name(made.id)
        put_file(other._repository.storage, name, content(store._repository.storage, name))
        other._repository.database.refresh()
        said = _take_in(other._repository, name.removeprefix("packs/"))
        assert said is not None and said.count("recovered-") == MERGE_FROM - 1
        found = {info.step: other.checkout(info.id)["w"] for info in other.log() if "recovered" in info.message}
        assert sorted(found) == [step for step in range(MERGE_FROM) if step != 3]
        assert all(np.array_equal(state, noise(step, 40_000)) for step, state in found.items())


def test_what_is_dead_is_left_behind(store: casckpt.Store) -> None:
    old = mostly_dead(store)
    care = Care(store)
    done = care.rewrite()
    care.collect()
    assert old not in {pack.id for pack in packs(store)}
    assert sum(pack.nbytes for pack in packs(store)) < 3 << 20
    assert done.nbytes > 8 << 20
    assert np.array_equal(store.checkout("gpt")["m"]["layer 3"], noise(3, 1 << 18))
    assert store.fsck("full").ok


def test_a_pack_that_must_be_written_is_though_nothing_in_it_is_dead(store: casckpt.Store) -> None:
    store.commit({"w": noise(0, 40_000)})
    (old,) = packs(store)
    (made,) = Care(store).rewrite({old.id}, wanted_hints=lambda one: False).made
    assert made.id != old.id
    assert store._repository.database.packs.hints(made) == {"generation": 1}


def test_when_the_time_is_up_what_was_begun_is_finished_and_the_next_call_goes_on(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_small(store)
    care = Care(store)
    ticks = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: next(ticks), time_ns=time.time_ns)
    monkeypatch.setattr(rewriting, "time", clock)
    first = care.rewrite(limit_s=10)
    assert 1 < first.sources < MERGE_FROM and not first.is_complete
    care.collect()
    monkeypatch.undo()
    many_small(store, MERGE_FROM, start=100)
    assert care.rewrite().is_complete
    care.collect()
    assert store.fsck("full").ok
    assert len(packs(store)) == 1


def test_progress_hears_of_every_byte(store: casckpt.Store) -> None:
    many_small(store)
    heard: list[tuple[int, int]] = []
    Care(store).rewrite(progress=lambda done, total: heard.append((done, total)))
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[-1][0] == heard[-1][1]


class Stop(Exception):
    pass


def test_an_interrupt_leaves_no_file_and_the_next_call_does_it_all(store: casckpt.Store) -> None:
    many_small(store)
    before = packs(store)

    def stop(done: int, total: int) -> None:
        if done > total // 4:
            raise Stop

    with pytest.raises(Stop):
        Care(store).rewrite(progress=stop)
    assert packs(store) == before
    assert store._repository.storage.list("tmp") == []
    assert len(store._repository.storage.list("packs")) == len(before)
    assert len(Care(store).rewrite().made) == 1


def test_a_new_pack_that_cannot_be_read_back_is_removed_and_nothing_else(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_small(store)
    before = packs(store)
    real = PackWriter.finish

    def damaging(writer: PackWriter, hints: Any) -> PackRef:
        pack = real(writer, hints)
        damage(store, pack)
        return pack

    monkeypatch.setattr(PackWriter, "finish", damaging)
    with pytest.raises(NotReadBack):
        Care(store).rewrite()
    assert packs(store) == before
    assert len(store._repository.storage.list("packs")) == len(before)


def test_a_damaged_record_is_taken_from_another_copy(store: casckpt.Store) -> None:
    many_small(store)
    repository = store._repository
    Care(store).rewrite()
    victim = min(packs(store), key=lambda pack: pack.nbytes)
    damage(store, victim)
    ids = np.sort(repository.database.packs.columns(victim)[0]["id"])
    done = rewrite(repository, ids, [Candidate(victim, victim.nbytes, len(ids), must=True)])
    (made,) = done.made
    assert done.damaged == ()
    packs_ = repository.database.packs
    for record in packs_.contents(made.id).records:
        packs_.read_record(pack_name(made.id), record)
    assert {record.id for record in packs_.contents(made.id).records} == {
        record.id for record in packs_.contents(victim.id).records
    }


GOLDEN_PACK = (GOLDEN / "delta.pack").read_bytes()


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_deltas_stay_deltas_or_become_plain_and_are_what_they_were(store: casckpt.Store, every: int) -> None:
    repository = store._repository
    identity, _, _ = p.decode_trailer(GOLDEN_PACK[-p.TRAILER_BYTES :], len(GOLDEN_PACK))
    old = adopt(repository, GOLDEN_PACK, identity)
    reader = repository.database.packs
    plains = {one.id: bytes(reader.read_record(pack_name(old.id), one)) for one in reader.contents(old.id).records}
    wanted = [one for one in reader.contents(old.id).records if one.kind == Kind.CHUNK][::every]
    ids = np.sort(prefixes(b"".join(one.id for one in wanted)))
    done = rewrite(repository, ids, [Candidate(old, sum(one.stored for one in wanted), len(wanted), must=True)])
    (made,) = done.made
    fresh = {one.id: one for one in reader.contents(made.id).records}
    assert fresh.keys() >= {one.id for one in wanted}
    assert any(one.base_1 for one in fresh.values()) or every > 1
    for one in fresh.values():
        assert bytes(reader.read_record(pack_name(made.id), one)) == plains[one.id]


def test_a_damaged_pack_stays_for_a_repair_and_the_others_are_merged(store: casckpt.Store) -> None:
    many_small(store, MERGE_FROM + 3)
    victim = min(packs(store))
    damage(store, victim)
    care = Care(store)
    done = care.rewrite()
    assert done.damaged == (pack_name(victim.id),)
    assert done.sources == MERGE_FROM + 2
    care.collect()
    assert packs(store) == {victim, *done.made}


def test_a_full_disk_changes_nothing(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    many_small(store)
    before = packs(store)

    def full(*_: Any) -> None:
        raise StoreFull(operation="write", path="tmp/pack", problem="no space left on device")

    monkeypatch.setattr("casckpt.odb.pack_writer.PackWriter._flush", full)
    with pytest.raises(StoreFull):
        Care(store).rewrite()
    assert packs(store) == before
    assert store._repository.storage.list("tmp") == []
