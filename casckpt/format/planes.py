"""Decoders of byte planes, deltas and small residuals (codecs 2-6). Specification: format-v1.md, section 7."""

from __future__ import annotations

_Data = bytes | bytearray | memoryview


def decode(codec: int, stored: _Data, length: int, element: int) -> bytes:
    """Plain bytes of a record of codec 2 or 3."""
    raise NotImplementedError


def decode_delta(codec: int, stored: _Data, length: int, element: int, bases: tuple[_Data, ...], weight: int) -> bytes:
    """Plain bytes of a record of codec 4, 5 or 6 from the plain bytes of its one or two bases."""
    raise NotImplementedError
