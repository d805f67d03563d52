"""The records of a pack as columns say what its footer says, and refuse what would free too much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import pack as p
from casckpt.format.ids import Kind, PackId
from casckpt.format.pack_columns import columns, metadata, prefixes, with_bases
from tests.support.build import Pack, identity

Parts = tuple[bytes, bytes, int, PackId]


def parts(file: bytes) -> Parts:
    """Header, footer, its offset and the id of a pack file."""
    named, offset, size = p.decode_trailer(file[-p.TRAILER_BYTES :], len(file))
    return file[: p.BLOCK], file[offset : offset + size], offset, named


@st.composite
def packs(draw: st.DrawFn) -> Parts:
    """A pack of a few records, some of them with bases."""
    made = Pack(deltas=True)
    for number in range(draw(st.integers(1, 12))):
        plain = draw(st.binary(min_size=1, max_size=40))
        bases = draw(st.lists(st.integers(0, number - 1), max_size=2)) if number else []
        kind = Kind.CHUNK if bases else draw(st.sampled_from([Kind.CHUNK, Kind.TREE, Kind.COMPONENT, Kind.PAGE]))
        weight = 8 if len(bases) == 2 else 0
        codec = {"codec": 4, "stored": plain} if bases else {}
        made.add(plain, kind=kind, bases=bases, weight=weight, **codec)
    return parts(made.finish())


@given(packs())
def test_columns_are_what_the_footer_says(found: Parts) -> None:
    header, footer, offset, named = found
    rows = p.decode_footer(header, footer, offset, named).records
    table = columns(header, footer, named)
    assert table["id"].tolist() == prefixes(b"".join(row.id for row in rows)).tolist()
    assert (table["unit"].astype(np.int64) * p.UNIT).tolist() == [row.offset for row in rows]
    for name in ("length", "stored", "base_1", "base_2", "kind", "codec", "element", "flags", "cost"):
        assert table[name].tolist() == [getattr(row, name) for row in rows]
    assert metadata(table) == [row for row in rows if row.kind != Kind.CHUNK and not row.base_1]


@given(packs(), st.data())
def test_what_needed_records_are_decoded_from_is_held(found: Parts, data: st.DataObject) -> None:
    header, footer, offset, named = found
    rows = p.decode_footer(header, footer, offset, named).records
    needed = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    held = {number for number, flag in enumerate(needed) if flag}
    waiting = list(held)
    while waiting:
        at = waiting.pop()
        bases = {at - back for back in (rows[at].base_1, rows[at].base_2) if back} - held
        held |= bases
        waiting += bases
    flags = np.array(needed, np.bool_)
    assert set(np.flatnonzero(with_bases(columns(header, footer, named), flags)).tolist()) == held
    assert flags.tolist() == needed


HOSTILE: dict[str, list[dict[str, Any]]] = {
    "a base before the first record": [{}, {"base_1": 2, "cost": 2}],
    "a second base before the first record": [{}, {"base_1": 1, "base_2": 9, "weight": 8, "cost": 2}],
    "a base that costs as much": [{}, {"base_1": 1, "cost": 1}],
    "a base that costs more": [{}, {"base_1": 1, "cost": 5}, {"base_1": 1, "cost": 3}],
    "costs that go round": [{}, {"base_1": 1, "cost": 3}, {"base_1": 1, "cost": 3}],
    "a cost beyond the limit": [{}, {"base_1": 1, "cost": 17}],
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_bases_that_cannot_be_are_refused(fields: list[dict[str, Any]]) -> None:
    made = Pack(deltas=True)
    for number, wrong in enumerate(fields):
        made.add(bytes([number]) * 9, **({"codec": 4, "stored": b"12345678"} if wrong else {}), **wrong)
    header, footer, _, named = parts(made.finish())
    with pytest.raises(IntegrityError, match="a base that it cannot have"):
        columns(header, footer, named)


@pytest.mark.parametrize("count", [0, 1, 3, (1 << 32) - 1])
def test_a_footer_that_lies_about_its_count_is_refused(count: int) -> None:
    made = Pack()
    made.add(b"one")
    made.add(b"two")
    header, footer, _, _ = parts(made.finish())
    wrong = footer[:8] + count.to_bytes(4, "little") + footer[12:]
    with pytest.raises(IntegrityError, match="its length does not fit its counts"):
        columns(header, wrong, p.pack_id(header, wrong))


@pytest.mark.parametrize("at", [0, 30, -1])
def test_a_footer_that_does_not_hash_to_the_id_is_refused(at: int) -> None:
    made = Pack()
    made.add(b"one")
    header, footer, _, named = parts(made.finish())
    wrong = bytearray(footer)
    wrong[at] ^= 1
    with pytest.raises(IntegrityError, match="do not match the pack id"):
        columns(header, bytes(wrong), named)


def test_a_pack_of_a_newer_format_is_refused() -> None:
    made = Pack()
    made.add(b"one")
    header, footer, _, named = parts(made.finish(header=p.encode_header(required=1 << 9)))
    with pytest.raises(FormatError):
        columns(header, footer, named)


def test_metadata_that_no_reader_accepts_is_refused() -> None:
    made = Pack()
    made.add(b"tree", kind=Kind.TREE, length=1 << 30, stored=b"tree")
    header, footer, _, named = parts(made.finish())
    with pytest.raises(IntegrityError, match="not allowed for its kind"):
        metadata(columns(header, footer, named))


def test_prefixes_are_the_first_eight_bytes() -> None:
    ids = [identity(str(number)) for number in range(5)]
    assert prefixes(b"".join(ids)).tolist() == [int.from_bytes(one[:8], "little") for one in ids]
    assert len(prefixes(b"")) == 0
