"""From plain bytes of a chunk to stored bytes: the best codec without bases for its element type.

    float32, bfloat16                   aligned planes
    other words of 2, 4 and 8 bytes     planes
    1 byte                              zstd, tuned from 64 KiB on
    opaque bytes, less than 1 KiB       zstd at level 3

What does not save 2 % stays raw. float64 has its exponent across two planes as well, but aligning makes it larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from casckpt.format.codec import Codec, compressor, worth
from casckpt.format.elements import element_code, element_name, word_bytes

if TYPE_CHECKING:
    from casckpt.format.plane_encode import PlaneEncoder

SAMPLE_BYTES = 64 << 10
PLANES_FROM = 1 << 10
"""Shorter chunks are one zstd frame: planes take five times as long for the 50 to 100 bytes that they save."""
TUNED_FROM = 64 << 10
"""Shorter chunks of single bytes may repeat in ways that only a longer search finds; they cost little time."""

_Data = bytes | bytearray | memoryview
_ALIGNED = (element_code("float32"), element_code("bfloat16"))


class Encoder:
    """Encodes chunks. Not thread-safe: one per worker, kept, since its scratch and tables are worth reusing.

    The interpreter's lock is released while bytes are moved and compressed.
    """

    def __init__(self) -> None:
        self._dense = compressor()
        self._tuned = compressor(tuned=True)
        self._planes: PlaneEncoder | None = None

    def encode(self, data: _Data, element: int) -> tuple[Codec, _Data]:
        """Codec and stored bytes of a chunk; the chunk itself if no codec saves 2 %.

        Args:
            data: at most 1 MiB of contiguous bytes. Read, and kept only as the result.
            element: element type code; an unknown one stands for opaque bytes.
        """
        width = word_bytes(element)
        if width > 1 and len(data) >= PLANES_FROM:
            codec = Codec.ALIGNED_PLANES if element in _ALIGNED else Codec.PLANES
            planes = self._plane_encoder().encode(data, width, aligned=codec == Codec.ALIGNED_PLANES)
            return (Codec.RAW, data) if planes is None else (codec, planes)
        opaque = element_name(element) == "bytes"
        frame = (self._dense if opaque or len(data) < TUNED_FROM else self._tuned)(data)
        return (Codec.ZSTD, frame) if worth(len(frame), len(data)) else (Codec.RAW, data)

    def sample_ratio(self, data: _Data, element: int) -> float:
        """Stored length over plain length of the middle 64 KiB, encoded in the same way; 1 if they stay raw.

        Args:
            data, element: as for `encode`; not empty.
        """
        # The middle begins on a word, also on one of complex128.
        start = max(len(data) - SAMPLE_BYTES, 0) // 2 // 16 * 16
        sample = memoryview(data)[start : start + SAMPLE_BYTES]
        return len(self.encode(sample, element)[1]) / len(sample)

    def _plane_encoder(self) -> PlaneEncoder:
        if self._planes is None:
            from casckpt.format.plane_encode import PlaneEncoder

            self._planes = PlaneEncoder(self._tuned)
        return self._planes
