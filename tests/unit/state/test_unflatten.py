import contextlib
import io
import random
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt import errors
from casckpt.state.flatten import flatten
from casckpt.state.unflatten import Part, unflatten
from casckpt.state.walk import walk
from tests.strategies import states, stored


def forbidden(blob):
    raise AssertionError(f"blob {blob} was asked for before the structure was checked")


def build(node, values=(), nbytes=(), memory=forbidden):
    return unflatten([Part("", node, list(values), memory, list(nbytes))], [])


def zeros(sizes):
    memories = [memoryview(bytearray(size)) for size in sizes]
    return memories.__getitem__


BIG = 1 << 62
UNKNOWN = {
    "tag": ["ray", 1],
    "no tag": [],
    "int tag": [1],
    "not a list": "dict",
    "map": {},
    "tuple": ("list", []),
    "too long": ["list", [], 1],
    "too short": ["tensor", "float32", [1], None, 0, 0],
    "key": ["dict", [["x", 1]], [None]],
    "order": ["array", "<f4", [1], "K", 0, 0],
    "flag": ["tensor", "float32", [1], None, 0, 0, 4],
    "numbers": ["numbers", "int32", 1, 0],
    "file": ["file", 0, True],
    "file mode": ["file", 0, 1],
    "link": ["link", b"target"],
    "torch dtype": ["tensor", "float3", [1], None, 0, 0, 0],
    "torch name": ["tensor", "load", [1], None, 0, 0, 0],
    "quantized": ["tensor", "qint8", [1], None, 0, 0, 0],
    "object": ["array", "|O", [1], "C", 0, 0],
    "object size": ["array", "|O8", [1], "C", 0, 0],
    "structured": ["array", "i4,f4", [1], "C", 0, 0],
    "subarray": ["array", "(2,)<i4", [1], "C", 0, 0],
    "name": ["array", "float32", [1], "C", 0, 0],
    "width": ["array", "<f3", [1], "C", 0, 0],
    "long double": ["array", "<f16", [1], "C", 0, 0],
    "huge": ["array", "<U4000000000", [1], "C", 0, 0],
    "order of bytes": ["array", "<i1", [1], "C", 0, 0],
    "unit": ["array", "<M8[parsec]", [1], "C", 0, 0],
    "variable": ["array", "|T16", [1], "C", 0, 0],
}


@pytest.mark.parametrize("node", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_not_known_is_a_format_error(node):
    with pytest.raises(errors.FormatError, match="structure cannot be read"):
        build(node, nbytes=[64])


def tensor(shape, strides=None, blob=0, offset=0, dtype="float32", flags=0):
    return ["tensor", dtype, shape, strides, blob, offset, flags]


def array(shape, blob=0, offset=0, *strides, dtype="<f4", order="C"):
    return ["array", dtype, shape, order, blob, offset, *strides]


BROKEN = {
    "keys and children": ["dict", ["a"], []],
    "keys": ["dict", "a", []],
    "children": ["list", "abc"],
    "same key": ["dict", ["a", "a"], [None, None]],
    "equal keys": ["dict", [1, True], [None, None]],
    "values missing": ["list", [None] * 9],
    "values left": ["list", []],
    "blob": tensor([1], blob=1),
    "negative blob": tensor([1], blob=-1),
    "blob type": tensor([1], blob="0"),
    "bool blob": tensor([1], blob=False),
    "text blob": ["str", 7],
    "no blob": tensor([1], blob=None),
    "blob for nothing": tensor([0]),
    "offset for nothing": tensor([0], blob=None, offset=4),
    "too large": tensor([17]),
    "offset": tensor([16], offset=1),
    "far offset": tensor([1], offset=BIG),
    "negative offset": tensor([1], offset=-4),
    "strides": tensor([4, 4], [8, 1]),
    "stride count": tensor([4, 4], [4]),
    "stride count for nothing": tensor([0], [1, 1], None),
    "negative stride": tensor([4], [-1], offset=12),
    "huge stride": tensor([2], [BIG]),
    "stride overflow": tensor([2], [1 << 64]),
    "negative size": tensor([-1]),
    "size type": tensor([1.0]),
    "bool size": tensor([True]),
    "overflow": tensor([BIG, 4]),
    "overflow to zero": tensor([1 << 32, 1 << 32]),
    "overflow beside zero": tensor([BIG, BIG, 0], blob=None),
    "expanded overflow": tensor([BIG, BIG], [0, 0]),
    "dims": tensor([1] * 65),
    "shape": tensor("12"),
    "gradient of ints": tensor([1], dtype="int64", flags=1),
    "gradient of int parameters": tensor([1], dtype="int64", flags=3),
    "array too large": array([17]),
    "array offset": array([16], 0, 1),
    "array stride": array([5], 0, 0, [16]),
    "array below": array([2], 0, 0, [-4]),
    "array stride count": array([2], 0, 0, [4, 4]),
    "array stride type": array([2], 0, 0, ["4"]),
    "array stride list": array([2], 0, 0, None),
    "array huge stride": array([2], 0, 0, [-(1 << 63)]),
    "array overflow": array([BIG, BIG], 0, 0, [0, 0]),
    "array overflow beside zero": array([BIG, BIG, 0], None),
    "array of nothing": array([BIG, BIG], None, dtype="|V0"),
    "array without blob": array([2], None),
    "array dims": array([1] * 65),
    "array dtype": ["array", b"<f4", [1], "C", 0, 0],
    "numbers short": ["numbers", "int64", 7, 0],
    "numbers long": ["numbers", "bool", 65, 0],
    "numbers overflow": ["numbers", "int64", 1 << 61, 0],
    "numbers count": ["numbers", "int64", -8, 0],
    "part": ["part", 0],
    "part in a list": ["list", [["part", 0]]],
    "part of none": ["dict", ["a"], [["part", 0]]],
    "part number": ["dict", ["a"], [["part", -1]]],
}


@pytest.mark.parametrize("node", BROKEN.values(), ids=BROKEN.keys())
def test_what_contradicts_itself_is_an_integrity_error(node):
    values = [1] * 2 if node[0] in ("dict", "list") else []
    memory = zeros([64]) if "gradient" in str(node) or node[-1] in (1, 3) else forbidden
    with pytest.raises(errors.IntegrityError, match="structure is damaged"):
        build(node, values, [64], memory)


@pytest.mark.parametrize(
    ("node", "data"),
    [(["str", 0], b"\xff"), (["numbers", "bool", 1, 0], b"\x02")],
)
def test_blobs_that_are_not_what_the_node_says_are_an_integrity_error(node, data):
    with pytest.raises(errors.IntegrityError):
        build(node, nbytes=[1], memory=lambda _: memoryview(bytearray(data)))


@pytest.mark.parametrize(
    "entry",
    [["scalar", "<f4", b"123"], ["scalar", "<U1", b"\xff\xff\xff\xff"], ["scalar", "<f8", b""]],
)
def test_broken_scalars_are_an_integrity_error(entry):
    with pytest.raises(errors.IntegrityError):
        build(None, [entry])


def test_scalars_of_unknown_dtype_are_a_format_error():
    with pytest.raises(errors.FormatError):
        build(None, [["scalar", "|O", b"12345678"]])


def test_a_blob_of_the_wrong_length_is_an_integrity_error():
    with pytest.raises(errors.IntegrityError, match="blob 0 has 8 bytes"):
        build(tensor([4]), nbytes=[16], memory=zeros([8]))


def test_unaligned_tensors_are_copied():
    memory = memoryview(bytearray(range(64)))
    back = build(
        ["list", [tensor([2], offset=3), tensor([2, 3], [1, 2], offset=5)]], nbytes=[64], memory=lambda _: memory
    )
    assert back[0].view(torch.uint8).tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    assert back[1].stride() == (1, 2) and back[1].t().reshape(-1).view(torch.uint8).tolist() == list(range(5, 29))


def test_an_unaligned_expanded_tensor_copies_its_bytes_only():
    back = build(
        tensor([1 << 30, 1 << 20], [0, 1], offset=1, dtype="int16"),
        nbytes=[(1 << 21) + 1],
        memory=zeros([(1 << 21) + 1]),
    )
    assert back.shape == (1 << 30, 1 << 20) and back.untyped_storage().nbytes() == 1 << 21


def test_the_limits_of_64_bits_are_kept():
    back = build(tensor([1, 4], [BIG, 1]), nbytes=[16], memory=zeros([16]))
    assert back.stride() == (BIG, 1) and back.sum() == 0
    assert build(tensor([0, BIG // 4], [BIG, BIG], None)).shape == (0, BIG // 4)


def parts_of(root, *components):
    parts = [Part("", root, [], forbidden, [])]
    return parts + [Part(name, node, [], zeros(sizes), sizes) for name, node, sizes in components]


@pytest.mark.parametrize(
    "root",
    [
        ["dict", ["a"], [["part", 1]]],
        ["dict", ["b"], [["part", 0]]],
        ["dict", ["a", "b"], [["part", 0], ["part", 0]]],
        ["dict", ["a"], [["list", [["part", 0]]]]],
        ["dict", [], []],
        ["list", [["part", 0]]],
    ],
    ids=["number", "name", "twice", "below", "left out", "in a list"],
)
def test_components_must_be_where_they_belong(root):
    with pytest.raises(errors.IntegrityError):
        unflatten(parts_of(root, ("a", ["list", []], [])), [])


def test_a_component_inside_a_component_is_refused():
    with pytest.raises(errors.IntegrityError):
        unflatten(parts_of(["dict", ["a"], [["part", 0]]], ("a", ["dict", ["b"], [["part", 0]]], [])), [])


def test_no_parts_are_refused():
    with pytest.raises(errors.IntegrityError):
        unflatten([], [])


TWO = ("a", tensor([2]), [8]), ("b", tensor([2]), [8])
ROOT = ["dict", ["a", "b"], [["part", 0], ["part", 1]]]


@pytest.mark.parametrize(
    "links",
    [
        [[[1, 0], [2, 1]]],
        [[[1, 0], [3, 0]]],
        [[[1, 0], [1, 0]]],
        [[[1, 0], [2, 0]], [[2, 0], [1, 0]]],
        [[[1, 0], [-1, 0]]],
        [[[1, 0], [2]]],
        [[[1, 0], 2]],
        [[]],
        [5],
    ],
)
def test_broken_links_are_an_integrity_error(links):
    with pytest.raises(errors.IntegrityError):
        unflatten(parts_of(ROOT, *TWO), links)


def test_links_of_unlike_lengths_are_refused():
    with pytest.raises(errors.IntegrityError, match="length"):
        unflatten(parts_of(ROOT, TWO[0], ("b", tensor([2]), [12])), [[[1, 0], [2, 0]]])


def test_a_linked_blob_is_asked_for_once():
    asked = []

    def memory_of(part):
        return lambda blob: (asked.append((part, blob)), memoryview(bytearray(8)))[1]

    node = ["list", [tensor([2]), tensor([1], offset=4)]]
    parts = [Part(name, node, [], memory_of(name), [8]) for name in ("a", "b")]
    state = unflatten([Part("", ROOT, [], forbidden, []), *parts], [[[1, 0], [2, 0]]])
    state["b"][1][0] = 5
    assert state["a"][0].tolist() == [0, 5] and asked == [("a", 0)]


def test_deep_structures_are_refused():
    node = ["list", []]
    for _ in range(199):
        node = ["list", [node]]
    build(node)
    with pytest.raises(errors.IntegrityError, match="deep"):
        build(["list", [node]])


def test_tensors_without_torch_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "casckpt.state.tensors", None)
    monkeypatch.delattr("casckpt.state.tensors", raising=False)
    with pytest.raises(errors.FormatError, match=r"pip install casckpt\[torch\]"):
        build(tensor([1]), nbytes=[4])


def _mutate(value, rng):
    """Change one place of a nested structure of lists."""
    junk = [
        None,
        -1,
        0,
        1,
        2,
        200,
        BIG,
        1 << 70,
        0.5,
        "dict",
        "tensor",
        "float64",
        b"x",
        [],
        [None],
        True,
        "|V0",
        "<f8",
    ]
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        action = rng.random()
        copy = list(value)
        if action < 0.8:
            copy[place] = _mutate(value[place], rng)
        elif action < 0.9:
            del copy[place]
        else:
            copy.insert(place, rng.choice(junk))
        return copy
    return rng.choice(junk)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(states(), st.integers(0, 2**32))
def test_changed_structures_are_refused_or_read_but_never_crash(state, seed):
    rng = random.Random(seed)
    parts, links = stored(flatten(state))
    for _ in range(8):
        number = rng.randrange(len(parts))
        node, values = parts[number].node, parts[number].values
        if rng.random() < 0.8:
            node = _mutate(node, rng)
        else:
            values = [_mutate(value, rng) if rng.random() < 0.3 else value for value in values]
        damaged = list(parts)
        damaged[number] = Part(parts[number].name, node, values, parts[number].memory, parts[number].nbytes)
        with contextlib.suppress(errors.FormatError, errors.IntegrityError):
            unflatten(damaged, links)
        with contextlib.suppress(errors.FormatError, errors.IntegrityError):
            list(walk("", node, values))


def test_slices_of_one_buffer_become_storages_of_their_own():
    buffer = memoryview(bytearray(range(64)))
    node = ["list", [tensor([2, 2]), tensor([4], blob=1), tensor([], blob=2), tensor([3], blob=3, dtype="int16")]]
    spans = [(0, 16), (16, 32), (32, 36), (36, 42)]
    back = build(node, nbytes=[16, 16, 4, 6], memory=lambda blob: buffer[slice(*spans[blob])])
    for made, (low, high) in zip(back, spans, strict=True):
        assert made.untyped_storage().nbytes() == high - low and made.storage_offset() == 0 and made._base is None
        assert bytes(made.reshape(-1).view(torch.uint8).tolist()) == bytes(range(low, high))
    assert [made.shape for made in back] == [(2, 2), (4,), (), (3,)]
    saved = io.BytesIO()
    torch.save(back[2], saved)
    assert bytes(range(32, 36)) in saved.getvalue() and bytes(range(16, 32)) not in saved.getvalue()
    back[0].zero_()
    assert bytes(buffer[:20]) == bytes(16) + bytes(range(16, 20))


def test_leaves_of_one_blob_have_one_storage_whatever_comes_first():
    whole, part = tensor([4]), tensor([2], offset=8)
    for node in ([whole, part, whole], [part, whole, whole], [array([4]), whole, part], [whole, array([4]), part]):
        back = build(["list", node], nbytes=[16], memory=zeros([16]))
        back[0][-1] = 5
        assert [float(leaf[-1]) for leaf in back] == [5, 5, 5]
        held = {leaf.untyped_storage()._cdata for leaf in back if isinstance(leaf, torch.Tensor)}
        assert len(held) == 1


def test_flags_of_whole_tensors_come_back():
    node = ["list", [tensor([2], flags=flags, blob=flags) for flags in range(4)]]
    back = build(node, nbytes=[8] * 4, memory=zeros([8] * 4))
    assert [type(leaf) is torch.nn.Parameter for leaf in back] == [False, False, True, True]
    assert [leaf.requires_grad for leaf in back] == [False, True, False, True]
    assert all(leaf.is_leaf for leaf in back)


def test_sizes_that_equal_good_ones_are_refused_after_them():
    build(tensor([1]), nbytes=[4], memory=zeros([4]))
    for node in (tensor([True]), tensor([1.0]), tensor([1], offset=False), tensor([1], flags=False), tensor([[1]])):
        with pytest.raises(errors.IntegrityError):
            build(node, nbytes=[4])
