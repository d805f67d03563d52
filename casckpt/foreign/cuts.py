"""What to cut where: the large tensors inside a file, found by what the file holds, not by its name.

A tensor that is cut from its own start gives the chunks that it gives in a live state, whatever file it is in. Known
are safetensors, .npy, and zip archives with members that are not compressed, which is what .pt and .npz are. All else,
and whatever breaks a rule of its format, has no tensors: its bytes are opaque. The pickle in a .pt is bytes like any.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from casckpt.errors import MalformedFile
from casckpt.foreign import npy, safetensors, zips
from casckpt.foreign.reader import Reader, Window

_HEAD_BYTES = 16
_HEADER_MAX, _DIRECTORY_MAX = 1 << 20, 4 << 20
"""Longest header of safetensors and directory of a zip archive that are looked into: some 9 000 tensors and 60 000
members. Lists in lists, which a hostile header may be made of, take 40 times their length of memory."""


class Tensor(NamedTuple):
    """Bytes [offset, offset + nbytes) of a file are numbers of one element type, as the store calls it."""

    offset: int
    nbytes: int
    element: str


def tensors(reader: Reader, least: int) -> list[Tensor]:
    """The tensors of at least `least` bytes in a file, by offset; they lie inside of it and do not overlap.

    Args:
        reader: any file; nothing that it says of itself is believed.
    """
    return [tensor for tensor in _tensors(reader, least) if tensor.nbytes >= least]


def _tensors(reader: Reader, least: int) -> list[Tensor]:
    head = reader.read(0, _HEAD_BYTES)
    try:
        if safetensors.looks_like(head):
            header = safetensors.read_header(reader, _HEADER_MAX)
            return [Tensor(one.offset, one.nbytes, one.element) for one in header.tensors]
        if zips.looks_like(head):
            members = zips.read_members(reader, _DIRECTORY_MAX)
            return [_member(reader, member) for member in members if member.is_plain and member.stored >= least]
        if npy.looks_like(head):
            return [_array(reader, 0)]
    except MalformedFile:
        pass
    return []


def _member(reader: Reader, member: zips.Member) -> Tensor:
    """The data of a member: of the array in it if it is a .npy, else all of it."""
    inside = Window(reader, member.offset, member.stored, member.name)
    if npy.looks_like(inside.read(0, _HEAD_BYTES)):
        with contextlib.suppress(MalformedFile):
            return _array(inside, member.offset)
    return Tensor(member.offset, member.stored, "bytes")


def _array(reader: Reader, start: int) -> Tensor:
    array = npy.read_header(reader)
    return Tensor(start + array.offset, array.nbytes, array.element)
