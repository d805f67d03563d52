"""A foreign file that is in memory, for the parsers."""

from __future__ import annotations


class BytesReader:
    """A file that is in memory.

    Args:
        data: the bytes; kept, not copied.
        name: what errors call it.
    """

    def __init__(self, data: bytes | memoryview, name: str = "the file") -> None:
        self._data = memoryview(data)
        self.name = name
        self.size = len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`; fewer only where the file ends."""
        return bytes(self._data[offset : offset + length])
