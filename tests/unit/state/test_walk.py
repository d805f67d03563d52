from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from casckpt import errors
from casckpt.state.flatten import flatten
from casckpt.state.walk import LeafInfo, contents, walk
from tests.strategies import states


def leaves(state):
    flat = flatten(state)
    return [leaf for part in (flat.root, *flat.components) for leaf in walk(part.name, part.node, part.values)]


def test_every_kind_of_leaf_is_named():
    metadata = OrderedDict(x=2**70)
    metadata._metadata = {"version": "a\udc80"}
    state = {
        "a/b": None,
        1: True,
        "1": 1.5,
        "t": torch.zeros(2, 3)[1],
        "p": {
            "z": torch.arange(6)[2:4],
            "y": torch.arange(2),
            "long": "x" * 2000,
            "n": [1] * 70,
            "a": np.zeros((2, 2), "<i4"),
        },
        "s": [np.float32(1), 1j, b"x", bytearray(b"y"), {}, (), [], OrderedDict()],
        "m": metadata,
    }
    assert leaves(state) == [
        LeafInfo("a%2Fb", "none"),
        LeafInfo("1", "bool", value=True),
        LeafInfo('"1"', "float", value=1.5),
        LeafInfo("t", "tensor", "float32", (3,), 0),
        LeafInfo("p", "part", value=0),
        LeafInfo("s", "part", value=1),
        LeafInfo("m", "part", value=2),
        LeafInfo("p/z", "tensor", "int64", (2,), 4),
        LeafInfo("p/y", "tensor", "int64", (2,), 3),
        LeafInfo("p/long", "str", blob=1),
        LeafInfo("p/n", "numbers", "int64", (70,), 2),
        LeafInfo("p/a", "array", "<i4", (2, 2), 0),
        LeafInfo("s/0", "scalar", "<f4", value=np.float32(1).tobytes()),
        LeafInfo("s/1", "complex", value=1j),
        LeafInfo("s/2", "bytes", value=b"x"),
        LeafInfo("s/3", "bytearray", value=bytearray(b"y")),
        LeafInfo("s/4", "dict"),
        LeafInfo("s/5", "tuple"),
        LeafInfo("s/6", "list"),
        LeafInfo("s/7", "odict"),
        LeafInfo("m/x", "int", value=2**70),
        LeafInfo("m/:meta/version", "str", value="a\udc80"),
    ]


def test_offsets_tell_leaves_of_one_blob_apart():
    x = torch.arange(6.0)
    assert [(leaf.blob, leaf.offset) for leaf in leaves([x, x[2:]])] == [(0, 0), (0, 8)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(states())
def test_paths_are_distinct_and_every_blob_is_named_by_its_first_leaf(state):
    flat = flatten(state)
    paths = []
    for part in (flat.root, *flat.components):
        found = [leaf for leaf in walk(part.name, part.node, part.values) if leaf.kind != "part"]
        paths += [leaf.path for leaf in found]
        for number, blob in enumerate(part.blobs):
            assert blob.path == min(leaf.path for leaf in found if leaf.blob == number)
        assert [blob.path.encode() for blob in part.blobs] == sorted(blob.path.encode() for blob in part.blobs)
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("values", [[], [1, 2]])
def test_too_few_and_too_many_values_are_refused(values):
    with pytest.raises(errors.IntegrityError):
        list(walk("", ["list", [None]], values))


def test_deep_structures_are_refused():
    node = ["list", []]
    for _ in range(200):
        node = ["list", [node]]
    assert len(list(walk("", node[1][0], []))) == 1
    with pytest.raises(errors.IntegrityError, match="deep"):
        list(walk("", node, []))
    with pytest.raises(errors.IntegrityError, match="deep"):
        list(walk("a", node[1][0], []))


def test_files_are_named_with_their_mode():
    node = ["dict", ["run.sh", "empty"], [["file", 0, True], ["file", None, False]]]
    assert list(walk("", node, [])) == [
        LeafInfo("run.sh", "file", blob=0, value=True),
        LeafInfo("empty", "file", value=False),
    ]


def test_links_are_named_with_their_target():
    node = ["dict", ["a", "b"], [["link", b"../\xff"], ["file", None, False]]]
    assert next(walk("", node, [])) == LeafInfo("a", "link", value=b"../\xff")


@pytest.mark.parametrize("target", [b"", b"x" * 4096, b"a\0b", "a", None, 1])
def test_a_link_to_what_is_no_path_is_refused(target):
    with pytest.raises(errors.IntegrityError):
        list(walk("", ["link", target], []))


def test_links_alone_make_a_state_of_files():
    assert contents(["dict", ["a"], [["link", b"b"]]]).files
    assert not contents(["dict", ["a"], [["bytes", 0]]]).files


def test_unknown_nodes_are_a_format_error():
    with pytest.raises(errors.FormatError):
        list(walk("", ["ray", 1], []))
