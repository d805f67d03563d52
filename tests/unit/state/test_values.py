import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt import errors
from casckpt.state import paths, values
from casckpt.state.flat import DEPTH_MAX
from tests import strategies


@settings(max_examples=300, deadline=None, derandomize=True)
@given(strategies.keys())
def test_keys_come_back_exactly(key):
    entry = msgpack.unpackb(msgpack.packb(values.encode_key(key, "", 1)))
    assert paths.element(values.decode_key(entry, 1)) == paths.element(key)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers() | st.integers(0, 80).map(lambda bits: -(2**bits)) | st.integers(0, 80).map(lambda bits: 2**bits))
def test_big_ints_come_back_in_the_least_number_of_bytes(value):
    data = values.encode_int(value)
    assert values.decode_int(data) == value
    if len(data) > 1:
        with pytest.raises(OverflowError):
            value.to_bytes(len(data) - 1, "little", signed=True)


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63)])
def test_ints_of_64_bits_are_native(value):
    assert values.encode_value(value) == value


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_ints_beyond_64_bits_are_tagged(value):
    assert values.encode_value(value)[0] == "int"


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        (complex(-0.0, 2), ["complex", -0.0, 2.0]),
        ("x\udc80", ["str", b"x\xed\xb2\x80"]),
        (bytearray(b"ab"), ["bytearray", b"ab"]),
        (2**64, ["int", b"\0\0\0\0\0\0\0\0\x01"]),
    ],
)
def test_values_of_the_format_stay_as_they_are(value, entry):
    assert values.encode_value(value) == entry
    assert values.decode_value(entry) == value and type(values.decode_value(entry)) is type(value)


def test_nan_bits_of_complex_numbers_survive():
    nan = struct.unpack("<d", b"\x01\0\0\0\0\0\xf4\x7f")[0]
    back = values.decode_value(values.encode_value(complex(nan, 1)))
    assert struct.pack("<d", back.real) == struct.pack("<d", nan)


@pytest.mark.parametrize("key", [frozenset(), 1j, bytearray(), (1, [2]), type("Text", (str,), {})("a")])
def test_keys_of_other_types_are_refused_by_path(key):
    with pytest.raises(errors.UnsupportedKey, match=r"^config: keys of type"):
        values.encode_key(key, "config", 1)


@pytest.mark.parametrize("entry", [["x", 1], [], ["t"], ["s", b"a", b"b"], {}, [1], ["i"], [[]], 1j])
def test_unknown_keys_are_a_format_error(entry):
    with pytest.raises(errors.FormatError):
        values.decode_key(entry, 1)


@pytest.mark.parametrize("entry", [["t", 1], ["s", "a"], ["s", b"\xff"], ["i", 5], 2**64, -(2**63) - 1])
def test_broken_keys_are_an_integrity_error(entry):
    with pytest.raises(errors.IntegrityError):
        values.decode_key(entry, 1)


@pytest.mark.parametrize("entry", [["x", 1], [], ["int"], ["scalar", "<f4"], {}, [1], 1j, bytearray()])
def test_unknown_values_are_a_format_error(entry):
    with pytest.raises(errors.FormatError):
        values.decode_value(entry)


@pytest.mark.parametrize(
    "entry", [["complex", 1, 2.0], ["int", 1], ["str", b"\xff"], ["bytearray", "a"], ["scalar", b"<f4", b""], 2**64]
)
def test_broken_values_are_an_integrity_error(entry):
    with pytest.raises(errors.IntegrityError):
        values.decode_value(entry)


def test_tuples_in_keys_count_as_depth():
    key = 0
    for _ in range(DEPTH_MAX):
        key = (key,)
    with pytest.raises(errors.StateTooDeep):
        values.encode_key(key, "", 1)
    entry = 0
    for _ in range(DEPTH_MAX):
        entry = ["t", [entry]]
    with pytest.raises(errors.IntegrityError):
        values.decode_key(entry, 1)
    assert values.decode_key(values.encode_key(key[0], "", 1), 1) == key[0]
