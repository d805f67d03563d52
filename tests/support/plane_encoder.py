"""Encoders of codecs 2-7, written from the text of the format: for vectors and property tests, not for speed."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import zstandard

from casckpt.format.codec import Codec
from casckpt.format.elements import word_bytes
from casckpt.format.planes import CLASSED, CONSTANT, LOW_PAIR, RAW, ZSTD
from tests.support.plane_decoder import class_of

_TUNED = zstandard.ZstdCompressionParameters.from_level(1, hash_log=6, min_match=7)


def stream(form: int, body: bytes) -> bytes:
    """One stream: its form, its length, its bytes."""
    return struct.pack("<BI", form, len(body)) + body


def zstd(plain: bytes) -> bytes:
    """One zstd frame."""
    return zstandard.ZstdCompressor(compression_params=_TUNED).compress(plain)


def coded(plain: bytes, form: int | None = None) -> bytes:
    """A stream of these bytes in the form asked for, else in the shortest of raw, zstd and constant."""
    if form == CONSTANT or (form is None and len(set(plain)) == 1):
        assert len(set(plain)) == 1
        return stream(CONSTANT, plain[:1])
    packed = zstd(plain) if form != RAW else plain
    if form == ZSTD or (form is None and len(packed) < 0.98 * len(plain)):
        return stream(ZSTD, packed)
    return stream(RAW, plain)


def encode(codec: int, plain: bytes, element: int, forms: Sequence[int | None] = ()) -> bytes:
    """Stored bytes of codec 2 or 3; `forms` asks for a form per stream."""
    width = word_bytes(element)
    words, tail = _words(plain, width)
    planes = _split(words, width)
    if codec == Codec.ALIGNED_PLANES:
        high, low = planes[-1], planes[-2]
        planes[-1] = (high << 1) | (low >> 7)
        planes[-2] = (low & 0x7F) | (high & 0x80)
    return _streams(planes, forms) + tail


def encode_delta(
    codec: int,
    plain: bytes,
    element: int,
    bases: Sequence[bytes],
    weight: int = 0,
    forms: Sequence[int | None] = (),
    cuts: Sequence[bytes] = (b"", b""),
) -> bytes:
    """Stored bytes of codec 4 to 7 against one base, or two with a weight; planes of codec 7 may be CLASSED."""
    width = word_bytes(element)
    words, tail = _words(plain, width)
    head = b"".join(bytes([len(one)]) + one for one in cuts) if codec == Codec.CLASSED_PLANES else b""
    if not len(words):
        return head + tail
    residual = words - predicted(bases, weight, width)
    if codec in (Codec.DELTA_PLANES, Codec.CLASSED_PLANES):
        bias = np.array([int.from_bytes(b"\x80" * width, "little")], f"<u{width}")
        rows = [[int(word) for word in _words(base, width)[0]] for base in bases]
        near = zip(*rows, strict=True)
        classes = np.array([class_of(others, weight, width, cuts) for others in near]) if head else None
        return head + _streams(_split(residual + bias, width), forms, classes) + tail
    return _small(residual, 2 if codec == Codec.RESIDUAL_2BIT else 4, forms) + tail


def predicted(bases: Sequence[bytes], weight: int, width: int) -> np.ndarray:
    """The prediction in integers of Python, word by word."""
    words = [[int(word) for word in _words(base, width)[0]] for base in bases]
    modulus = 1 << 8 * width
    if len(words) == 1:
        return np.array(words[0], f"<u{width}")
    found = []
    for first, second in zip(*words, strict=True):
        step = _signed(second - first, modulus)
        step = step >> 1 if weight == 8 else _signed(step * weight, modulus) >> 4
        found.append((first + step) % modulus)
    return np.array(found, f"<u{width}")


def _signed(value: int, modulus: int) -> int:
    return (value + modulus // 2) % modulus - modulus // 2


def _words(plain: bytes, width: int) -> tuple[np.ndarray, bytes]:
    whole = len(plain) // width * width
    return np.frombuffer(plain[:whole], f"<u{width}"), plain[whole:]


def _split(words: np.ndarray, width: int) -> list[np.ndarray]:
    return list(words.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T)


def classed(plane: np.ndarray, classes: np.ndarray) -> bytes:
    """A plane by its classes, each in the shortest form."""
    return stream(CLASSED, b"".join(coded(plane[classes == one].tobytes()) for one in np.unique(classes)))


def _streams(planes: list[np.ndarray], forms: Sequence[int | None], classes: np.ndarray | None = None) -> bytes:
    if not len(planes[0]):
        return b""
    asked = list(forms)
    parts = []
    if asked[:1] == [LOW_PAIR]:
        parts.append(stream(LOW_PAIR, np.stack(planes[:2], axis=1).tobytes()))
        asked, planes = asked[1:], planes[2:]
    asked = [*asked, *[None] * len(planes)][: len(planes)]
    for plane, form in zip(planes, asked, strict=True):
        divide = form == CLASSED and classes is not None
        parts.append(classed(plane, classes) if divide else coded(plane.tobytes(), form))
    return b"".join(parts)


def _small(residual: np.ndarray, bits: int, forms: Sequence[int | None]) -> bytes:
    centre, escape, per_byte = (1 << bits - 1) - 1, (1 << bits) - 1, 8 // bits
    symbols = [min((int(word) + centre) % 65536, escape) for word in residual]
    symbols += [centre] * (-len(symbols) % per_byte)
    packed = bytes(
        sum(symbol << bits * place for place, symbol in enumerate(symbols[at : at + per_byte]))
        for at in range(0, len(symbols), per_byte)
    )
    escapes = residual[np.array(symbols[: len(residual)]) == escape]
    planes = [np.frombuffer(packed, np.uint8)] + (_split(escapes, 2) if len(escapes) else [])
    return _streams(planes, forms)
