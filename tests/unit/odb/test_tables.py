from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.odb import tables as t

KEYS = st.sampled_from([b"", b"a", b"ab", b"abc", b"b", b"\xff", b"\xff\xff"])
STEPS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=12)


@given(base=STEPS, over=STEPS, prefix=KEYS)
def test_an_overlay_is_what_the_base_would_be_after_the_same_changes(base: Any, over: Any, prefix: bytes) -> None:
    below, expected = t.MemoryTables(), {}
    above = t.MemoryTables(below)
    for tables, steps in ((below, base), (above, over)):
        for key, value in steps:
            if value is None:
                tables.delete(t.REFS, key)
                expected.pop(key, None)
            else:
                tables.put(t.REFS, key, value)
                expected[key] = value
    assert dict(above.scan(t.REFS)) == expected
    assert sorted(key for key, _ in above.scan(t.REFS)) == sorted(expected)
    found = dict(above.scan(t.REFS, prefix))
    assert found == {key: value for key, value in expected.items() if key.startswith(prefix)}
    assert above.count(t.REFS) == len(expected)
    for key, _ in [*base, *over]:
        assert above.get(t.REFS, key) == expected.get(key)


def test_the_base_is_never_changed_and_tables_do_not_mix() -> None:
    below = t.MemoryTables()
    below.put(t.REFS, b"a", b"1")
    above = t.MemoryTables(below)
    above.delete(t.REFS, b"a")
    above.put(t.RUNS, b"a", b"2")
    assert below.get(t.REFS, b"a") == b"1"
    assert above.get(t.REFS, b"a") is None
    assert above.get(t.RUNS, b"a") == b"2"
    assert above.count(t.META) == 0


def test_a_scan_may_be_left_open_while_the_table_changes() -> None:
    tables = t.MemoryTables()
    for number in range(10):
        tables.put(t.REFS, bytes([number]), b"x")
    scan = tables.scan(t.REFS)
    next(scan)
    tables.put(t.REFS, b"new", b"y")
    tables.delete(t.REFS, b"\5")
    assert len(list(scan)) >= 8


ROW = t.Row(t.IN_JOURNAL | 7, 1 << 40, 3, 4, 5, 6, 7, 8)


def test_a_row_is_28_bytes_and_comes_back() -> None:
    value = ROW.encode(b"k" * 32)
    assert len(value) == 28
    assert t.Row.decode(b"k" * 32, value) == ROW


@pytest.mark.parametrize("position", range(28))
def test_a_row_with_a_flipped_bit_is_no_row(position: int) -> None:
    value = bytearray(ROW.encode(b"k" * 32))
    for bit in range(8):
        value[position] ^= 1 << bit
        assert t.Row.decode(b"k" * 32, bytes(value)) is None
        value[position] ^= 1 << bit


def test_a_row_of_another_key_or_length_is_no_row() -> None:
    value = ROW.encode(b"k" * 32)
    assert t.Row.decode(b"l" + b"k" * 31, value) is None
    assert t.Row.decode(b"k" * 32, value[:-1]) is None
    assert t.Row.decode(b"k" * 32, value + b"\0") is None
    assert t.Row.decode(b"k" * 32, b"") is None


def test_the_other_values_come_back() -> None:
    assert t.decode_pack(t.encode_pack(7, 1 << 38)) == (7, 1 << 38)
    assert t.decode_commit(t.encode_commit(None, b"commit")) == (None, b"commit")
    assert t.decode_commit(t.encode_commit(0, b"")) == (0, b"")
    assert t.decode_total(t.encode_total(3, 1 << 60)) == (3, 1 << 60)
    assert t.decode_total(None) == (0, 0)
    assert t.number_key(258) == b"\0\0\1\2"
