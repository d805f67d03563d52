"""Canonical msgpack: one value has one byte string, and no other is read."""

import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import IntegrityError
from casckpt.format.canonical import Fields, decode, decode_known, encode, encode_sorted

SCALARS = (
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=40), st.binary(max_size=40)),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
)
VALUES = st.recursive(
    st.one_of(*SCALARS),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5) | st.binary(max_size=3), inner),
    max_leaves=20,
)


@settings(max_examples=150)
@given(VALUES)
def test_what_is_encoded_decodes_to_the_same_bytes(value: object) -> None:
    data = encode(value)
    assert encode(decode(data, "a value")) == data


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=8), st.randoms())
def test_the_order_of_a_map_does_not_change_its_bytes(value: dict[str, int], random: object) -> None:
    items = list(value.items())
    random.shuffle(items)
    small = {key: item % 2**63 for key, item in value.items()}
    assert encode({key: small[key] for key, _ in items}) == encode(small)


@settings(max_examples=300)
@given(st.binary(max_size=40))
def test_any_bytes_are_canonical_or_an_integrity_error(data: bytes) -> None:
    try:
        value = decode(data, "a value")
    except IntegrityError:
        return
    assert encode(value) == data


@settings(max_examples=200)
@given(VALUES, st.data())
def test_a_changed_byte_never_reads_as_the_same_value(value: object, data: st.DataObject) -> None:
    right = encode(value)
    at = data.draw(st.integers(0, len(right) - 1))
    wrong = right[:at] + bytes([right[at] ^ data.draw(st.integers(1, 255))]) + right[at + 1 :]
    try:
        assert encode(decode(wrong, "a value")) == wrong
    except IntegrityError:
        return


def test_sorted_maps_may_skip_the_walk() -> None:
    assert encode_sorted({"a": 1, "b": (2,)}) == encode({"b": [2], "a": 1})


def test_a_view_decodes_like_bytes() -> None:
    data = encode({"a": b"xyz"})
    assert decode(memoryview(data), "a value") == decode(bytearray(data), "a value") == {"a": b"xyz"}


@pytest.mark.parametrize("data", [b"\x91" * 5000 + b"\xc0", b"\x81\x00" * 5000 + b"\xc0", b"\x91" * 100_000])
def test_nesting_without_end_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(data, "a value")


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xc6", b"\xdb"])
def test_counts_that_the_bytes_do_not_back_are_refused(head: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(head + b"\x7f\xff\xff\xff" + bytes(100), "a value")


@pytest.mark.parametrize("code", [-128, -1, 0, 1, 127])
def test_no_extension_type_is_read(code: int) -> None:
    for size in (1, 2, 4, 8, 12, 16):
        with pytest.raises(IntegrityError):
            decode(msgpack.packb(msgpack.ExtType(code, bytes(size))) if code >= 0 else _ext(code, size), "a value")


def _ext(code: int, size: int) -> bytes:
    return struct.pack(">BBb", 0xC7, size, code) + bytes(size)


def test_the_error_names_the_object() -> None:
    with pytest.raises(IntegrityError, match="a commit object"):
        decode(b"", "a commit object")


class TestFields:
    def test_a_field_of_another_type_is_refused(self) -> None:
        fields = Fields({"flag": True, "text": "x", "id": bytes(32)}, "a thing")
        assert fields.need("text", str) == "x"
        assert fields.get("none", int) is None
        assert fields.get("none", int, 7) == 7
        for key, kind in (("flag", int), ("text", bytes), ("id", str)):
            with pytest.raises(IntegrityError, match=f"a thing.*{key}"):
                fields.get(key, kind)

    def test_a_missing_field_is_refused_when_it_is_needed(self) -> None:
        with pytest.raises(IntegrityError, match="missing"):
            Fields({}, "a thing").need("text", str)

    @pytest.mark.parametrize("value", [None, [], "text", {1: 2}, {b"a": 1}])
    def test_only_maps_with_text_keys_have_fields(self, value: object) -> None:
        with pytest.raises(IntegrityError):
            Fields(value, "a thing")

    def test_ids_have_thirty_two_bytes(self) -> None:
        fields = Fields({"one": bytes(32), "short": bytes(31), "list": [bytes(32)], "bad": [bytes(32), bytes(33)]}, "x")
        assert fields.id("one") == bytes(32)
        assert fields.id("none") is None
        assert fields.ids("list") == (bytes(32),)
        assert fields.ids("none") == ()
        with pytest.raises(IntegrityError):
            fields.id("short")
        with pytest.raises(IntegrityError):
            fields.ids("bad")

    def test_unknown_fields_are_kept_unless_they_are_critical(self) -> None:
        assert Fields({"a": 1, "b": 2}, "x").unknown(frozenset("a")) == {"b": 2}
        with pytest.raises(IntegrityError, match="!c"):
            Fields({"a": 1, "!c": None}, "x").unknown(frozenset("a"))
        assert Fields({"!c": 1}, "x").unknown(frozenset(("!c",))) == {}


@settings(max_examples=100)
@given(VALUES)
def test_what_was_accepted_once_is_read_the_same_without_the_checks(value: object) -> None:
    data = encode(value)
    assert encode(decode_known(data, "a value")) == data


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81", b"\xc7\x01\x05\x00"])
def test_what_is_no_msgpack_is_an_integrity_error_without_the_checks_too(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_known(data, "a value")
