import dataclasses
import functools
import gc
import io
import subprocess
import sys
import weakref
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch

from casckpt import errors
from casckpt.state.flat import DEPTH_MAX, PARTS_MAX
from casckpt.state.flatten import flatten


def test_container_children_of_a_root_dict_are_components():
    flat = flatten({"step": 3, "model": {"w": 1.5}, 7: [True], "t": (), "name": "x"})
    assert flat.root.node == [
        "dict",
        ["step", "model", 7, "t", "name"],
        [None, ["part", 0], ["part", 1], ["part", 2], None],
    ]
    assert flat.root.values == [3, "x"]
    assert [(part.name, part.node, part.values) for part in flat.components] == [
        ("model", ["dict", ["w"], [None]], [1.5]),
        ("7", ["list", [None]], [True]),
        ("t", ["tuple", []], []),
    ]


@pytest.mark.parametrize("count", [1, PARTS_MAX])
def test_up_to_64_containers_are_components(count):
    assert len(flatten({f"k{i}": {} for i in range(count)}).components) == count


@pytest.mark.parametrize(
    "state",
    [{f"k{i}": {} for i in range(PARTS_MAX + 1)}, {"a": 1, "b": "x"}, {}, [{}, {}], ({"a": 1},), 5],
    ids=["65", "none", "empty", "list", "tuple", "leaf"],
)
def test_any_other_root_is_one_component(state):
    assert flatten(state).components == ()


def test_metadata_of_the_root_is_no_component():
    state = OrderedDict(a={})
    state._metadata = OrderedDict(version=1)
    flat = flatten(state)
    assert flat.root.node == ["odict", ["a"], [["part", 0]], ["odict", ["version"], [None]]]
    assert flat.root.values == [1]


def test_blobs_are_numbered_by_path_as_bytes():
    state = {"b": np.ones(3), "a": torch.ones(3), "é": b"x" * 2000, "Z": "y" * 2000, "a/": [0] * 100, "a0": np.ones(1)}
    flat = flatten(state)
    assert [blob.path for blob in flat.root.blobs] == ["Z", "a", "a0", "b", "é"]
    assert [blob.path for blob in flat.components[0].blobs] == ["a%2F"]
    assert flat.root.node[2][0][4] == 3


def test_a_shared_blob_is_named_by_its_first_path():
    x = torch.arange(4.0)
    flat = flatten({"z": x, "b": x[1:], "m": {"c": x, "a": x}})
    assert [blob.path for blob in flat.root.blobs] == ["b"]
    assert [blob.path for blob in flat.components[0].blobs] == ["m/a"]
    assert flat.links == (((0, 0), (1, 0)),)
    assert flat.root.blobs[0].source is flat.components[0].blobs[0].source


def test_long_text_and_bytes_are_blobs_and_short_ones_are_values():
    flat = flatten(
        ["x" * 1024, "x" * 1025, "é" * 512, "é" * 513, b"x" * 1024, b"x" * 1025, bytearray(1025), "\ud800" * 342]
    )
    assert [child and child[0] for child in flat.root.node[1]] == [
        None,
        "str",
        None,
        "str",
        None,
        "bytes",
        "bytearray",
        "str",
    ]
    assert [blob.nbytes for blob in flat.root.blobs] == [1025, 1026, 1025, 1025, 1026]


@pytest.mark.parametrize(
    ("values", "element"),
    [([1] * 65, "int64"), ([-(2**63)] * 65, "int64"), ([0.5] * 65, "float64"), ([True] * 65, "bool")],
)
def test_long_lists_of_one_number_type_are_packed(values, element):
    flat = flatten([values])
    assert flat.root.node == ["list", [["numbers", element, 65, 0]]]
    assert flat.root.blobs[0].element == element


@pytest.mark.parametrize(
    "values", [[1] * 64, [1, True] * 40, [1, 1.0] * 40, [2**63] * 65, (1,) * 65, [None] * 65, ["a"] * 65]
)
def test_other_lists_are_not_packed(values):
    assert flatten([values]).root.node[1][0][0] == type(values).__name__


def test_blobs_show_the_states_own_memory():
    x, text = torch.zeros(4), bytearray(2000)
    flat = flatten({"x": x, "text": text})
    x[0], text[0] = 1.0, 7
    assert bytes(flat.root.blobs[1].read(0, 4)) == np.float32(1).tobytes()
    assert flat.root.blobs[0].read(0, 1)[0] == 7
    assert flat.root.blobs[1].read(0, 16).readonly


def test_memory_outlives_the_state_and_replaced_storages():
    parameter = torch.nn.Parameter(torch.full((1 << 16,), 3.0))
    flat = flatten({"p": parameter, "a": np.full(1 << 16, 3.0)})
    parameter.data = torch.zeros(1)
    del parameter
    piece = flat.root.blobs[0].read(8, 16)
    expected = flat.root.blobs[1].read(0, 4)
    del flat
    assert np.frombuffer(piece, np.float64).tolist() == [3.0]
    assert np.frombuffer(expected, np.float32).tolist() == [3.0]


def test_memory_is_free_as_soon_as_the_flat_state_is_gone():
    array, base = np.zeros(8), np.zeros(8)
    refs = [weakref.ref(base), weakref.ref(array)]
    gc.disable()
    try:
        flat = flatten({"a": array, "m": {"t": torch.from_numpy(base)}})
        del array, base, flat
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


def test_elements_of_blobs_are_named_for_their_encoding():
    kinds = {
        "a": (torch.zeros(2, dtype=torch.bfloat16), "bfloat16"),
        "b": (torch.zeros(2, dtype=torch.float8_e4m3fn), "float8_e4m3fn"),
        "c": (torch.zeros(2, dtype=torch.bool), "bool"),
        "d": (np.zeros(2, "<u4"), "uint32"),
        "e": (np.zeros(2, ">u4"), "bytes"),
        "f": (np.zeros(2, "<M8[s]"), "int64"),
        "g": (np.zeros(2, "U3"), "bytes"),
        "h": (np.zeros(2, "V3"), "bytes"),
        "i": (np.zeros(2, "c8"), "complex64"),
        "j": (torch.empty(2, dtype=torch.uint8).view(torch.uint4), "bytes"),
    }
    flat = flatten({key: value for key, (value, _) in kinds.items()})
    assert [blob.element for blob in flat.root.blobs] == [element for _, element in kinds.values()]


def _local():
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


UNSUPPORTED = {
    "function": len,
    "object": object(),
    "factory": defaultdict(lambda: 1),
    "dict": type("Mine", (dict,), {})(),
    "str": type("Text", (str,), {})("a"),
    "local class": _local(),
    "file": io.BytesIO(),
    "subclass": torch.zeros(1).as_subclass(type("Mine", (torch.Tensor,), {})),
    "partial": functools.partial(len),
}


@pytest.mark.parametrize("value", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_anything_else_is_refused_by_path_and_type(value):
    with pytest.raises(errors.UnsupportedType) as caught:
        flatten({"config": [1, {"x": value}]})
    assert caught.value.facts["path"] == "config/1/x"
    assert type(value).__name__ in caught.value.facts["type"] and caught.value.reason


def test_the_root_itself_has_a_name_in_errors():
    with pytest.raises(errors.UnsupportedType, match=r"^the state: values of type object"):
        flatten(object())


def test_unsupported_keys_are_refused_by_path():
    with pytest.raises(errors.UnsupportedKey, match=r"^a/b: keys of type numpy\.int64"):
        flatten({"a": {"b": {np.int64(1): 1}}})


def test_the_same_nan_twice_is_refused_as_keys():
    with pytest.raises(errors.UnsupportedKey, match="NaN"):
        flatten({float("nan"): 1, float("nan"): 2})


def test_cycles_name_both_ends():
    inner = {"up": []}
    state = {"a": inner}
    inner["up"].append(inner)
    with pytest.raises(errors.StateCycle) as caught:
        flatten(state)
    assert (caught.value.facts["path"], caught.value.facts["outer"]) == ("a/up/0", "a")
    state = {"b": {}}
    state["b"]["up"] = state
    with pytest.raises(errors.StateCycle, match="the state"):
        flatten(state)


def test_shared_containers_are_no_cycle():
    shared = [1, ()]
    assert flatten({"a": shared, "b": [shared, shared, (), ((),)]}).components[1].values == [1, 1]


def nested(depth):
    state = []
    for _ in range(depth - 1):
        state = [state]
    return state


def test_200_levels_are_kept_and_201_refused():
    flatten(nested(DEPTH_MAX))
    with pytest.raises(errors.StateTooDeep, match="200"):
        flatten(nested(DEPTH_MAX + 1))
    with pytest.raises(errors.StateTooDeep):
        flatten({"a": {"b": nested(DEPTH_MAX - 1)}})


def test_plain_states_need_neither_numpy_nor_torch():
    code = (
        "import sys\n"
        "import casckpt.errors\n"
        "from casckpt.state.flatten import flatten\n"
        "from casckpt.state.unflatten import Part, unflatten\n"
        "from casckpt.state.walk import walk\n"
        "flat = flatten({'a': [1] * 100, 'b': 'x' * 2000, 'c': 1j})\n"
        "flat.root.blobs[0].read(0, 10)\n"
        "list(walk('', flat.root.node, flat.root.values))\n"
        "assert not {'numpy', 'torch', 'msgpack'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
