import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt import errors
from casckpt.state import paths
from tests import strategies


def exact(key):
    """A key with its type and bits, so that 1, True and 1.0 differ and NaNs compare."""
    if isinstance(key, tuple):
        return tuple, tuple(exact(part) for part in key)
    return type(key), struct.pack("<d", key) if type(key) is float else key


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(strategies.keys(), strategies.keys())
def test_distinct_keys_have_distinct_elements(one, other):
    assert (paths.element(one) == paths.element(other)) == (exact(one) == exact(other))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.text('a,()%/"2C8', max_size=3), max_size=3), st.lists(st.text('a,()%/"2C8', max_size=3), max_size=3))
def test_tuples_of_awkward_strings_have_distinct_elements(one, other):
    assert (paths.element(tuple(one)) == paths.element(tuple(other))) == (one == other)
    nested = (paths.element((tuple(one), "a")), paths.element((*one, "a")))
    assert nested[0] != nested[1]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(strategies.keys())
def test_every_element_is_utf8_and_has_no_separator(key):
    element = paths.element(key)
    assert element.encode() and "/" not in element


@pytest.mark.parametrize(
    ("key", "element"),
    [
        ("weight", "weight"),
        ("layer 1.weight-x", "layer 1.weight-x"),
        ("größe\n", "größe\n"),
        ("a/b%c", "a%2Fb%25c"),
        ("\ud800", "%ED%A0%80"),
        (0, "0"),
        (-7, "-7"),
        (2**70, "1180591620717411303424"),
        ("0", '"0"'),
        ("-7", '"-7"'),
        ("", '""'),
        ('"', '"%22"'),
        ('say "x"', 'say "x"'),
        (":none", '":none"'),
        (None, ":none"),
        (True, ":true"),
        (False, ":false"),
        (1.0, ":x3ff0000000000000"),
        (-0.0, ":x8000000000000000"),
        (b"\x00\xff", ":b00ff"),
        ((), ":t()"),
        ((0, "a", ("b,c", "")), ':t(0,a,:t(b%2Cc,""))'),
    ],
)
def test_elements_of_the_format_stay_as_they_are(key, element):
    assert paths.element(key) == element


def test_other_types_have_no_element():
    with pytest.raises(errors.UnsupportedKey):
        paths.element(frozenset())


def test_joining_below_the_root_adds_no_separator():
    assert paths.join("", "a") == "a"
    assert paths.join("a", "b") == "a/b"
