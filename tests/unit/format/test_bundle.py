from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import FormatError, IntegrityError
from casckpt.format.bundle import MAX_HEAD_BYTES, BundleHead
from casckpt.format.ids import CommitId, ObjectId, checksum

HEAD = BundleHead(
    1_790_000_000_000_000_000, "host:12", (CommitId(ObjectId(bytes(32))), CommitId(ObjectId(b"\x07" * 32)))
)

printable = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40)
ids = st.binary(min_size=32, max_size=32).map(ObjectId).map(CommitId)


def checked(text: bytes) -> bytes:
    return text + f"check {checksum(text).hex()}\n".encode()


@given(st.integers(0, 2**63 - 1), printable, st.lists(ids, unique=True, max_size=5))
def test_what_is_encoded_is_decoded(time_ns: int, by: str, needs: list[CommitId]) -> None:
    head = BundleHead(time_ns, by, tuple(sorted(needs)))
    assert BundleHead.decode(head.encode()) == head


def test_a_head_is_text_that_people_can_read() -> None:
    assert HEAD.encode().decode().splitlines()[:5] == [
        "casckpt bundle",
        "version 1",
        "time 1790000000000000000",
        "by host:12",
        f"needs {'00' * 32}",
    ]


@pytest.mark.parametrize(
    "head",
    [
        BundleHead(-1, "host"),
        BundleHead(0, "two\nlines"),
        BundleHead(0, "x" * 5000),
        BundleHead(0, "host", HEAD.needs[::-1]),
        BundleHead(0, "host", HEAD.needs[:1] * 2),
        BundleHead(0, "host", (CommitId(ObjectId(b"short")),)),
    ],
)
def test_what_would_not_be_read_back_is_not_written(head: BundleHead) -> None:
    with pytest.raises(IntegrityError):
        head.encode()


@given(st.integers(0, len(HEAD.encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, by: int) -> None:
    data = bytearray(HEAD.encode())
    data[at] ^= by
    with pytest.raises(IntegrityError):
        BundleHead.decode(bytes(data))


TEXT = HEAD.encode().rpartition(b"check ")[0]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"casckpt store\n" + TEXT.partition(b"\n")[2],
        TEXT.removesuffix(b"\n"),
        TEXT.replace(b"time", b"tide"),
        TEXT.replace(b"time 1", b"time -1"),
        TEXT.replace(b"by host:12", b"by \x1b[2J"),
        TEXT.replace(b"needs 0", b"wants 0"),
        TEXT.replace(b"07" * 32, b"07" * 31),
        TEXT + b"needs " + b"05" * 32 + b"\n",
        TEXT + b"needs " + b"FF" * 32 + b"\n",
        TEXT.replace(b"time 1790000000000000000\n", b""),
    ],
)
def test_other_lines_are_refused_though_their_check_is_right(text: bytes) -> None:
    with pytest.raises(IntegrityError):
        BundleHead.decode(checked(text))


def test_a_newer_version_is_said_to_be_one() -> None:
    with pytest.raises(FormatError, match="version 2"):
        BundleHead.decode(checked(TEXT.replace(b"version 1", b"version 2")))


def test_a_head_has_a_greatest_length() -> None:
    needs = b"".join(b"needs %064x\n" % number for number in range(MAX_HEAD_BYTES // 71 + 1))
    with pytest.raises(IntegrityError):
        BundleHead.decode(checked(TEXT.partition(b"needs")[0] + needs))
