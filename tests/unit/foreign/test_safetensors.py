from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from casckpt.errors import MalformedFile
from casckpt.foreign.safetensors import DTYPES, looks_like, read_header
from casckpt.format.elements import element_code
from tests.support import foreign
from tests.support.reader import BytesReader

BAD = dict(foreign.malformed_safetensors())


def test_a_file_of_the_library_reads_as_what_was_saved() -> None:
    import numpy as np

    arrays = {"b": np.arange(6, dtype=np.int16).reshape(2, 3), "a": np.ones((2, 2), np.float32), "e": np.zeros((0, 4))}
    data = save({**arrays, "scalar": np.array(1.5)}, {"format": "np"})
    header = read_header(BytesReader(data))
    assert header.metadata == {"format": "np"}
    found = {tensor.name: tensor for tensor in header.tensors}
    assert [tensor.offset for tensor in header.tensors] == sorted(tensor.offset for tensor in header.tensors)
    for name, array in arrays.items():
        tensor = found[name]
        assert tensor.shape == array.shape
        assert data[tensor.offset : tensor.offset + tensor.nbytes] == array.tobytes()
    assert (found["a"].element, found["b"].element, found["scalar"].shape) == ("float32", "int16", ())


def test_every_dtype_has_an_element_type_of_its_own_width() -> None:
    for name, (bits, element) in DTYPES.items():
        entries = {"w": foreign.entry(0, bits, name, [8])}
        header = read_header(BytesReader(foreign.safetensors(entries, bytes(bits))))
        assert header.tensors[0].element == element
        assert element == "bytes" or element_code(element) > 0


def test_a_header_may_be_padded_with_spaces_and_hold_no_tensor() -> None:
    assert read_header(BytesReader(foreign.safetensors_text(b"{}   ", b""))).tensors == ()
    assert looks_like(foreign.safetensors_text(b"{}   ", b""))


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_file_is_refused_by_name(what: str) -> None:
    with pytest.raises(MalformedFile, match=r"x\.safetensors cannot be read as a safetensors file") as caught:
        read_header(BytesReader(BAD[what], "x.safetensors"))
    assert len(str(caught.value)) < 4096


def test_there_are_thirty_malformed_files() -> None:
    assert len(BAD) >= 30


def test_a_header_longer_than_asked_for_is_not_read() -> None:
    entries = {f"layer{number}": foreign.entry(0, 0) for number in range(1000)}
    data = foreign.safetensors(entries, b"")
    assert len(read_header(BytesReader(data)).tensors) == 1000
    with pytest.raises(MalformedFile, match="at most 1000 are read"):
        read_header(BytesReader(data), limit=1000)


class _Lying(BytesReader):
    size = 1 << 60

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = 1 << 60


def test_a_file_that_is_shorter_than_it_says_is_refused() -> None:
    with pytest.raises(MalformedFile):
        read_header(_Lying(foreign.safetensors({"w": foreign.entry(0, 8)}, bytes(8), 1 << 20)))


@settings(max_examples=200)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_mutated_file_is_refused_or_reads_without_holes_and_overlaps(at: int, new: bytes) -> None:
    entries = {"a": foreign.entry(0, 40, "F32", [10]), "b": foreign.entry(40, 60), "c": foreign.entry(60, 60)}
    whole = foreign.safetensors({**entries, "__metadata__": {"k": "v"}}, bytes(60))
    data = whole[:at] + new + whole[at + len(new) :]
    try:
        header = read_header(BytesReader(data))
    except MalformedFile:
        return
    end = 8 + int.from_bytes(data[:8], "little")
    for tensor in header.tensors:
        assert tensor.offset == end
        end += tensor.nbytes
    assert end == len(data)
    json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
