"""Ids: plain BLAKE3 for chunks, one derivation context for every other kind."""

import pytest
from blake3 import blake3

from casckpt.errors import UsageError
from casckpt.format.ids import Kind, checksum, object_id, pack_id, parse_id, path_hash, short_id


def test_a_chunk_is_named_by_its_plain_blake3() -> None:
    assert object_id(Kind.CHUNK, b"casckpt") == blake3(b"casckpt").digest() == checksum(b"cas", b"ckpt")


def test_the_same_bytes_have_another_id_under_every_kind() -> None:
    names = {object_id(kind, b"casckpt") for kind in Kind} | {pack_id(b"casckpt", b"")}
    assert len(names) == len(Kind) + 1


def test_the_context_of_a_kind_is_its_name() -> None:
    for kind in set(Kind) - {Kind.CHUNK}:
        context = f"casckpt v1 {kind.name.lower()}"
        assert object_id(kind, b"x") == blake3(b"x", derive_key_context=context).digest()
    assert pack_id(b"ab", b"c") == blake3(b"abc", derive_key_context="casckpt v1 pack").digest()


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_may_be_hashed(wrap: type) -> None:
    assert object_id(Kind.TREE, wrap(b"xyz")) == object_id(Kind.TREE, b"xyz")


def test_path_hashes_are_the_first_eight_bytes_little_endian() -> None:
    assert path_hash("é/w") == int.from_bytes(blake3("é/w".encode()).digest()[:8], "little")


def test_an_id_reads_back_from_its_hex() -> None:
    name = object_id(Kind.TREE, b"")
    assert parse_id(name.hex()) == name
    assert short_id(name) == name.hex()[:12]


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, " " + "0" * 63, "٠" * 64])
def test_other_text_is_no_id(text: str) -> None:
    with pytest.raises(UsageError):
        parse_id(text)
