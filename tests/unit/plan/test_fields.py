"""Configurations side by side, against what Python says of the values."""

import math
import pickle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.canonical import encode
from casckpt.plan.fields import MISSING, FieldDifference, differences, flattened, metadata_differences

PLAIN = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=3)
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def test_a_config_is_one_field_a_path() -> None:
    config = {
        "optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "layers": [{"dim": 8}, []], "none": None, "empty": {},
    }  # fmt: skip
    assert flattened(config) == {
        "optim.lr": 0.1, "optim.betas": [0.9, 0.95], "layers[0].dim": 8, "layers[1]": [], "none": None, "empty": {},
    }  # fmt: skip
    assert flattened(7) == {"": 7}
    assert flattened(MISSING) == {}


def test_keys_that_would_be_ambiguous_are_told_apart() -> None:
    config = {"a.b": 1, "a": {"b": 2, "[0]": 3}, "": 4, 5: 5, "5": 6}
    assert flattened(config) == {'"a.b"': 1, "a.b": 2, 'a."[0]"': 3, '""': 4, "(5)": 5, "5": 6}


def test_fields_are_in_one_differ_or_are_equal() -> None:
    left = {"lr": 0.1, "seed": 7, "warmup": None, "old": True}
    right = {"lr": 0.3, "seed": 7, "warmup": 2000}
    found = differences([left, right])
    assert found.different == (
        FieldDifference("lr", (0.1, 0.3)),
        FieldDifference("old", (True, MISSING)),
        FieldDifference("warmup", (None, 2000)),
    )
    assert found.equal == 1
    assert found.to_dict()["different"][1] == {"path": "old", "values": [True, None], "missing": [1]}


def test_differences_are_plain_for_json() -> None:
    found = differences([[b"\xff", math.nan, 1, "a"], [math.inf]])
    assert found.to_dict()["different"][0]["values"] == [["ff", "NaN", 1, "a"], ["Infinity"]]


def test_values_are_the_same_by_type_and_bits() -> None:
    left = {"a": 1, "b": 1, "c": math.nan, "d": [1, math.nan], "e": "1"}
    right = {"a": 1.0, "b": True, "c": math.nan, "d": [1, math.nan], "e": 1}
    assert [field.path for field in differences([left, right]).different] == ["a", "b", "e"]


def test_a_side_without_a_config_lacks_every_field() -> None:
    found = metadata_differences([{"config": {"lr": 1}}, {}, {"config": {"lr": 1}, "code": "abc"}])
    assert found.config.different == (FieldDifference("lr", (1, MISSING, 1)),)
    assert found.code.different == (FieldDifference("", (MISSING, MISSING, "abc")),)
    assert found.data == found.environment == ((), 0)
    assert not found.is_empty
    assert metadata_differences([{"config": 1}, {"config": 1}]).is_empty


def test_values_nested_deeper_than_calls_are_flattened() -> None:
    value: Any = 1
    for _ in range(900):
        value = {"a": [value, value] if value == 1 else [value]}
    [(path, inner)] = flattened(value).items()
    assert inner == [1, 1]
    assert path.count("a[0]") == 899


def test_what_is_missing_stays_so_through_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert repr(MISSING) == "MISSING"


@given(NESTED, NESTED)
def test_two_values_have_no_difference_only_if_they_are_the_same(left: Any, right: Any) -> None:
    same = encode(left) == encode(right)
    assert (not differences([left, right]).different) == same
    assert not differences([left, left]).different


@given(NESTED, NESTED)
def test_every_field_is_counted_once(left: Any, right: Any) -> None:
    found = differences([left, right])
    paths = {*flattened(left), *flattened(right)}
    assert {field.path for field in found.different} <= paths
    assert len(found.different) + found.equal == len(paths)
    for field in found.different:
        assert field.values[0] is MISSING or encode(field.values[0]) == encode(flattened(left)[field.path])
