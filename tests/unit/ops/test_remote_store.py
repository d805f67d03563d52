"""A remote read as a store: names at once, content on demand, and a cache that keeps its cap."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import ReadOnlyStore, RolledBack, StoreNotFound, UsageError
from casckpt.ops.remote_store import Room, cache_folder, open_remote
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.remote_content import Watched
from tests.unit.ops.test_fetch import repository_of, same, state
from tests.unit.ops.test_pull import committed, pushed, refs

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "source") as made:
        committed(made, 0, 1, 2, 3)
        made.tag("v1", "gpt~1")
        yield made


@pytest.fixture
def remote(source: casckpt.Store) -> MemoryObjects:
    made = MemoryObjects()
    pushed(source, made, everything=True)
    return made


def opened(remote: Objects, tmp_path: Path, cache_bytes: int = 1 << 30) -> casckpt.Store:
    return casckpt.Store(open_remote(remote, cache=str(tmp_path / "cache"), cache_bytes=cache_bytes))


def held(tmp_path: Path) -> int:
    return sum(pack.stat().st_size for pack in (tmp_path / "cache").rglob("*.pack"))


def test_names_come_at_once_and_content_when_it_is_read(
    source: casckpt.Store, remote: MemoryObjects, tmp_path: Path
) -> None:
    watched = Watched(remote)
    with opened(watched, tmp_path) as store:
        assert refs(store) == refs(source)
        assert [one.id for one in store.log("gpt")] == [one.id for one in source.log("gpt")]
        assert watched.down < MIB
        assert same(store.checkout("v1"), state(2))
        assert same(store.checkout("gpt/best", select="rng/**"), {"rng": {"seed": 2}})


def test_what_was_read_once_is_read_from_the_cache(remote: MemoryObjects, tmp_path: Path) -> None:
    with opened(remote, tmp_path) as store:
        store.checkout("gpt")
    watched = Watched(remote)
    with opened(watched, tmp_path) as store:
        assert len(watched.requests) == 2
        store.checkout("gpt")
        assert watched.count("get", "packs/") == 0


def test_what_is_pushed_later_is_seen_by_the_next_who_opens(
    source: casckpt.Store, remote: MemoryObjects, tmp_path: Path
) -> None:
    opened(remote, tmp_path).close()
    committed(source, 7)
    pushed(source, remote)
    with opened(remote, tmp_path) as store:
        assert same(store.checkout("gpt"), state(7))


def test_nothing_is_written_to_it(remote: MemoryObjects, tmp_path: Path) -> None:
    with opened(remote, tmp_path) as store:
        for change in (lambda: store.commit({"a": 1}), lambda: store.tag("x", "gpt"), store.gc):
            with pytest.raises(ReadOnlyStore):
                change()


def test_a_place_without_a_remote_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="nothing was ever pushed"):
        opened(MemoryObjects(), tmp_path)
    assert not (tmp_path / "cache").exists()


def test_the_cache_keeps_its_cap_and_what_went_comes_again(remote: MemoryObjects, tmp_path: Path) -> None:
    with opened(remote, tmp_path) as store:
        for commit in store.log("gpt"):
            store.checkout(commit.id)
        everything = held(tmp_path)
    assert everything > 10 * MIB
    with opened(remote, tmp_path, cache_bytes=6 * MIB) as store:
        assert held(tmp_path) <= 6 * MIB
        # What came just now is spared: somebody may be about to read it.
        assert same(store.checkout("gpt~3"), state(0))
        assert same(store.checkout("gpt~2"), state(1))
    with opened(remote, tmp_path, cache_bytes=0) as store:
        assert held(tmp_path) < MIB
        assert same(store.checkout("gpt"), state(3))
        assert store.fsck("full").ok


def test_room_is_made_by_age(remote: MemoryObjects, tmp_path: Path) -> None:
    with opened(remote, tmp_path) as store:
        store.checkout("gpt~3")
        store.checkout("gpt")
        writer = casckpt.open(repository_of(store).storage.path or "")
        with writer:
            before = held(tmp_path)
            Room(repository_of(writer), before - 1).make(spared_s=0)
            assert 0 < held(tmp_path) < before
        watched = Watched(remote)
    with opened(watched, tmp_path) as store:
        store.checkout("gpt")
        # The older of both brought what they share.
        assert watched.down < 300_000 * 8 + MIB


def test_a_remote_that_was_set_back_is_refused(source: casckpt.Store, remote: MemoryObjects, tmp_path: Path) -> None:
    committed(source, 8)
    pushed(source, remote)
    opened(remote, tmp_path).close()
    remote.delete([one.key for one in remote.list("root/")][-1:])
    with pytest.raises(RolledBack):
        opened(remote, tmp_path)


def test_an_address_in_place_of_a_path_is_read(source: casckpt.Store, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    pushed(source, FolderObjects(folder))
    with casckpt.open(folder.as_uri(), cache=tmp_path / "cache", cache_bytes=1 << 20) as store:
        assert same(store.checkout("gpt"), state(3))
        assert np.array_equal(store.tree("gpt~1")["model/weight"][7:9], state(2)["model"]["weight"][7:9])
    with pytest.raises(UsageError, match="cache"):
        casckpt.open(tmp_path / "source", cache=tmp_path)


def test_the_usual_place_is_of_the_user() -> None:
    assert cache_folder().startswith(str(Path.home()))
