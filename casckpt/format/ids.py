"""Ids: BLAKE3-256 names of content, one key-derivation context per kind of object.

The id of a chunk is the plain BLAKE3 of its bytes, so anyone can check it with `b3sum`. Every other kind uses
BLAKE3's key derivation with the context `casckpt v1 <kind>`, so that no object can pass for one of another kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NewType

from blake3 import blake3

from casckpt.errors import UsageError

ObjectId = NewType("ObjectId", bytes)
ChunkId = NewType("ChunkId", ObjectId)
TreeId = NewType("TreeId", ObjectId)
CommitId = NewType("CommitId", ObjectId)
PackId = NewType("PackId", bytes)

ID_BYTES = 32
_Data = bytes | bytearray | memoryview


class Kind(IntEnum):
    """Kind of an object, as stored in its record."""

    CHUNK = 0
    PAGE = 1
    STRUCTURE = 2
    COMPONENT = 3
    TREE = 4
    COMMIT = 5
    META = 6


_CONTEXTS: dict[int, str] = {kind: f"casckpt v1 {kind.name.lower()}" for kind in Kind if kind is not Kind.CHUNK}


def object_id(kind: int, data: _Data) -> ObjectId:
    """The id of an object of a known kind with these plain bytes. Releases the GIL for large data."""
    if kind == Kind.CHUNK:
        return ObjectId(blake3(data).digest())
    return ObjectId(blake3(data, derive_key_context=_CONTEXTS[kind]).digest())


def pack_id(header: _Data, footer: _Data) -> PackId:
    """The id of a pack: it binds the header block and the footer, and through the footer's checks every record."""
    hasher = blake3(derive_key_context="casckpt v1 pack")
    hasher.update(header)
    hasher.update(footer)
    return PackId(hasher.digest())


def checksum(*parts: _Data) -> bytes:
    """Plain BLAKE3-256 of the parts joined: for frames, tables and checks, which are not content."""
    return checksum_of(parts)


def checksum_of(parts: Iterable[_Data]) -> bytes:
    """Like `checksum`, of parts that are made one by one."""
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def path_hash(path: str) -> int:
    """First 8 bytes, little-endian, of the BLAKE3 of a canonical path: decides where groups end."""
    return int.from_bytes(blake3(path.encode()).digest(length=8), "little")


def parse_id(text: str) -> ObjectId:
    """The id written as 64 lowercase hex digits.

    Raises:
        UsageError: if the text is anything else.
    """
    if len(text) == 2 * ID_BYTES and set(text) <= set("0123456789abcdef"):
        return ObjectId(bytes.fromhex(text))
    raise UsageError(problem=f"{text!r} is not an id of 64 lowercase hex digits")


def short_id(identity: bytes) -> str:
    """The first 12 hex digits of an id, as shown to people."""
    return identity[:6].hex()
