"""Headers of safetensors files, as the library writes them and as our own parser reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from casckpt.foreign import safetensors
from casckpt.foreign.safetensors_header import Entry, dtype_of, encode_header, in_order
from tests.support.reader import BytesReader

TENSORS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(["F64", "BF16", "U8", "I32", "BOOL", "C64"]), st.lists(st.integers(0, 3), max_size=3)),
    max_size=6,
)


@given(
    TENSORS, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.text('ab"é'), max_size=2)
)
def test_what_is_written_is_read(tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str]) -> None:
    entries = []
    for name, (dtype, shape) in tensors.items():
        nbytes = safetensors.DTYPES[dtype][0] // 8
        for size in shape:
            nbytes *= size
        entries.append(Entry(name, dtype, tuple(shape), nbytes))
    entries = in_order(entries)
    start = encode_header(entries, metadata)
    assert start is not None and len(start) % 8 == 0
    found = safetensors.read_header(BytesReader(start + bytes(sum(entry.nbytes for entry in entries))))
    assert {(one.name, one.dtype, one.shape, one.nbytes) for one in found.tensors} == set(map(tuple, entries))
    assert found.metadata == metadata
    for one in found.tensors:
        assert one.offset % (safetensors.DTYPES[one.dtype][0] // 8) == 0


def test_the_widest_dtype_comes_first_then_the_name() -> None:
    entries = [
        Entry("b", "U8", (1,), 1),
        Entry("z", "F64", (1,), 8),
        Entry("a", "U8", (1,), 1),
        Entry("c", "F32", (1,), 4),
    ]
    assert [entry.name for entry in in_order(entries)] == ["z", "c", "a", "b"]


def test_a_header_that_readers_refuse_is_not_made() -> None:
    assert encode_header([Entry("x" * safetensors.HEADER_MAX, "U8", (1,), 1)], {}) is None


def test_every_element_type_with_a_name_has_that_of_the_parser() -> None:
    for name, (_, element) in safetensors.DTYPES.items():
        if element != "bytes":
            assert dtype_of(element) == name
    assert dtype_of("bytes") is None and dtype_of("complex128") is None
