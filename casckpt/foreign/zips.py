"""The members of a zip archive, which is what .pt and .npz files are: names, sizes, and where the bytes lie.

    local header | data    for each member, then    central directory | [zip64 end, its locator] | end

A reader of zip files has a choice wherever two places say the same thing. Here both must agree: the end record, the
directory and each local header; members must not overlap, and no name comes twice. Only archives that begin at the
start of the file and end at its end are read. Nothing is decompressed, and a name is never used as a path.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from casckpt.foreign.reader import Reader, exactly, malformed

KIND = "zip"
DIRECTORY_MAX = 64 << 20
"""Longest central directory to read unless told otherwise; enough for half a million members."""

STORED = 0
"""The method of members that are not compressed."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ZIP64 = 1
_ENCRYPTED, _LATER, _UTF8 = 1, 8, 0x800
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_COMMENT_MAX = 0xFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its stored bytes are [offset, offset + stored) of the file.

    Args:
        method: 0 for stored as they are; others are compressed.
        crc: CRC-32 of its plain bytes, as the directory says; nobody compared it.
        nbytes: plain bytes, as the directory says; equal to `stored` for a member that is neither compressed nor
            encrypted (checked).
    """

    name: str
    method: int
    crc: int
    encrypted: bool
    offset: int
    stored: int
    nbytes: int

    @property
    def is_plain(self) -> bool:
        """Whether its bytes lie in the file as they are."""
        return self.method == STORED and not self.encrypted


class _Directory(NamedTuple):
    offset: int
    size: int
    members: int


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with these bytes (4 or more) may be a zip archive with members."""
    return head.startswith(b"PK\3\4")


def read_members(reader: Reader, limit: int = DIRECTORY_MAX) -> tuple[Member, ...]:
    """The members of an archive in the order of their bytes; the directory and all local headers are checked.

    Args:
        limit: longest central directory to read, in bytes; it takes about ten times its length of memory.

    Raises:
        MalformedFile: the file breaks a rule of the format, or one of those above.
    """
    where = _directory(reader)
    if where.size > limit or where.members * _CENTRAL.size > where.size:
        raise malformed(reader, KIND, f"a directory of {where.members} members in {where.size} bytes is not read")
    members = list(_central(reader, where))
    members.sort(key=lambda member: member[1])
    found, end, names = [], 0, set()
    for entry, start in members:
        if start < end:
            raise malformed(reader, KIND, f"member {entry.name!r} overlaps another")
        member = _local(reader, entry, start, where.offset)
        end = member.offset + member.stored
        if member.name in names:
            raise malformed(reader, KIND, f"two members are called {member.name!r}")
        names.add(member.name)
        found.append(member)
    return tuple(found)


def _directory(reader: Reader) -> _Directory:
    """Where the central directory lies, from the records at the end of the file."""
    reach = min(reader.size, _END.size + _COMMENT_MAX)
    tail = exactly(reader, reader.size - reach, reach, KIND)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > reach:
        raise malformed(reader, KIND, "it has no end record")
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, at)
    position = reader.size - reach + at
    if position + _END.size + comment != reader.size:
        raise malformed(reader, KIND, "something follows its end record")
    # Writers such as torch's make a zip64 end record also where every number fits into the other one.
    has_wide = tail[max(0, at - _LOCATOR.size) : at].startswith(b"PK\6\7")
    if has_wide or _FULL16 in (disk, first_disk, here, count) or _FULL32 in (size, offset):
        position, wide = _directory64(reader, position)
        narrow = (disk, here, count, size, offset)
        full = (_FULL16, _FULL16, _FULL16, _FULL32, _FULL32)
        if any(value not in (most, real) for value, most, real in zip(narrow, full, wide, strict=True)):
            raise malformed(reader, KIND, "its two end records differ")
        disk, here, count, size, offset = wide
    if disk or here != count:
        raise malformed(reader, KIND, "it is one part of several")
    if offset + size != position:
        raise malformed(reader, KIND, "its directory is not where its end record says")
    return _Directory(offset, size, count)


def _directory64(reader: Reader, end: int) -> tuple[int, tuple[int, int, int, int, int]]:
    """The zip64 end record: its own offset, and (disk, members here, members, bytes and offset of the directory)."""
    magic, disk, position, disks = _LOCATOR.unpack(exactly(reader, end - _LOCATOR.size, _LOCATOR.size, KIND))
    if magic != b"PK\6\7" or disk or disks > 1 or position + _END64.size > end - _LOCATOR.size:
        raise malformed(reader, KIND, "it has no zip64 locator")
    record = _END64.unpack(exactly(reader, position, _END64.size, KIND))
    magic, length, _, _, disk, first_disk, here, count, size, offset = record
    if magic != b"PK\6\6" or position + 12 + length != end - _LOCATOR.size or first_disk:
        raise malformed(reader, KIND, "it has no zip64 end record")
    return position, (disk, here, count, size, offset)


def _central(reader: Reader, where: _Directory) -> Iterator[tuple[Member, int]]:
    """The members as the directory lists them, each with the offset of its local header; their own is not known."""
    data, at = exactly(reader, where.offset, where.size, KIND), 0
    for _ in range(where.members):
        if at + _CENTRAL.size > len(data):
            raise malformed(reader, KIND, "its directory is cut short")
        magic, _, _, flags, method, _, _, crc, stored, nbytes, *lengths = _CENTRAL.unpack_from(data, at)
        name_bytes, extra_bytes, comment_bytes, disk, _, _, start = lengths
        at += _CENTRAL.size
        stop = at + name_bytes + extra_bytes + comment_bytes
        if magic != b"PK\1\2" or disk not in (0, _FULL16) or stop > len(data):
            raise malformed(reader, KIND, "its directory has a record that is none")
        raw, extra = data[at : at + name_bytes], data[at + name_bytes : at + name_bytes + extra_bytes]
        nbytes, stored, start = _widened(reader, extra, nbytes, stored, start)
        encrypted = bool(flags & _ENCRYPTED)
        member = Member(_name(reader, raw, flags), method, crc, encrypted, 0, stored, nbytes)
        if member.is_plain and stored != nbytes:
            raise malformed(reader, KIND, f"member {member.name!r} has two lengths")
        yield member, start
        at = stop
    if at != len(data):
        raise malformed(reader, KIND, "its directory has more records than it says")


def _widened(reader: Reader, extra: bytes, *narrow: int) -> list[int]:
    """Sizes and an offset; those that are 0xFFFFFFFF are in the zip64 field, in this order."""
    if _FULL32 not in narrow:
        return list(narrow)
    at, field = 0, b""
    while at + 4 <= len(extra) and not field:
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length] if kind == _ZIP64 else b""
        at += 4 + length
    wide = []
    for value in narrow:
        if value == _FULL32 and len(field) >= 8:
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        elif value == _FULL32:
            raise malformed(reader, KIND, "a size of 4 GiB or more is not said")
        wide.append(value)
    return wide


def _name(reader: Reader, raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise malformed(reader, KIND, "the name of a member is not UTF-8") from error


def _local(reader: Reader, entry: Member, start: int, end: int) -> Member:
    """A member with the offset of its data, its local header compared with what the directory said."""
    header = exactly(reader, start, _LOCAL.size, KIND)
    magic, _, flags, method, _, _, crc, stored, nbytes, name_bytes, extra_bytes = _LOCAL.unpack(header)
    rest = exactly(reader, start + _LOCAL.size, name_bytes + extra_bytes, KIND)
    same = magic == b"PK\3\4" and method == entry.method and bool(flags & _ENCRYPTED) == entry.encrypted
    if not same or _name(reader, rest[:name_bytes], flags) != entry.name:
        raise malformed(reader, KIND, f"member {entry.name!r} has another header than in the directory")
    nbytes, stored = _widened(reader, rest[name_bytes:], nbytes, stored)
    # With a data descriptor the numbers follow the data, and the header has zeros, or in some writers the numbers too.
    later = (0,) if flags & _LATER else ()
    pairs = ((crc, entry.crc), (stored, entry.stored), (nbytes, entry.nbytes))
    if any(said not in (real, *later) for said, real in pairs):
        raise malformed(reader, KIND, f"member {entry.name!r} has another size than in the directory")
    offset = start + _LOCAL.size + len(rest)
    if offset + entry.stored > end:
        raise malformed(reader, KIND, f"member {entry.name!r} reaches into the directory")
    return Member(entry.name, entry.method, entry.crc, entry.encrypted, offset, entry.stored, entry.nbytes)
