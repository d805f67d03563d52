"""Encoder of plain byte planes (codecs 2 and 3): the writing side of `planes`, whose table of forms it follows.

Every plane is compressed on its own. One that zstd does not shrink by 2 % stays raw: trying costs an eighth of a
nanosecond per byte, less than any test for it. Where both low planes of words of 4 bytes stay raw, their bytes are
stored as they lay in the words, which saves the reader half of its joining.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from casckpt.errors import UsageError
from casckpt.format import limits
from casckpt.format.codec import worth
from casckpt.format.ids import Kind
from casckpt.format.planes import CLASSED, CONSTANT, LOW_PAIR, RAW, STREAM, ZSTD
from casckpt.format.words import Bytes, align, low_pairs, split

_Data = bytes | bytearray | memoryview
Stream = tuple[int, bytes | memoryview]
_SHORT = 16 << 10
"""Longer runs are copied by numpy, which lets go of the interpreter's lock; `bytes.join` would hold it."""
_CAPACITY = limits.MAX_OBJECT_BYTES[Kind.CHUNK]


class PlaneEncoder:
    """Encodes chunks by their planes. Not thread-safe: one per worker.

    Holds scratch of 2 MiB, of which small chunks touch little; allocates only frames of planes and what it returns.
    """

    def __init__(self, compress: Callable[[memoryview], bytes]) -> None:
        """Args: compress: from a plane to one zstd frame; used by this encoder alone."""
        self._compress = compress
        self._planes = np.empty(_CAPACITY, np.uint8)
        self._spare = np.empty(_CAPACITY, np.uint8)

    def encode(
        self,
        data: _Data,
        width: int,
        *,
        aligned: bool = False,
        head: bytes = b"",
        divided: Sequence[NDArray[np.intp]] = (),
    ) -> memoryview | None:
        """Stored bytes of a record of codec 2, or 3 if `aligned`; None if they would not save 2 %.

        Args:
            data: at most 1 MiB.
            width: of the words in bytes: 2, 4 or 8; 2 or 4 if aligned.
            head: what comes before the streams.
            divided: the numbers of the words of each class, each word once; a plane is then compressed by classes
                where that is shorter.
        """
        if len(data) > _CAPACITY:
            raise UsageError(problem=f"a chunk has at most {_CAPACITY} bytes, not {len(data)}")
        count = len(data) // width
        if count == 0:
            return None
        words = np.frombuffer(data, np.uint8, count * width)
        planes = self._planes[: count * width].reshape(width, count)
        split(words, planes)
        if aligned:
            align(planes[-1], planes[-2], self._spare)
        streams = [self._shorter(self.stream(plane), plane, divided) for plane in planes]
        if width == 4 and streams[0][0] == streams[1][0] == RAW:
            pairs = self._planes[: 2 * count].view("<u2")
            low_pairs(words, pairs)
            streams[:2] = [(LOW_PAIR, pairs.view(np.uint8).data)]
        tail = memoryview(data)[count * width :]
        return join_streams(streams, tail, len(data), head=head)

    def stream(self, plane: Bytes) -> Stream:
        """(form, bytes) of the shortest form of a plane."""
        # Both ends are looked at first: the whole plane is read only where it may be worth it.
        if plane[0] == plane[-1] and plane.min() == plane.max():
            return CONSTANT, plane[:1].data
        frame = self._compress(plane.data)
        return (ZSTD, frame) if worth(len(frame), len(plane)) else (RAW, plane.data)

    def _shorter(self, whole: Stream, plane: Bytes, divided: Sequence[NDArray[np.intp]]) -> Stream:
        """The stream of a plane as a whole, or by classes of its words."""
        if not divided or whole[0] == CONSTANT:
            return whole
        streams = [self.stream(plane[numbers]) for numbers in divided if len(numbers)]
        body = join_streams(streams, memoryview(b""), len(whole[1]))
        return whole if body is None else (CLASSED, body)


def join_streams(streams: list[Stream], tail: memoryview, plain: int, head: bytes = b"") -> memoryview | None:
    """Head, streams and tail, newly allocated; None if that would not save 2 % of so many plain bytes."""
    length = len(head) + sum(STREAM.size + len(body) for _, body in streams) + len(tail)
    if not worth(length, plain):
        return None
    room = np.empty(length, np.uint8)
    joined, end = room.data, len(head)
    joined[:end] = head
    for form, body in streams:
        STREAM.pack_into(joined, end, form, len(body))
        start, end = end + STREAM.size, end + STREAM.size + len(body)
        if len(body) < _SHORT:
            joined[start:end] = body
        else:
            np.copyto(room[start:end], np.frombuffer(body, np.uint8))
    joined[end:] = tail
    return joined
