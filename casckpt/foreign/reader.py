"""How the parsers see a file: a name for errors, a size, and bytes at an offset."""

from __future__ import annotations

from typing import Protocol

from casckpt.errors import MalformedFile


class Reader(Protocol):
    """Bytes of a foreign file at any offset."""

    @property
    def name(self) -> str:
        """What errors call the file."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`; fewer only where the file ends."""


class Window:
    """A part of a file as a file of its own, such as one member of an archive.

    Args:
        offset, size: the part; must lie inside the file.
        name: what errors call it.
    """

    def __init__(self, reader: Reader, offset: int, size: int, name: str) -> None:
        self._reader, self._offset = reader, offset
        self.name = name
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset` of the part; fewer only where the part ends."""
        return self._reader.read(self._offset + offset, max(0, min(length, self.size - offset)))


def exactly(reader: Reader, offset: int, length: int, kind: str) -> bytes:
    """`length` bytes at `offset`. Nothing is read, and no memory taken, for what lies behind the end.

    Raises:
        MalformedFile: the file is too short to be of this kind.
    """
    if 0 <= offset <= reader.size - length:
        data = reader.read(offset, length)
        if len(data) == length:
            return data
    raise malformed(reader, kind, f"{length} bytes at {offset} lie behind its end")


def malformed(reader: Reader, kind: str, problem: str) -> MalformedFile:
    """The error for a file that breaks a rule of its kind."""
    return MalformedFile(path=reader.name, kind=kind, problem=problem)
