"""What a store has lost comes back from a remote, bit for bit, and nothing that a remote sends makes it worse."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import CasckptError, RemoteNotFound, RemoteUnavailable, UsageError
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.marks import DAMAGED
from casckpt.ops import refetch
from casckpt.ops.fsck import fsck
from casckpt.ops.lookup import marked
from casckpt.ops.reports import FsckReport
from casckpt.remote.view import RemoteView
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.histories import same, training
from tests.support.remote_content import HandMade, Watched, failing_at
from tests.support.uploaded import uploaded

States = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HandMade, States]:
    """A store, the same as a remote, and its states by commit; nobody changes any of them."""
    path = tmp_path_factory.mktemp("whole") / "store"
    noise, states = np.random.default_rng(3), {}
    with casckpt.init(path) as store:
        for step, state in enumerate(training(6)):
            states[store.commit(state, run="walk", step=step).id] = state
        for number in range(3):
            state = {"model": {"w": noise.bytes(2_000_000), "b": [noise.bytes(700)] * 3}, "epoch": number}
            states[store.commit(state, run="big", step=number, config={"lr": 0.1}).id] = state
        state = {"w": b"".join(bytes([n]) * (1 << 20) for n in range(66)), "v": noise.bytes(90_000)}
        states[store.commit(state, run="paged").id] = state
        store.tag("kept", next(iter(states)))
        remote = uploaded(store)
    return path, remote, states


@pytest.fixture
def path(whole: tuple[Path, HandMade, States], tmp_path: Path) -> Path:
    """A copy of the store, to be damaged."""
    shutil.copytree(whole[0], tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def remote(whole: tuple[Path, HandMade, States]) -> HandMade:
    return whole[1]


@pytest.fixture
def states(whole: tuple[Path, HandMade, States]) -> States:
    return whole[2]


def repaired(path: Path, objects: Objects, **options: Any) -> FsckReport:
    with casckpt.open(path) as store:
        return fsck(store._repository, repair=True, source=RemoteView(objects), **options)


def assert_whole(path: Path, states: States) -> None:
    with casckpt.open(path) as store:
        assert {one.id for one in store.log(limit=None)} >= set(states)
        for identity, state in states.items():
            assert same(store.checkout(identity), state)
        assert store.fsck("full").ok
        assert not marked(store._repository.database, DAMAGED)


def packs_of(path: Path) -> list[Path]:
    return sorted((path / "packs").iterdir())


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


def lose_frames(path: Path) -> None:
    """Damage the frames of the first four commits, and what the index knows of them."""
    (log,) = (path / "journal").iterdir()
    data = log.read_bytes()
    frames = [at for at in range(len(data)) if data.startswith(b"CKPTJRN1", at)]
    for at in frames[1:5]:
        flip(log, at + 100)
    shutil.rmtree(path / "index")


def test_flipped_bits_anywhere_in_packs_are_repaired(path: Path, remote: HandMade, states: States) -> None:
    rng = random.Random(4)
    for file in packs_of(path):
        for _ in range(12):
            flip(file, rng.randrange(file.stat().st_size))
    report = repaired(path, remote.objects)
    assert report.ok
    assert report.depth == "full"
    assert report.brought is not None
    assert report.brought.objects > 0
    assert (report.brought.lacking, report.brought.lacks) == ((), 0)
    assert report.to_dict()["brought"]["objects"] == report.brought.objects
    assert_whole(path, states)


def test_lost_packs_are_repaired(path: Path, remote: HandMade, states: States) -> None:
    for file in packs_of(path):
        file.unlink()
    assert repaired(path, remote.objects).ok
    assert_whole(path, states)


@pytest.mark.parametrize("number", range(4))
def test_each_lost_pack_is_repaired(path: Path, remote: HandMade, states: States, number: int) -> None:
    files = packs_of(path)
    assert len(files) == 4
    files[number].unlink()
    assert repaired(path, remote.objects).ok
    assert_whole(path, states)


def test_a_journal_without_its_commits_gets_them_back_where_names_lead_to_them(
    path: Path, remote: HandMade, states: States
) -> None:
    """The frames of the first commits are lost; later ones descend from them."""
    lose_frames(path)
    with casckpt.open(path) as store:
        assert len(list(store.log(limit=None))) == len(states) - 4
    report = repaired(path, remote.objects)
    assert report.ok
    assert_whole(path, states)


def test_generations_of_lost_commits_come_in_one_round(
    path: Path, remote: HandMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_frames(path)
    rounds: list[int] = []
    missing = refetch.missing

    def counting(*args: Any) -> list[ObjectId]:
        found = missing(*args)
        rounds.append(len(found))
        return found

    monkeypatch.setattr(refetch, "missing", counting)
    assert repaired(path, remote.objects).ok
    assert len(rounds) <= 5
    assert rounds[-1] == 0


def test_few_objects_at_a_time_come_as_well(
    path: Path, remote: HandMade, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in packs_of(path):
        file.unlink()
    monkeypatch.setattr(refetch, "ROUND_MAX", 3)
    assert repaired(path, remote.objects).ok
    assert_whole(path, states)


def test_marks_of_damage_go_when_all_is_whole(path: Path, remote: HandMade, states: States) -> None:
    for file in packs_of(path):
        file.unlink()
    with casckpt.open(path) as store:
        alone = store.fsck("full", repair=True)
        assert not alone.ok
        assert alone.marked
        assert marked(store._repository.database, DAMAGED)
    report = repaired(path, remote.objects)
    assert set(report.cleared) == set(alone.marked)
    assert_whole(path, states)


def test_a_whole_store_asks_for_nothing(path: Path, remote: HandMade) -> None:
    watched = Watched(remote.objects)
    before = packs_of(path)
    report = repaired(path, watched)
    assert report.ok
    assert report.brought is not None
    assert report.brought.objects == 0
    assert watched.count("get", "packs/") == 0
    assert packs_of(path) == before


def test_only_what_is_missing_is_transferred(path: Path, remote: HandMade) -> None:
    big = max(packs_of(path), key=lambda file: file.stat().st_size)
    flip(big, big.stat().st_size // 2)
    watched = Watched(remote.objects)
    report = repaired(path, watched)
    assert report.ok
    assert report.brought is not None
    assert report.brought.objects == 1
    assert sum(nbytes for verb, key, nbytes in watched.requests if key.startswith("packs/")) < 1_100_000


def test_what_the_remote_does_not_have_is_listed(path: Path, states: States, tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "other") as other:
        other.commit({"something": "else"})
        stranger = uploaded(other)
    for file in packs_of(path):
        file.unlink()
    report = repaired(path, stranger.objects)
    assert not report.ok
    assert report.brought is not None
    assert report.brought.objects == 0
    assert report.brought.lacks == len(report.brought.lacking) > 0
    assert set(report.marked) <= set(states)
    again = repaired(path, stranger.objects)
    assert again.brought == report.brought


def test_dropped_thinned_and_forgotten_commits_stay_so(whole: tuple[Path, HandMade, States], path: Path) -> None:
    _, remote, states = whole
    made = list(states)
    with casckpt.open(path) as store:
        store.drop(made[6])
        store.drop(made[7], parts=["model"])
        store.forget(made[1])
        store.gc(now=True)
    for file in packs_of(path):
        file.unlink()
    report = repaired(path, remote.objects)
    assert report.ok
    with casckpt.open(path) as store:
        found = {one.id: one for one in store.log(limit=None)}
        assert made[1] not in found
        assert found[made[6]].dropped
        assert found[made[7]].thinned == ("model",)
        database = store._repository.database
        assert not database.has_commit(CommitId(ObjectId(bytes.fromhex(made[1]))))
        assert sum(pack.nbytes for pack in database.pack_set()) < 4_500_000


def damaged_answers(kind: str, rng: random.Random) -> Callable[[str, bytes], bytes]:
    def changed(key: str, data: bytes) -> bytes:
        if not key.startswith("packs/") or not data:
            return data
        if kind == "flipped":
            at = rng.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if kind == "zeros":
            return bytes(len(data))
        if kind == "short":
            return data[: len(data) // 2]
        return data[::-1]

    return changed


@pytest.mark.parametrize("kind", ["flipped", "zeros", "short", "reversed"])
def test_a_remote_that_sends_something_else_makes_nothing_worse(
    path: Path, remote: HandMade, states: States, kind: str
) -> None:
    """What is whole stays whole, nothing wrong is taken, and an honest remote repairs the rest."""
    file = packs_of(path)[0]
    file.unlink()
    with casckpt.open(path) as store:
        readable = {identity for identity in states if _reads(store, identity, states)}
    report = repaired(path, Watched(remote.objects, changed=damaged_answers(kind, random.Random(1))))
    assert report.brought is not None
    with casckpt.open(path) as store:
        assert {identity for identity in states if _reads(store, identity, states)} >= readable
    assert repaired(path, remote.objects).ok
    assert_whole(path, states)


def _reads(store: casckpt.Store, identity: str, states: States) -> bool:
    try:
        found = store.checkout(identity)
    except CasckptError:
        return False
    assert same(found, states[identity])
    return True


def test_one_damaged_object_of_a_remote_costs_only_itself(path: Path, remote: HandMade, states: States) -> None:
    segment = max(remote.view().segments(), key=len)
    row = next(row for row in segment.rows() if row.kind == Kind.CHUNK and row.stored > 900_000)
    key = segment.packs[row.pack].key

    class Flipped(Watched):
        def get_ranges(self, asked: str, ranges: Any) -> list[bytes]:
            data = bytearray(self.inner.get(asked, limit=1 << 30))
            if asked == key:
                data[row.offset + 5] ^= 1
            return [bytes(data[start:stop]) for start, stop in ranges]

    for file in packs_of(path):
        file.unlink()
    report = repaired(path, Flipped(remote.objects))
    assert report.brought is not None
    assert report.brought.lacking == (row.id.hex(),)
    assert len({commit for finding in report.findings for commit in finding.commits if finding.repaired is None}) == 1
    assert repaired(path, remote.objects).ok
    assert_whole(path, states)


def test_a_repair_that_is_cut_off_at_any_request_goes_on_where_it_was(
    path: Path, remote: HandMade, states: States, tmp_path: Path
) -> None:
    for file in packs_of(path):
        file.unlink()
    watched = Watched(remote.objects)
    shutil.copytree(path, tmp_path / "counted")
    assert repaired(tmp_path / "counted", watched).ok
    for number in range(len(watched.requests)):
        copy = tmp_path / str(number)
        shutil.copytree(path, copy)
        with pytest.raises(RemoteUnavailable):
            repaired(copy, Watched(remote.objects, failing_at(number)))
        assert repaired(copy, remote.objects).ok
        assert_whole(copy, states)


def test_an_empty_remote_and_a_mere_look_are_refused(path: Path, remote: HandMade) -> None:
    with pytest.raises(RemoteNotFound):
        repaired(path, MemoryObjects())
    with casckpt.open(path) as store, pytest.raises(UsageError):
        fsck(store._repository, source=RemoteView(remote.objects))


def test_progress_tells_of_what_comes(path: Path, remote: HandMade) -> None:
    big = max(packs_of(path), key=lambda file: file.stat().st_size)
    flip(big, big.stat().st_size // 2)
    heard: list[tuple[int, int]] = []
    report = repaired(path, remote.objects, progress=lambda done, total: heard.append((done, total)))
    assert report.brought is not None
    assert (report.brought.nbytes, report.brought.nbytes) in heard
