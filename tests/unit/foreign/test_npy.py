from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import MalformedFile
from casckpt.foreign.npy import looks_like, read_header
from tests.support import foreign
from tests.support.reader import BytesReader

BAD = dict(foreign.malformed_npy())
DTYPES = ["?", "i1", "<u2", "<i4", "<f8", ">f8", "<c16", "S3", "<U5", "<M8[ns]", "<m8[25s]", "V7", "<f2", "<c8", "u1"]


def written(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_of_numpy_reads_as_what_was_saved(dtype: str, version: tuple[int, int]) -> None:
    for array in (np.zeros((3, 4), dtype), np.asfortranarray(np.zeros((3, 4), dtype)), np.zeros((), dtype)):
        data = written(array, version)
        found = read_header(BytesReader(data))
        assert looks_like(data)
        assert np.dtype(found.descr) == array.dtype
        assert found.shape == array.shape
        assert found.nbytes == array.nbytes
        assert found.offset + found.nbytes == len(data)
        assert found.order == ("F" if array.ndim and array.flags.fnc else "C")


def test_structured_dtypes_count_every_field() -> None:
    dtype = np.dtype([("a", "<f4", (2, 3)), ("b", [("c", "u1"), ("d", "<i8")]), ("ä", "U2")], align=True)
    array = np.zeros(5, dtype)
    found = read_header(BytesReader(written(array)))
    assert found.nbytes == array.nbytes
    assert found.element == "bytes"


@pytest.mark.parametrize(
    ("dtype", "element"),
    [("?", "bool"), ("<f4", "float32"), (">f4", "bytes"), ("<c16", "complex128"), ("<M8[s]", "int64"), ("S8", "bytes")],
)
def test_element_types_are_those_of_the_store(dtype: str, element: str) -> None:
    assert read_header(BytesReader(written(np.zeros(3, dtype)))).element == element


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_file_is_refused_by_name(what: str) -> None:
    with pytest.raises(MalformedFile, match=r"x\.npy cannot be read as a npy file"):
        read_header(BytesReader(BAD[what], "x.npy"))


def test_there_are_thirty_malformed_files() -> None:
    assert len(BAD) >= 30


@settings(max_examples=300)
@given(st.integers(0, 90), st.binary(min_size=1, max_size=6))
def test_a_mutated_file_is_refused_or_read_as_numpy_reads_it(at: int, new: bytes) -> None:
    whole = written(np.arange(12, dtype="<f4").reshape(3, 4))
    data = whole[:at] + new + whole[at + len(new) :]
    try:
        found = read_header(BytesReader(data))
    except MalformedFile:
        return
    assert found.offset + found.nbytes <= len(data)
    expected = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    assert expected.shape == found.shape
    assert expected.nbytes == found.nbytes
