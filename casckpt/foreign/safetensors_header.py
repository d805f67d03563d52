"""Writes the header of a safetensors file, byte for byte as the safetensors library does.

Tensors are laid out widest dtype first, then by name; the header is compact JSON in that order, padded with spaces to
a multiple of 8. So every tensor lies on a multiple of its width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from casckpt.foreign.safetensors import DTYPES, HEADER_MAX

METADATA = "__metadata__"
"""The one name that no tensor may have."""

_ORDER = (
    *("BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    *("I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"),
)
_RANK = {name: number for number, name in enumerate(_ORDER)}
_BY_ELEMENT = {element: name for name, (_, element) in DTYPES.items() if element != "bytes"}


class Entry(NamedTuple):
    """A tensor to be written; `dtype` is one of `DTYPES`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def dtype_of(element: str) -> str | None:
    """What safetensors calls an element type of the store, None if it has no name for it."""
    return _BY_ELEMENT.get(element)


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """The order in which the tensors follow the header."""
    return sorted(entries, key=lambda entry: (-_RANK[entry.dtype], entry.name.encode()))


def encode_header(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes | None:
    """Everything that stands before the first tensor; None if it is longer than readers accept.

    Args:
        entries: as `in_order` gives them.
        metadata: texts by name.
    """
    found: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    at = 0
    for entry in entries:
        found[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [at, at + entry.nbytes],
        }
        at += entry.nbytes
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return None if len(text) > HEADER_MAX else len(text).to_bytes(8, "little") + text
