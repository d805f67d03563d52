"""Files of format v1 put together from their parts, the wrong ones too: for vectors and tests."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from hashlib import shake_256
from typing import Any

import zstandard

from casckpt.format import pack
from casckpt.format.canonical import encode
from casckpt.format.codec import Codec
from casckpt.format.entry import Entry
from casckpt.format.frame import NO_HASH, encode_frame
from casckpt.format.ids import Kind, ObjectId, checksum, object_id
from casckpt.format.pack import Record

UUID = bytes(range(16))


def noise(seed: str, length: int) -> bytes:
    """Incompressible bytes, the same everywhere."""
    return shake_256(seed.encode()).digest(length)


def identity(seed: str) -> ObjectId:
    """An id of nothing."""
    return ObjectId(noise(seed, 32))


def zstd(plain: bytes, **options: Any) -> bytes:
    """One zstd frame."""
    return zstandard.ZstdCompressor(level=3, **options).compress(plain)


class Pack:
    """A pack being built in memory: `add` records, `close` extents, then `finish`."""

    def __init__(self, *, deltas: bool = False) -> None:
        self.required = pack.HAS_DELTAS if deltas else 0
        self.body = bytearray(pack.encode_header(self.required))
        self.records: list[Record] = []
        self.extents: list[dict[str, int]] = []
        self._open: list[Record] = []
        self._closures: list[frozenset[int]] = []

    def add(
        self,
        plain: bytes,
        *,
        kind: int = Kind.CHUNK,
        codec: int = Codec.RAW,
        stored: bytes | None = None,
        element: int = 0,
        flags: int = 0,
        bases: Sequence[int] = (),
        weight: int = 0,
        **wrong: Any,
    ) -> int:
        """The number of a new record; `wrong` overrides any field of it."""
        if stored is None:
            stored = {Codec.RAW: lambda data: data, Codec.ZSTD: zstd}[Codec(codec)](plain)
        if not self._open:
            self.body += bytes(pack.pad(len(self.body)))
        self.body += bytes(pack.pad(len(self.body), pack.BLOCK if len(stored) >= pack.ALIGNED_FROM else pack.UNIT))
        number = len(self.records)
        closure = frozenset([number]).union(*(self._closures[base] for base in bases))
        first, second = [*(number - base for base in bases), 0, 0][:2]
        record = Record(
            id=wrong.pop("id", None) or object_id(kind, plain),
            offset=len(self.body),
            length=len(plain),
            stored=len(stored),
            kind=kind,
            codec=codec,
            element=element,
            flags=flags,
            base_1=first,
            base_2=second,
            cost=len(closure),
            weight=weight,
        )
        record = record._replace(check=pack.check_of(codec, record.id, kind, stored))._replace(**wrong)
        self._closures.append(closure)
        self.records.append(record)
        self._open.append(record)
        self.body += stored
        return number

    def close(self) -> None:
        """End the extent."""
        self.body += bytes(pack.pad(len(self.body)))
        previous = self.extents[-1]["offset"] if self.extents else 0
        self.extents.append({"offset": len(self.body), "previous": previous, "records": len(self._open)})
        self.body += pack.encode_extent(self._open, self._open[0].offset, previous)
        self._open = []

    def finish(self, hints: dict[str, Any] | None = None, header: bytes | None = None) -> bytes:
        """The file."""
        if self._open:
            self.close()
        if header is not None:
            self.body[: pack.BLOCK] = header
        self.id, end = pack.encode_end(bytes(self.body[: pack.BLOCK]), self.records, hints or {}, len(self.body))
        return bytes(self.body) + end


class Journal:
    """A journal file being built in memory."""

    def __init__(self, seq: int = 0, previous: bytes = NO_HASH, uuid: bytes = UUID) -> None:
        self.data = bytearray()
        self.uuid = uuid
        self.frames: list[dict[str, Any]] = []
        self._seq, self._previous = seq, previous

    def add(self, entry: Entry | bytes) -> bytes:
        """Append a frame; its bytes."""
        payload = entry if isinstance(entry, bytes) else entry.encode()
        frame = encode_frame(self.uuid, self._seq, self._previous, payload)
        self.frames.append({"seq": self._seq, "offset": len(self.data), "hash": frame[-32:], "bytes": len(frame)})
        self.data += frame
        self._seq, self._previous = self._seq + 1, frame[-32:]
        return frame


def entry_payload(head: dict[str, Any]) -> bytes:
    """The payload of an entry with this head and no objects."""
    raw = encode(head)
    return struct.pack("<I", len(raw)) + raw + bytes(-(len(raw) + 4) % 64)


def root_file(
    body: bytes, *, codec: int = 0, length: int | None = None, stored: bytes | None = None, major: int = 1
) -> bytes:
    """The file of a root with this body, right or wrong."""
    stored = body if stored is None else stored
    length = len(body) if length is None else length
    data = b"CKPTROOT" + struct.pack("<HHB3xII", major, 0, codec, length, len(stored)) + stored
    return data + checksum(data)


def segment_file(
    packs: Sequence[bytes],
    rows: Sequence[bytes],
    *,
    fan_out: Iterable[int] | None = None,
    counts: tuple[int, int] | None = None,
    major: int = 1,
    required: int = 0,
) -> bytes:
    """The file of an index segment of these encoded packs and rows, right or wrong."""
    if fan_out is None:
        fan_out = [sum(row[0] <= byte for row in rows) for byte in range(256)]
    head = struct.pack("<8sHHIIIQ", b"CKPTSEGM", major, 0, required, *(counts or (len(packs), len(rows))), 0)
    data = head + b"".join(packs) + struct.pack("<256I", *fan_out) + b"".join(rows)
    return data + checksum(data)
