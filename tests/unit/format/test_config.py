"""The `format` file: what a store is, and which operations a release may do on it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import CasckptError, DamagedFile, NewerFormat
from casckpt.format.config import StoreFormat
from casckpt.format.ids import checksum

UUID = bytes(range(16))


def checked(text: bytes) -> bytes:
    """A file of these lines with a right check."""
    return text + b"check " + checksum(text).hex().encode() + b"\n"


def test_the_file_is_text_that_people_can_read() -> None:
    text = StoreFormat(UUID, write=("a", "b")).encode().decode()
    assert text.splitlines()[:6] == [
        *("casckpt store", "version 1", "uuid 000102030405060708090a0b0c0d0e0f"),
        *("read", "write a b", "gc"),
    ]


@pytest.mark.parametrize("features", [{}, {"read": ("a",)}, {"write": ("a", "b"), "gc": ("c",)}])
def test_a_format_reads_back(features: dict[str, tuple[str, ...]]) -> None:
    found = StoreFormat(UUID, **features)
    assert StoreFormat.decode(found.encode()) == found


def test_an_unknown_feature_forbids_its_operation_alone() -> None:
    found = StoreFormat(UUID, write=("future",))
    found.require("read")
    found.require("gc")
    with pytest.raises(NewerFormat, match="future"):
        found.require("write")


def test_a_feature_of_readers_forbids_everything() -> None:
    for operation in ("read", "write", "gc"):
        with pytest.raises(NewerFormat):
            StoreFormat(UUID, read=("future",)).require(operation)


def test_a_newer_version_is_said_before_anything_else() -> None:
    with pytest.raises(NewerFormat, match="format 2"):
        StoreFormat.decode(checked(b"casckpt store\nversion 2\nsomething new\n"))


@settings(max_examples=150)
@given(st.integers(0, len(StoreFormat(UUID).encode()) - 1), st.integers(1, 255))
def test_any_changed_byte_is_damage(at: int, change: int) -> None:
    data = bytearray(StoreFormat(UUID).encode())
    data[at] ^= change
    with pytest.raises(DamagedFile):
        StoreFormat.decode(bytes(data))


@pytest.mark.parametrize("length", range(0, len(StoreFormat(UUID).encode()), 7))
def test_a_file_cut_short_is_damage(length: int) -> None:
    with pytest.raises(DamagedFile):
        StoreFormat.decode(StoreFormat(UUID).encode()[:length])


HEAD = b"casckpt store\nversion 1\n"
REST = b"read\nwrite\ngc\n"
LINES = {
    "no lines": b"",
    "no version": b"casckpt store\n",
    "no uuid": HEAD + REST,
    "a short uuid": HEAD + b"uuid 00\n" + REST,
    "a uuid that is not hex": HEAD + b"uuid " + b"z" * 32 + b"\n" + REST,
    "a uuid with spaces": HEAD + b"uuid " + b"0 " * 15 + b"00\n" + REST,
    "no gc": HEAD + b"uuid " + b"0" * 32 + b"\nread\nwrite\n",
    "another first line": b"other store\nversion 1\nuuid " + b"0" * 32 + b"\n" + REST,
}


@pytest.mark.parametrize("text", LINES.values(), ids=LINES)
def test_a_file_with_a_right_check_and_wrong_lines_is_damage(text: bytes) -> None:
    with pytest.raises(DamagedFile):
        StoreFormat.decode(checked(text))


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_any_bytes_end_in_an_error_of_ours(data: bytes) -> None:
    for text in (data, checked(data), checked(HEAD + data), checked(HEAD + b"uuid " + data + b"\n" + REST)):
        try:
            StoreFormat.decode(text)
        except CasckptError:
            continue
