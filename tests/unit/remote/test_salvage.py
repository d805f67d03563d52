"""What cannot be read of a remote costs no more than itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import CasckptError, RemoteUnavailable, RolledBack
from casckpt.format.ids import ObjectId
from casckpt.remote.reading import RemoteReader
from casckpt.remote.salvage import readable
from tests.support.build import Pack, identity, noise
from tests.support.remote_content import HandMade, Watched, failing_at


def remote_with(damaged: set[int], count: int = 40) -> tuple[HandMade, list[ObjectId]]:
    """A remote of small objects in two packs, some of which are not what their ids say."""
    remote, ids = HandMade(), list[ObjectId]()
    for start in (0, count // 2):
        pack = Pack()
        for number in range(start, start + count // 2):
            plain = noise(str(number), 300 + number)
            pack.add(plain, stored=bytes(len(plain)) if number in damaged else plain)
        ids += [record.id for record in pack.records]
        remote.publish(pack)
    return remote, ids


@given(st.sets(st.integers(0, 39)), st.sets(st.integers(0, 9), max_size=3))
def test_everything_else_comes(damaged: set[int], absent: set[int]) -> None:
    remote, ids = remote_with(damaged)
    lost = [identity(f"absent {number}") for number in absent]
    failed: dict[ObjectId, CasckptError] = {}
    found = list(readable(RemoteReader(remote.view()), [*lost, *ids, *ids], failed.__setitem__))
    whole = [one for number, one in enumerate(ids) if number not in damaged]
    assert sorted(one.record.id for one in found) == sorted(whole)
    assert set(failed) == {*lost, *(ids[number] for number in damaged)}


def test_one_damaged_object_costs_few_requests() -> None:
    remote, ids = remote_with({7})
    watched = Watched(remote.objects)
    reader = RemoteReader(remote.view(watched), concurrency=1)
    assert len(list(readable(reader, ids, lambda *_: None))) == 39
    assert watched.count("get", "packs/") < 16


def test_a_remote_that_cannot_be_reached_is_another_matter() -> None:
    remote, ids = remote_with(set())
    view = remote.view(Watched(remote.objects, failing_at(5)))
    failed: list[ObjectId] = []
    with pytest.raises(RemoteUnavailable):
        list(readable(RemoteReader(view, concurrency=1), ids, lambda one, _: failed.append(one)))
    assert not failed


def test_a_remote_that_was_set_back_is_another_matter_too() -> None:
    remote, ids = remote_with(set())
    view = remote.view()
    remote.objects.delete([one.key for room in ("packs/", "root/") for one in remote.objects.list(room)])
    with pytest.raises(RolledBack):
        list(readable(RemoteReader(view), ids, lambda *_: None))
