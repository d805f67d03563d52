"""Places of blobs: the map from a structure to the columns of its component."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import IntegrityError
from casckpt.format import chunking
from casckpt.format.chunking import CHUNK, SMALL, group_blobs
from casckpt.format.layout import Grouped, Large, Tiny, places
from casckpt.format.objects import Component, Structure
from tests.support.build import identity

ID = identity("a chunk")


def pair(
    sizes: list[int],
    groups: list[list[int]],
    *,
    ids: int,
    tiny: int = 0,
    layouts: dict[int, dict[str, Any]] | None = None,
    counts: tuple[tuple[int, int], ...] = (),
    spans: int | list[int] = 0,
) -> tuple[Structure, Component]:
    structure = Structure(None, tuple(sizes), bytes(len(sizes)), tuple(map(tuple, groups)), layouts or {})
    lengths = [*sizes[:1], *[0] * spans][:spans] if isinstance(spans, int) else spans
    column = b"".join(length.to_bytes(8, "little") for length in lengths)
    return structure, Component(ID, [], bytes(tiny), ID * ids, counts, column)


def test_every_blob_has_its_place() -> None:
    sizes = [100, 4, 3 * CHUNK + 1, 200, 60, SMALL, 65 * CHUNK]
    found = places(*pair(sizes, [[0, 3]], ids=1 + 4 + 1 + 1, tiny=64))
    assert found == [
        Grouped(0, 0, 300),
        Tiny(0),
        Large(1, 4, 4, False, None),
        Grouped(0, 100, 300),
        Tiny(4),
        Large(5, 1, 1, False, None),
        Large(6, 1, 65, True, None),
    ]


def test_blobs_with_their_own_layout_count_their_entries() -> None:
    layouts = {0: {"cut": "content"}, 2: {"shape": [9], "boxes": []}, 3: {"cut": "content"}}
    counts = ((3, 3), (64, 64), (100, 2))
    lengths = [20, 20, 10, 9, *[0] * 63, 4000, 1000]
    found = places(*pair([50, 100, 9, 5000], [[1]], ids=1 + 69, layouts=layouts, counts=counts, spans=lengths))
    assert found == [
        Large(1, 3, 3, False, 0),
        Grouped(0, 0, 100),
        Large(4, 64, 64, False, 3),
        Large(68, 2, 100, True, 67),
    ]


@settings(max_examples=80)
@given(st.lists(st.integers(1, 3 * CHUNK) | st.integers(1, SMALL) | st.integers(1, 70), max_size=30))
def test_the_places_of_what_was_grouped_cover_both_columns(sizes: list[int]) -> None:
    groups = group_blobs(sizes, [0] * len(sizes), [str(number) for number in range(len(sizes))])
    tiny = sum(size for size in sizes if chunking.is_tiny(size))
    large = sum(chunking.entry_count(size) for size in sizes if size >= SMALL)
    found = places(*pair(sizes, groups, ids=len(groups) + large, tiny=tiny))
    assert len(found) == len(sizes)
    entries = [place.entry + number for place in found if isinstance(place, Large) for number in range(place.entries)]
    assert entries == list(range(len(groups), len(groups) + large))
    for size, place in zip(sizes, found, strict=True):
        if isinstance(place, Grouped):
            assert place.offset + size <= place.length <= CHUNK


WRONG: dict[str, dict[str, Any]] = {
    "a small blob in no group": {"sizes": [100], "groups": [], "ids": 0},
    "a blob in two groups": {"sizes": [100], "groups": [[0], [0]], "ids": 2},
    "a blob twice in a group": {"sizes": [100], "groups": [[0, 0]], "ids": 1},
    "a group of no blob": {"sizes": [100], "groups": [[0, 1]], "ids": 1},
    "a group of a negative blob": {"sizes": [100], "groups": [[-1]], "ids": 1},
    "a large blob in a group": {"sizes": [SMALL], "groups": [[0]], "ids": 1},
    "a tiny blob in a group": {"sizes": [64], "groups": [[0]], "ids": 1},
    "a group of more than a chunk": {"sizes": [SMALL - 1] * 5, "groups": [[0, 1, 2, 3, 4]], "ids": 1},
    "an id too few": {"sizes": [CHUNK + 1], "groups": [], "ids": 1},
    "an id too many": {"sizes": [CHUNK], "groups": [], "ids": 2},
    "a tiny byte too few": {"sizes": [4], "groups": [], "ids": 0, "tiny": 3},
    "a tiny byte too many": {"sizes": [4], "groups": [], "ids": 0, "tiny": 5},
    "no counts": {"sizes": [9], "groups": [], "ids": 1, "layouts": {0: {}}, "spans": 1},
    "counts of no blob": {"sizes": [9], "groups": [], "ids": 0, "tiny": 9, "counts": ((1, 1),)},
    "entries that are not the chunks": {
        "sizes": [9],
        "groups": [],
        "ids": 2,
        "layouts": {0: {}},
        "counts": ((3, 2),),
        "spans": 2,
    },
    "more pages than chunks": {
        "sizes": [9],
        "groups": [],
        "ids": 66,
        "layouts": {0: {}},
        "counts": ((65, 66),),
        "spans": 66,
    },
    "spans that do not add up": {
        "sizes": [9],
        "groups": [],
        "ids": 2,
        "layouts": {0: {}},
        "counts": ((2, 2),),
        "spans": [4, 4],
    },
    "a span too few": {"sizes": [9], "groups": [], "ids": 2, "layouts": {0: {}}, "counts": ((2, 2),), "spans": 1},
    "entries beyond all bytes": {
        "sizes": [9],
        "groups": [],
        "ids": 1,
        "layouts": {0: {}},
        "counts": ((1 << 39, 1 << 39),),
        "spans": 1,
    },
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_a_component_that_contradicts_its_structure_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        places(*pair(**fields))
