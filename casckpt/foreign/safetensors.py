"""The header of a safetensors file: which tensors it holds, and where their bytes are.

    u64 header length | JSON, padded with spaces | tensors, back to back

The rules are those of the safetensors library: a header of at most 100 MB that begins with `{` and has no key twice;
tensors in the order of their offsets touch each other, the first begins behind the header, the last ends the file.
So there are no holes, and no byte belongs to two tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from casckpt.foreign.reader import Reader, exactly, malformed

HEADER_MAX = 100_000_000
"""Longest header that the safetensors library reads."""

KIND = "safetensors"
DTYPES: Mapping[str, tuple[int, str]] = {
    "BOOL": (8, "bool"),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "U16": (16, "uint16"),
    "I16": (16, "int16"),
    "U32": (32, "uint32"),
    "I32": (32, "int32"),
    "U64": (64, "uint64"),
    "I64": (64, "int64"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "F32": (32, "float32"),
    "F64": (64, "float64"),
    "C64": (64, "complex64"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F4": (4, "bytes"),
    "F6_E2M3": (6, "bytes"),
    "F6_E3M2": (6, "bytes"),
}
"""Bits of an item, and the element type of the store, by the dtype's name in the header."""

_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_DIMS_MAX = 64
_SIZE_MAX = 1 << 63


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its bytes are [offset, offset + nbytes) of the file, row-major, little-endian.

    Args:
        dtype: one of `DTYPES`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def element(self) -> str:
        """Its element type in the store."""
        return DTYPES[self.dtype][1]


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself: tensors in the order of their offsets, and texts by name."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with these bytes (9 or more) may be one of safetensors."""
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and int.from_bytes(head[:_LENGTH_BYTES], "little") >= 2


def read_header(reader: Reader, limit: int = HEADER_MAX) -> Header:
    """The header of a file, checked as a whole; no tensor is read.

    Args:
        limit: longest header to read, in bytes; it may take 40 times its length of memory.

    Raises:
        MalformedFile: the file breaks a rule of the format, or its header is longer than `limit`.
    """
    length = int.from_bytes(exactly(reader, 0, _LENGTH_BYTES, KIND), "little")
    if length > min(limit, HEADER_MAX):
        raise malformed(reader, KIND, f"its header has {length} bytes, at most {min(limit, HEADER_MAX)} are read")
    entries = _entries(reader, exactly(reader, _LENGTH_BYTES, length, KIND))
    metadata = entries.pop(_METADATA, {})
    if type(metadata) is not dict or not set(map(type, metadata.values())) <= {str}:
        raise malformed(reader, KIND, "its metadata is not a map of texts")
    start = _LENGTH_BYTES + length
    tensors = [_tensor(reader, name, entry, start) for name, entry in entries.items()]
    # Empty tensors share their offset with a neighbour; they come before it.
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    end = start
    for tensor in tensors:
        if tensor.offset != end:
            raise malformed(reader, KIND, f"tensor {tensor.name!r} overlaps another or leaves a hole before it")
        end += tensor.nbytes
    if end != reader.size:
        raise malformed(reader, KIND, f"its tensors end at {end}, the file at {reader.size}")
    return Header(tuple(tensors), metadata)


def _entries(reader: Reader, text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise malformed(reader, KIND, "its header does not begin with {")
    try:
        found = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise malformed(reader, KIND, "its header is not JSON with unique keys") from error
    assert isinstance(found, dict)  # it begins with {
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _tensor(reader: Reader, name: str, entry: Any, start: int) -> Tensor:
    fields = entry if type(entry) is dict else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if type(dtype) is not str or dtype not in DTYPES:
        raise malformed(reader, KIND, f"tensor {name!r} has no known dtype")
    if not _is_counts(shape) or len(shape) > _DIMS_MAX or not _is_counts(offsets) or len(offsets) != 2:
        raise malformed(reader, KIND, f"the shape or the offsets of tensor {name!r} are not lists of numbers")
    bits = DTYPES[dtype][0]
    for size in shape:
        bits *= size
    begin, end = offsets
    if begin > end or bits != (end - begin) * 8:
        raise malformed(reader, KIND, f"tensor {name!r} has another length than its shape")
    return Tensor(name, dtype, tuple(shape), start + begin, end - begin)


def _is_counts(value: Any) -> TypeGuard[list[int]]:
    return type(value) is list and all(type(item) is int and 0 <= item < _SIZE_MAX for item in value)
