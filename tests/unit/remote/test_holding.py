"""What a remote holds, asked of all segments at once: as asking each for each object."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.ids import Kind, ObjectId, PackId
from casckpt.format.remote_index import Row, Segment, SegmentPack
from casckpt.remote.holding import Holding, each_once

IDS = [bytes([first]) * 8 + bytes([rest]) * 24 for first in (0, 1, 127, 128, 255) for rest in (0, 1, 255)]
"""Some share their first 8 bytes, as hostile ones may."""


def segment(ids: set[bytes], packs: int) -> Segment:
    places = [SegmentPack(PackId(os.urandom(32)), b"abcd", 1 << 20) for _ in range(packs)]
    rows = [Row(ObjectId(one), number % packs, 4096, 10, 10, Kind.CHUNK) for number, one in enumerate(sorted(ids))]
    return Segment.build(places, rows)


@given(st.lists(st.sets(st.sampled_from(IDS)), max_size=4), st.lists(st.sampled_from(IDS)), st.integers(0, 2))
def test_lacking_is_what_no_segment_lists_outside_condemned_packs(parts, wanted, condemned: int) -> None:
    segments = [segment(part, 2) for part in parts if part]
    gone = {pack.key for one in segments for pack in one.packs[:condemned]}
    held = {row.id for one in segments for row in one.rows() if one.packs[row.pack].key not in gone}
    lacking = Holding(segments, gone).lacking(b"".join(wanted))
    found = [lacking[at : at + 32] for at in range(0, len(lacking), 32)]
    # Of ids that share their first 8 bytes one may be told as lacking that is there, never the other way round.
    assert set(found) >= set(wanted) - held
    shared = {one for one in held if sum(one[:8] == other[:8] for other in held) > 1}
    assert set(found) <= (set(wanted) - held) | shared


@given(st.lists(st.sampled_from(IDS)))
def test_each_once(ids: list[bytes]) -> None:
    found = each_once(b"".join(ids))
    assert [found[at : at + 32] for at in range(0, len(found), 32)] == sorted(set(ids))
