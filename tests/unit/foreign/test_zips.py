from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import MalformedFile
from casckpt.foreign.zips import looks_like, read_members
from tests.support import foreign
from tests.support.reader import BytesReader

BAD = dict(foreign.malformed_zip())


class _Pipe(io.RawIOBase):
    """A file that cannot be sought, so that its writer puts the sizes behind the data."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


def check(data: bytes) -> None:
    """The members are those that the standard library finds, with their bytes."""
    assert looks_like(data)
    found = {member.name: member for member in read_members(BytesReader(data))}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert set(found) == set(archive.namelist())
        for info in archive.infolist():
            member = found[info.filename]
            assert (member.crc, member.method, member.nbytes) == (info.CRC, info.compress_type, info.file_size)
            if member.is_plain:
                assert data[member.offset : member.offset + member.stored] == archive.read(info)


def test_archives_of_the_standard_library_are_read() -> None:
    check(foreign.plain_zip({"a": b"1", "folder/": b"", "ü/b": b"22", "empty": b""}))
    check(foreign.plain_zip({"a": bytes(1000)}, zipfile.ZIP_DEFLATED))


def test_archives_written_into_a_pipe_are_read() -> None:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a", b"123")
        with archive.open("b", "w", force_zip64=True) as file:
            file.write(b"4" * 100)
    check(pipe.data)


def test_archives_of_numpy_and_torch_are_read() -> None:
    file = io.BytesIO()
    np.savez(file, x=np.arange(10), y=np.ones((2, 3)))
    check(file.getvalue())
    file = io.BytesIO()
    torch.save({"w": torch.ones(1000), "b": torch.ones(3)}, file)
    check(file.getvalue())


def test_an_archive_may_end_with_a_comment() -> None:
    data = foreign.plain_zip({"a": b"1"})
    check(data[:-2] + struct.pack("<H", 5) + b"notes")


def test_members_come_in_the_order_of_their_bytes() -> None:
    data = foreign.plain_zip({"b": b"1" * 50, "a": b"2" * 50})
    members = read_members(BytesReader(data))
    assert [member.name for member in members] == ["b", "a"]
    assert members[0].offset + members[0].stored <= members[1].offset


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_archive_is_refused_by_name(what: str) -> None:
    with pytest.raises(MalformedFile, match=r"x\.pt cannot be read as a zip file"):
        read_members(BytesReader(BAD[what], "x.pt"))


def test_there_are_thirty_malformed_archives() -> None:
    assert len(BAD) >= 30


def test_a_directory_longer_than_asked_for_is_not_read() -> None:
    data = foreign.plain_zip({f"member{number}": b"" for number in range(100)})
    assert len(read_members(BytesReader(data))) == 100
    with pytest.raises(MalformedFile, match="is not read"):
        read_members(BytesReader(data), limit=1000)


@settings(max_examples=300)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_mutated_archive_is_refused_or_its_members_lie_apart(at: int, new: bytes) -> None:
    whole = foreign.plain_zip({"a": b"1" * 60, "b": b"2" * 60, "c": b""})
    data = whole[:at] + new + whole[at + len(new) :]
    try:
        members = read_members(BytesReader(data))
    except MalformedFile:
        return
    end = 0
    for member in members:
        assert member.offset >= end
        end = member.offset + member.stored
    assert end <= len(data)


# ---- archives beyond 4 GiB, of which only the tables are there

FULL = 0xFFFFFFFF
SIZE = 5 << 30
NAME, LAST = b"a/data/0", b"a/data/1"


class Huge:
    """An archive of one member of 5 GiB, all zeros, and one of 3 bytes behind it."""

    name = "huge"

    def __init__(
        self,
        *,
        local: tuple[int, int] = (SIZE, SIZE),
        central: tuple[int, int] = (SIZE, SIZE),
        offset: int | None = None,
        members: int = 2,
        position: int = 0,
    ) -> None:
        wide = struct.pack("<2H2Q", 1, 16, *local)
        first = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 7, FULL, FULL, len(NAME), len(wide)) + NAME + wide
        self.data_at = len(first)
        start = len(first) + SIZE
        second = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 8, 3, 3, len(LAST), 0) + LAST + b"abc"
        wide = struct.pack("<2H2Q", 1, 16, *central)
        directory = _central(NAME, 7, FULL, FULL, 0, wide)
        directory += _central(LAST, 8, 3, 3, FULL, struct.pack("<2HQ", 1, 8, start if offset is None else offset))
        at = start + len(second)
        end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, members, members, len(directory), at)
        end += struct.pack("<4sIQI", b"PK\6\7", 0, at + len(directory) + position, 1)
        end += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), FULL, 0)
        self.parts = {0: first, start: second + directory + end}
        self.size = start + len(second) + len(directory) + len(end)

    def read(self, offset: int, length: int) -> bytes:
        for start, part in self.parts.items():
            if start <= offset < start + len(part):
                return part[offset - start : offset - start + length]
        last = max(self.parts)
        assert offset + length == self.size, "data was read"  # else it is the end record that is looked for
        return bytes(last - offset) + self.parts[last]


def _central(name: bytes, crc: int, stored: int, nbytes: int, start: int, extra: bytes) -> bytes:
    lengths = (len(name), len(extra), 0)
    head = struct.pack("<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 0, 0, 0, crc, stored, nbytes, *lengths, 0, 0, 0, start)
    return head + name + extra


def test_members_beyond_4_gib_are_found_without_a_look_at_their_bytes() -> None:
    made = Huge()
    first, second = read_members(made)
    assert (first.name, first.offset, first.stored, first.nbytes) == ("a/data/0", made.data_at, SIZE, SIZE)
    assert (second.name, second.offset - second.stored) == ("a/data/1", SIZE + made.data_at + 30 + len(LAST) - 3)


@pytest.mark.parametrize(
    "lie",
    [
        {"local": (SIZE - 1, SIZE - 1)},
        {"central": (SIZE, SIZE - 1)},
        {"central": (SIZE + 1, SIZE + 1)},
        {"central": (1 << 63, 1 << 63), "local": (1 << 63, 1 << 63)},
        {"offset": (1 << 64) - 1},
        {"offset": 0},
        {"offset": 5 << 29},
        {"members": 3},
        {"members": 1},
        {"members": 1 << 60},
        {"position": 1},
        {"position": -100},
    ],
    ids=str,
)
def test_lies_in_the_wide_fields_are_refused(lie: dict[str, Any]) -> None:
    class Lying(Huge):
        def read(self, offset: int, length: int) -> bytes:
            try:
                return super().read(offset, length)
            except AssertionError:
                return bytes(length)  # a place in the member of zeros

    with pytest.raises(MalformedFile):
        read_members(Lying(**lie))
