from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from casckpt.foreign import cuts
from casckpt.foreign.cuts import Tensor
from tests.support import foreign
from tests.support.reader import BytesReader

SMALL = 256 << 10
ARRAYS = {
    "layers.0.weight": np.random.default_rng(0).standard_normal((300, 300), np.float32),
    "layers.1.weight": np.random.default_rng(1).integers(0, 9, 70_000, np.int64),
    "layers.1.bias": np.arange(1000, dtype=np.float32),
}
LARGE = [name for name, array in ARRAYS.items() if array.nbytes >= SMALL]
BAD = {
    **{f"safetensors: {what}": data for what, data in foreign.malformed_safetensors()},
    **{f"npy: {what}": data for what, data in foreign.malformed_npy()},
    **{f"zip: {what}": data for what, data in foreign.malformed_zip()},
}


def tensors(data: bytes) -> list[Tensor]:
    return cuts.tensors(BytesReader(data), SMALL)


def assert_large_are_found(data: bytes, elements: dict[str, str]) -> None:
    found = {data[one.offset : one.offset + one.nbytes]: one.element for one in tensors(data)}
    assert found == {ARRAYS[name].tobytes(): elements[name] for name in LARGE}


TYPED = {"layers.0.weight": "float32", "layers.1.weight": "int64"}
OPAQUE = dict.fromkeys(TYPED, "bytes")


def test_large_tensors_of_safetensors_are_found_with_their_types() -> None:
    assert_large_are_found(save(ARRAYS, {"format": "np"}), TYPED)


def test_large_arrays_of_npz_are_found_behind_their_headers() -> None:
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    assert_large_are_found(file.getvalue(), TYPED)


def test_large_storages_of_torch_are_found_without_a_look_at_the_pickle() -> None:
    file = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in ARRAYS.items()}, file)
    assert_large_are_found(file.getvalue(), OPAQUE)


def test_an_array_of_npy_is_found() -> None:
    file = io.BytesIO()
    np.save(file, ARRAYS["layers.0.weight"])
    (found,) = tensors(file.getvalue())
    assert (found.offset, found.nbytes, found.element) == (128, 360_000, "float32")


def test_what_is_compressed_or_encrypted_is_not_cut() -> None:
    assert tensors(foreign.plain_zip({"a": foreign.DATA}, zipfile.ZIP_DEFLATED)) == []
    stored = foreign.plain_zip({"a": foreign.DATA})
    flagged = bytearray(stored)
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        flagged[stored.index(mark) + at] |= 1
    assert len(tensors(stored)) == 1
    assert tensors(bytes(flagged)) == []


def test_a_member_with_a_broken_npy_header_is_cut_as_a_whole() -> None:
    (found,) = tensors(foreign.plain_zip({"a.npy": foreign.npy("{}")}))
    assert found.nbytes == len(foreign.npy("{}"))


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_file_is_opaque(what: str) -> None:
    assert tensors(BAD[what]) == []


@pytest.mark.parametrize("head", [b"", b"{", b"PK\3\4", b"\x93NUMPY", bytes(8) + b"{", b"\x89HDF\r\n\x1a\n", b"PAR1"])
def test_a_file_of_another_kind_is_opaque(head: bytes) -> None:
    assert tensors(head + foreign.DATA) == []


def peak_of(reader: BytesReader, found: int) -> int:
    """Most memory that looking for tensors takes, in bytes."""
    tracemalloc.start()
    assert len(cuts.tensors(reader, SMALL)) == found
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_table_of_many_megabytes_is_not_looked_into() -> None:
    header = b'{"w":' + b"[" * (5 << 20)
    assert peak_of(BytesReader(foreign.safetensors_text(header, foreign.DATA)), 0) < 64 << 10
    names = {f"{number:0200}": b"" for number in range(20_000)}
    assert peak_of(BytesReader(foreign.plain_zip({**names, "w": foreign.DATA})), 0) < 1 << 20


@pytest.mark.parametrize("filler", [b"[],", b"{},", b"0.5,", b'"",', b'{"a":0},', b"[[[[]]]],"])
def test_the_worst_table_that_is_looked_into_takes_bounded_memory(filler: bytes) -> None:
    header = b'{"w":[' + filler * ((1 << 20) // len(filler) - 10) + b"0]}"
    assert peak_of(BytesReader(foreign.safetensors_text(header, foreign.DATA)), 0) < 64 << 20


def test_tables_of_thousands_of_tensors_are_looked_into_in_bounded_memory() -> None:
    entries = {f"model.layers.{number}.weight": foreign.entry(0, 0) for number in range(9000)}
    data = foreign.safetensors({**entries, "w": foreign.entry(0, foreign.LARGE)}, foreign.DATA)
    assert peak_of(BytesReader(data), 1) < 64 << 20
    members = {f"archive/data/{number}": b"" for number in range(20_000)}
    assert peak_of(BytesReader(foreign.plain_zip({**members, "w": foreign.DATA})), 1) < 64 << 20


@settings(max_examples=60)
@given(st.sampled_from(["safetensors", "npz", "pt"]), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4))))
def test_tensors_of_a_mutated_file_lie_inside_it_and_apart(kind: str, edits: list[tuple[float, bytes]]) -> None:
    whole = WHOLE[kind]
    places = [at for at in range(len(whole)) if at < 400 or at > len(whole) - 400]
    data = bytearray(whole)
    for where, new in edits:
        at = places[min(int(where * len(places)), len(places) - 1)]
        data[at : at + len(new)] = new
    end = 0
    for found in tensors(bytes(data)):
        assert found.offset >= end
        end = found.offset + found.nbytes
    assert end <= len(data)


def _whole() -> dict[str, bytes]:
    npz, pt = io.BytesIO(), io.BytesIO()
    np.savez(npz, a=np.zeros(40_000), b=np.ones(50_000))
    torch.save({"a": torch.zeros(80_000), "b": torch.ones(80_000)}, pt)
    arrays = {"a": np.zeros(40_000), "b": np.ones(50_000)}
    return {"safetensors": save(arrays), "npz": npz.getvalue(), "pt": pt.getvalue()}


WHOLE = _whole()
