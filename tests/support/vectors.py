"""Vectors of the format: values as JSON, and one reader per kind of file that turns bytes into such values."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

from casckpt.errors import IntegrityError, NewerFormat
from casckpt.format import frame, pack
from casckpt.format.canonical import decode as decode_canonical
from casckpt.format.commit import Commit
from casckpt.format.config import StoreFormat
from casckpt.format.decode import decode
from casckpt.format.entry import Entry
from casckpt.format.ids import Kind, checksum, object_id
from casckpt.format.layout import places
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.remote import RemoteRoot, push_of, root_key, segment_key
from casckpt.format.remote_index import Segment

LONG = 256
"""Byte strings longer than this are given by length and BLAKE3."""


def as_json(value: Any) -> Any:
    """A value as JSON, with bytes, floats and odd maps tagged: {"hex"}, {"float64"}, {"map"}."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return {"float64": struct.pack(">d", value).hex()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return {"hex": data.hex()} if len(data) <= LONG else {"bytes": len(data), "blake3": checksum(data).hex()}
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: as_json(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        if all(type(key) is str for key in value):
            return {key: as_json(item) for key, item in value.items()}
        return {"map": [[as_json(key), as_json(item)] for key, item in value.items()]}
    return [as_json(item) for item in value]


def from_json(value: Any) -> Any:
    """The value that `as_json` wrote (sequences are lists)."""
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        if set(value) == {"float64"}:
            return struct.unpack(">d", bytes.fromhex(value["float64"]))[0]
        if set(value) == {"map"}:
            return {from_json(key): from_json(item) for key, item in value["map"]}
        return {key: from_json(item) for key, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def plain_bytes(data: bytes, records: list[pack.Record]) -> list[bytes]:
    """Plain bytes of every record of a pack file, each compared with its check and its id.

    Raises:
        IntegrityError, FormatError: for the first record that is not right.
    """
    plains: list[bytes] = []
    for number, record in enumerate(records):
        stored = data[record.offset : record.offset + record.stored]
        if pack.check_of(record.codec, record.id, record.kind, stored) != record.check:
            raise IntegrityError(object=f"record {number}", problem="its check does not match")
        if record.kind not in set(Kind):
            plains.append(b"")  # of a newer release: it can be located and copied, not decoded
            continue
        bases = tuple(plains[number - distance] for distance in (record.base_1, record.base_2) if distance)
        plain = bytes(decode(record, stored, bases))
        if object_id(record.kind, plain) != record.id:
            raise IntegrityError(object=f"record {number}", problem="its id does not match")
        plains.append(plain)
    return plains


def read_pack(data: bytes, _: dict[str, bytes]) -> Any:
    """A pack: trailer, footer, every extent table, every record."""
    end = len(data) - pack.TRAILER_BYTES
    identity, offset, size = pack.decode_trailer(data[max(end, 0) :], len(data))
    contents = pack.decode_footer(data[: pack.BLOCK], data[offset : offset + size], offset, identity)
    required = pack.decode_header(data[: pack.BLOCK])
    plain_bytes(data, contents.records)
    extents, salvaged = [], []
    for at in range(pack.BLOCK, offset, pack.BLOCK):
        if pack.extent_bytes(data[at:offset]):
            records, previous = pack.decode_extent(data[at:offset], at, allow_bases=bool(required))
            extents.append({"offset": at, "previous": previous, "records": len(records)})
            salvaged += records
    if salvaged != contents.records:
        raise IntegrityError(object="a pack", problem="extents and footer differ")
    push = push_of(contents.hints)
    return {**as_json(contents), "required": required, "extents": extents, "push": as_json(push)}


def read_journal(data: bytes, context: dict[str, bytes]) -> Any:
    """A journal file from its start: frames, their entries, gaps and tail."""
    scan = frame.scan(memoryview(data), context["uuid"])
    frames = [
        {"seq": one.seq, "offset": one.offset, "hash": as_json(one.hash), "bytes": one.end - one.offset}
        for one in scan.frames
    ]
    entries = [Entry.decode(one.payload) for one in scan.frames]
    for one in entries:
        for record, stored in one.objects:
            if object_id(record.kind, bytes(decode(record, stored))) != record.id:
                raise IntegrityError(object="an object of a frame", problem="its id does not match")
    return {
        "frames": frames,
        "entries": [entry_as_json(one) for one in entries],
        "gaps": as_json(scan.gaps),
        "end": scan.end,
        "tail": scan.tail,
    }


def entry_as_json(entry: Entry) -> Any:
    """An entry; fields that the first vectors do not name, only where they say something."""
    found = as_json(entry)
    return {key: value for key, value in found.items() if value or key not in ("before", "marks", "undoes")}


def read_format(data: bytes, _: dict[str, bytes]) -> Any:
    """A `format` file, and which operations it allows to this release."""
    found = StoreFormat.decode(data)
    return {
        **as_json(found),
        "allows": [operation for operation in ("read", "write", "gc") if _allows(found, operation)],
    }


def _allows(found: StoreFormat, operation: str) -> bool:
    try:
        found.require(operation)
    except NewerFormat:
        return False
    return True


def read_component(data: bytes, context: dict[str, bytes]) -> Any:
    """A component, with the place of every blob if its structure is there."""
    component = Component.decode(data)
    found = {"id": as_json(object_id(Kind.COMPONENT, data)), **as_json(component)}
    if "structure" in context:
        structure = Structure.decode(context["structure"])
        found["places"] = [{type(place).__name__.lower(): as_json(place)} for place in places(structure, component)]
    return found


def read_page(data: bytes, context: dict[str, bytes]) -> Any:
    """A page: ids, then for explicit layouts as many lengths."""
    width = 36 if context["explicit"] else 32
    if not 0 < len(data) <= width * 2048 or len(data) % width:
        raise IntegrityError(object="a page", problem="its length does not fit")
    count = len(data) // width
    found = {"id": as_json(object_id(Kind.PAGE, data)), "ids": count}
    found |= {"first": as_json(data[:32]), "last": as_json(data[32 * count - 32 : 32 * count])}
    if context["explicit"]:
        found["plain"] = sum(struct.unpack(f"<{count}I", data[32 * count :]))
    return found


def _object(kind: Kind, cls: Any) -> Callable[[bytes, dict[str, bytes]], Any]:
    return lambda data, _: {"id": as_json(object_id(kind, data)), **as_json(cls.decode(data))}


def read_root(data: bytes, _: dict[str, bytes]) -> Any:
    """The root of a remote, with its key and the hash by which the next root names it."""
    root = RemoteRoot.decode(data)
    return {"key": root_key(root.seq), "hash": as_json(checksum(data)), **as_json(root)}


def read_segment(data: bytes, context: dict[str, bytes]) -> Any:
    """An index segment, with its key."""
    segment = Segment.decode(data)
    rows = list(segment.rows())
    if any(segment.find(row.id) != row for row in rows):
        raise IntegrityError(object="an index segment", problem="it does not find its rows")
    return {"key": segment_key(data, context["nonce"]), "packs": as_json(segment.packs), "rows": as_json(rows)}


READERS: dict[str, Callable[[bytes, dict[str, bytes]], Any]] = {
    "canonical": lambda data, _: as_json(decode_canonical(data, "a value")),
    "structure": _object(Kind.STRUCTURE, Structure),
    "component": read_component,
    "page": read_page,
    "tree": _object(Kind.TREE, Tree),
    "commit": _object(Kind.COMMIT, Commit),
    "pack": read_pack,
    "journal": read_journal,
    "format": read_format,
    "root": read_root,
    "segment": read_segment,
}
