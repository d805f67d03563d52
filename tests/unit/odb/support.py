"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator

from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.ids import Kind, object_id
from casckpt.odb.repository import Repository, initialize
from casckpt.storage.base import Storage, read_exact, write_all
from casckpt.storage.memory import MemoryStorage
from tests.support.build import noise

NOW = 1_700_000_000_000_000_000


def new_repository(storage: Storage | None = None) -> Repository:
    """An empty store, opened."""
    storage = MemoryStorage() if storage is None else storage
    initialize(storage, time_ns=NOW, by="test")
    return Repository(storage)


def raw(plain: bytes, kind: Kind = Kind.CHUNK) -> tuple[p.Record, bytes]:
    """The record of an object that is stored as it is, without a place."""
    identity = object_id(kind, plain)
    check = p.check_of(Codec.RAW, identity, kind, plain)
    return p.Record(identity, 0, len(plain), len(plain), kind, check=check), plain


def chunks(*lengths: int) -> Iterator[bytes]:
    """Incompressible bytes of these lengths, no two alike."""
    for number, length in enumerate(lengths):
        yield noise(f"chunk {number} of {lengths}", length)


def content(storage: Storage, name: str) -> bytes:
    """All bytes of a file."""
    file = storage.open_read(name)
    try:
        return read_exact(file, 0, file.size())
    finally:
        file.close()


def put_file(storage: Storage, name: str, data: bytes) -> None:
    """A file with these bytes, in place of what had the name."""
    if storage.size(name) is not None:
        storage.unlink(name)
    file = storage.create(name)
    write_all(file, data, 0)
    file.close()
