"""Many objects are found where single ones are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format.ids import ObjectId
from casckpt.format.pack import Record
from casckpt.remote import locating
from casckpt.remote.locating import find_all
from tests.support.build import Pack, identity, noise
from tests.support.remote_content import HandMade

IDS = st.binary(min_size=1, max_size=1).map(lambda end: ObjectId(bytes(31) + end)) | st.integers(0, 40).map(
    lambda number: identity(str(number))
)


@settings(max_examples=60)
@given(st.lists(st.sets(IDS, max_size=20), max_size=4), st.sets(IDS, max_size=30), st.integers(0, 3))
def test_all_at_once_are_found_where_each_is(held: list[set[ObjectId]], wanted: set[ObjectId], condemned: int) -> None:
    remote = HandMade()
    segments, keys = [], []
    for number, ids in enumerate(held):
        pack = Pack()
        pack.add(noise(str(number), 100))
        listed = remote.add_pack(pack)
        keys.append(listed.key)
        segments.append(remote.add_segment({listed: [Record(one, 4096, 64, 64, 0) for one in ids]}))
    remote.append(*segments, condemned=tuple(sorted(keys[:condemned])))
    view = remote.view()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locating, "FEW", 0)
        found = find_all(view, wanted)
    one_by_one = {one: view.find(one) for one in wanted}
    assert found == {one: place for one, place in one_by_one.items() if place is not None} == find_all(view, wanted)
