from __future__ import annotations

import pytest

from casckpt.errors import MalformedFile
from casckpt.foreign.reader import Window, exactly
from tests.support.reader import BytesReader


def test_a_read_ends_where_the_file_ends() -> None:
    reader = BytesReader(b"0123456789", "x")
    assert (reader.name, reader.size) == ("x", 10)
    assert reader.read(8, 5) == b"89"
    assert reader.read(20, 5) == b""


def test_a_window_shows_nothing_around_it() -> None:
    window = Window(BytesReader(b"0123456789"), 3, 4, "part")
    assert (window.name, window.size) == ("part", 4)
    assert window.read(0, 100) == b"3456"
    assert window.read(2, 100) == b"56"
    assert window.read(4, 1) == b""
    assert window.read(9, 1) == b""


class _Strict(BytesReader):
    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size, "nothing behind the end is asked for"
        return super().read(offset, length)


def test_what_lies_behind_the_end_is_refused_and_never_asked_for() -> None:
    reader = _Strict(b"0123456789", "x.pt")
    assert exactly(reader, 7, 3, "zip") == b"789"
    assert exactly(reader, 10, 0, "zip") == b""
    for offset, length in ((8, 3), (11, 0), (-1, 2), (0, 1 << 60), (1 << 60, 1)):
        with pytest.raises(MalformedFile, match=r"x\.pt cannot be read as a zip file"):
            exactly(reader, offset, length, "zip")
