"""Values that are stored as something simpler: exact, in one order everywhere, and made without a class's own code."""

from __future__ import annotations

import dataclasses
import sys
import types
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import casckpt
from casckpt import errors
from casckpt.state.flatten import flatten
from casckpt.state.kinds import objects, table, times
from casckpt.state.kinds.opaque import Opaque
from casckpt.state.unflatten import Trust, unflatten
from casckpt.state.walk import walk
from tests import strategies_standard as standard
from tests.leafwise import assert_same_leaves
from tests.strategies import stored

NO_TRUST = Trust()
SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def through(state, trust=NO_TRUST):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", casckpt.OpaqueWarning)
        return unflatten(*stored(flatten(state)), trust)


def node_of(value):
    flat = flatten([value])
    return flat.root.node[1][0], flat.root.values


@pytest.mark.parametrize("row", standard.ROWS)
def test_every_row_comes_back_exactly(row):
    @SLOW
    @given(standard.ROWS[row])
    def check(value):
        back = through({"a": [value], "b": value})
        assert type(back["b"]) is type(value)
        assert_same_leaves(standard.plain({"a": [value], "b": value}), standard.plain(back))

    check()


@pytest.mark.parametrize("row", standard.ROWS)
def test_committed_again_a_value_looks_the_same(row):
    @settings(SLOW, max_examples=20)
    @given(standard.ROWS[row])
    def check(value):
        first, again = flatten([value]), flatten([through([value])[0]])
        assert (first.root.node, repr(first.root.values)) == (again.root.node, repr(again.root.values))

    check()


def test_the_table_has_a_row_for_every_kind():
    made = set()
    for strategy in standard.ROWS.values():

        @settings(SLOW, max_examples=30, database=None)
        @given(strategy)
        def collect(value):
            made.update(leaf.kind for leaf in walk("", flatten(value).root.node, flatten(value).root.values))

        collect()
    wanted = {*objects.MAKERS, *times.MAKERS, "registered"}
    assert wanted <= {word for kind in made for word in kind.split()}


def test_sets_are_sorted_whatever_order_they_are_walked_in():
    members = [3, "b", 2.5, None, ("x", 1), b"q", True, standard.Color.RED, standard.Point(1, 2), frozenset({1, 2})]
    assert node_of(set(members)) == node_of({*members[::-1]})
    assert node_of({10, 9, -1})[1] == [-1, 9, 10]
    assert node_of({"b", "a", "C"})[1] == ["C", "a", "b"]


def test_a_set_of_arrays_has_no_order():
    class Hashed:
        def __casckpt__(self):
            return np.zeros(2)

    Hashed.__qualname__ = "Hashed"
    with pytest.raises(errors.UnsupportedType, match=r"x: .*no order"):
        flatten({"x": {Hashed()}})


def test_an_object_is_the_same_state_as_its_state_dict():
    import torch

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    objects_, dicts = {"m": model, "o": [optimizer]}, {"m": model.state_dict(), "o": [optimizer.state_dict()]}
    mine, theirs = flatten(objects_), flatten(dicts)
    assert [part.node for part in mine.components] == [part.node for part in theirs.components]
    assert (mine.root.node, [one.name for one in mine.components]) == (theirs.root.node, ["m", "o"])
    assert flatten(model).root.node == flatten(model.state_dict()).root.node


def test_an_object_that_is_its_own_state_is_a_cycle():
    class Endless:
        def state_dict(self):
            return {"me": self}

        def load_state_dict(self, state):
            raise AssertionError

    with pytest.raises(errors.StateCycle, match="a/me"):
        flatten({"a": Endless()})


@dataclasses.dataclass
class Changing:
    a: int


def test_a_class_that_changed_is_opaque_and_commits_as_it_was(monkeypatch):
    flat = flatten({"cfg": Changing(1)})
    monkeypatch.delattr(sys.modules[__name__], "Changing")
    with pytest.warns(casckpt.OpaqueWarning, match="Changing"):
        back = unflatten(*stored(flat))["cfg"]
    assert isinstance(back, Opaque) and back.a == 1 and back.fields == {"a": 1} and "Changing" in repr(back)
    with pytest.raises(AttributeError, match="no field 'b'"):
        _ = back.b
    assert flatten({"cfg": back}).root.node == flat.root.node
    with pytest.raises(errors.UnknownType, match="Changing"):
        unflatten(*stored(flat), Trust(strict=True))


def test_no_module_is_imported_and_no_attribute_asked_for_a_class(monkeypatch):
    asked = []
    module = types.ModuleType("lazy_module")
    module.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    for name in ("lazy_module:Config", "antigravity:X", "os:path.join", ":", "", "builtins:", "os:environ.clear"):
        back = through_node(["reduced", "dataclass", name, ["dict", ["a"], [None]]], [1])
        assert isinstance(back, Opaque)
    assert not asked and "antigravity" not in sys.modules


def through_node(node, values, trust=NO_TRUST):
    from casckpt.state.unflatten import Part

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", casckpt.OpaqueWarning)
        return unflatten([Part("", node, values, lambda _: memoryview(b""), [])], [], trust)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=17),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
PARAMS = (
    st.none()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            *("list", "posix", "pure-windows", "5", "-1", "9" * 30, "types:SimpleNamespace", "argparse:Namespace"),
            *(
                f"{standard.__name__}:{name}"
                for name in ("Color", "Mode", "Config", "Frozen", "Point", "Frozen.Nested")
            ),
            *("builtins:int", "builtins:dict", "tests.strategies_standard:Protocol@3", "x@", "x@1", "x@99999999999999"),
        ]
    )
)


@settings(SLOW, max_examples=1500)
@given(st.sampled_from(sorted({*objects.MAKERS, "registered", "nonsense"})), PARAMS, HOSTILE)
def test_what_others_wrote_is_made_or_refused(kind, param, inner):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", casckpt.OpaqueWarning)
        try:
            table.make(kind, param, inner, strict=False, allow_pickle=False)
        except (errors.FormatError, errors.IntegrityError):
            return
        except (TypeError, KeyError, AssertionError):
            # What a class of the user makes of it is its own affair: only the two of these tests come here.
            assert kind == "registered"


def test_times_and_fractions_that_would_cost_much_are_refused_at_once():
    for kind, inner in (("fraction", ("1", "1e999999999")), ("timedelta", 10**40), ("decimal", "1_0")):
        with pytest.raises(errors.IntegrityError):
            table.make(kind, None, inner, strict=False, allow_pickle=False)


def test_entries_that_are_skipped_are_not_there():
    state = {"a": {"b": 1, "lock": object()}, "c": [object], "d": 2}
    with pytest.raises(errors.UnsupportedType):
        flatten(state)
    skips = {"a/lock", "c"}
    assert through_flat(flatten(state, skips.__contains__)) == {"a": {"b": 1}, "d": 2}


def through_flat(flat):
    return unflatten(*stored(flat))


def test_a_dict_that_is_skipped_is_not_asked_for_its_state():
    class Costly:
        def state_dict(self):
            raise AssertionError

        load_state_dict = state_dict

    assert through_flat(flatten({"a": Costly(), "b": 1}, {"a"}.__contains__)) == {"b": 1}


def test_pickles_are_made_and_run_only_where_that_is_agreed():
    state = {"x": [slice, 1], "y": np.arange(5)}
    with pytest.raises(errors.UnsupportedType, match=r"x/0.*allow_pickle"):
        flatten(state)
    flat = flatten(state, pickles={"x/0"}.__contains__)
    with pytest.raises(errors.FormatError, match="nobody agreed"):
        unflatten(*stored(flat))
    assert unflatten(*stored(flat), Trust(allow_pickle=True))["x"] == [slice, 1]


class Held:
    def __init__(self, array):
        self.array = array


def test_arrays_inside_a_pickle_are_blobs_of_their_own():
    array = np.arange(10_000, dtype=np.int64)
    flat = flatten({"x": Held(array)}, pickles=lambda _: True)
    sizes = [blob.nbytes for blob in flat.root.blobs]
    assert array.nbytes in sizes
    back = unflatten(*stored(flat), Trust(allow_pickle=True))["x"]
    assert np.array_equal(back.array, array) and back.array.flags.writeable


def test_what_cannot_be_pickled_is_refused_by_path():
    with pytest.raises(errors.UnsupportedType, match=r"x: .*cannot be pickled"):
        flatten({"x": lambda: 1}, pickles=lambda _: True)


def test_registering_is_checked():
    for wrong in ({"version": 0}, {"version": True}, {"name": "a@b"}, {"to": None}):
        with pytest.raises(errors.UsageError):
            casckpt.register(Held, **{"to": vars, "of": lambda stored, _: stored} | wrong)
    with pytest.raises(errors.UsageError, match="cannot be the name"):
        casckpt.register(Held, to=vars, of=vars, name=f"{standard.__name__}:Registered")


def test_a_newer_version_than_the_registered_one_is_opaque():
    name = f"{standard.__name__}:Registered"
    assert isinstance(through_node(["reduced", "registered", f"{name}@3", ["list", [None]]], [1]), Opaque)
    assert through_node(["reduced", "registered", f"{name}@1", ["list", [None]]], [1]).value == 1


def test_leaves_show_what_a_value_is_and_what_is_in_it():
    flat = flatten(
        {"cfg": standard.config(0.5, {1, 2}), "day": standard.Color.RED, "p": standard.Point(np.zeros(3), 1)}
    )
    shown = [(leaf.path, leaf.kind, leaf.dtype) for leaf in walk("", flat.root.node, flat.root.values)]
    module = standard.__name__
    assert shown == [
        ("cfg", "dataclass", f"{module}:Config"),
        ("cfg/lr", "float", None),
        ("cfg/extra", "set", None),
        ("cfg/extra/0", "int", None),
        ("cfg/extra/1", "int", None),
        ("day", "enum", f"{module}:Color"),
        ("p", "namedtuple", f"{module}:Point"),
        ("p/x", "array", "<f8"),
        ("p/y", "int", None),
    ]
