"""Hypothesis strategies of states, an exact comparer, and the way a state takes through storage without a store."""

from __future__ import annotations

import functools
import itertools
import struct
import types
from collections import OrderedDict
from typing import Any

import msgpack
import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.vendor import pretty

from casckpt.state import paths
from casckpt.state.flat import FlatState
from casckpt.state.unflatten import Part

TORCH_DTYPES = sorted(
    {d for d in vars(torch).values() if isinstance(d, torch.dtype) and not str(d).startswith("torch.q")}, key=str
)
NUMPY_DTYPES = (
    *("?", "i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"),
    *("<c8", "<c16", ">c16", "S1", "S5", "<U2", ">U3", "V3", "V16", "<M8[ns]", "<M8[25s]", ">M8[D]", "<m8[us]", "<m8"),
)
SCALARS = (
    *(np.bool_(True), np.int8(-3), np.uint64(2**64 - 1), np.float16("nan"), np.float32(-0.0), np.float64(1e300)),
    *(np.complex64(1 - 2j), np.complex128(3j), np.bytes_(b"a\0"), np.bytes_(b""), np.str_("ä\0"), np.str_("\ud800")),
    *(np.void(b"xyz"), np.datetime64("2024-02-29T12:00", "m"), np.datetime64("NaT"), np.timedelta64(5, "25s")),
)
POOL_BYTES = 256

_SHAPES = st.lists(st.sampled_from([2, 3, 1, 0, 2, 3, 2, 3]), max_size=3)


def _print_tensor(tensor: Any, printer: Any, _cycle: bool) -> None:
    printer.text(f"{type(tensor).__name__}({tensor.dtype}, {tuple(tensor.shape)}, {tensor.stride()})")


# torch cannot print all of its own types, and an example that cannot be printed hides what failed.
for kind in (torch.Tensor, torch.nn.Parameter):
    pretty.for_type_by_name(kind.__module__, kind.__name__, _print_tensor)


# ---- strategies


def floats() -> st.SearchStrategy[float]:
    """Every double, every NaN with its own bits."""
    return st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]) | st.floats()


def strings() -> st.SearchStrategy[str]:
    """Short ones, lone surrogates included, and some that are blobs."""
    any_text = st.text(st.characters(exclude_categories=()), max_size=6)
    return (
        any_text
        | st.sampled_from(["a/b", "7", "-1", "", '"', ":none", "%", "\ud8ff"])
        | any_text.map(lambda t: (t + "é") * 600)
    )


def byte_strings() -> st.SearchStrategy[bytes]:
    """Around the limit of what is inline."""
    return st.binary(max_size=8) | st.sampled_from([1023, 1024, 1025, 3000]).map(lambda n: b"\x07" * n)


@functools.cache
def keys() -> st.SearchStrategy[Any]:
    """Everything that may be a key."""
    short = st.text(st.characters(exclude_categories=()), max_size=4) | st.sampled_from(
        ["a/b", "7", "", ":true", "x,y", "\ud8ff", "é\udcff"]
    )
    single = short | st.integers() | st.booleans() | st.none() | floats() | st.binary(max_size=4)
    return single | st.recursive(single, lambda inner: st.tuples(inner) | st.tuples(inner, inner), max_leaves=3)


def long_lists() -> st.SearchStrategy[list[Any]]:
    """Lists of one number type around the limit where they are packed, and beyond what fits."""
    length = st.sampled_from([65, 64, 100])
    kind = st.sampled_from(["int", "float", "bool", "big", "mixed"])
    first = {
        "int": -(2**63),
        "float": struct.unpack("<d", bytes(6) + b"\xf4\xff")[0],
        "bool": True,
        "big": 2**63,
        "mixed": "x",
    }
    rest = {"int": 2**63 - 1, "float": 0.5, "bool": False, "big": 1, "mixed": 1}
    return st.tuples(kind, length).map(lambda pair: [first[pair[0]], *[rest[pair[0]]] * (pair[1] - 1)])


@st.composite
def states(draw: st.DrawFn, depth: int = 3) -> Any:
    """A nested state. Its arrays and tensors are views of two memories, so many of them meet, some of them not."""
    if depth == 0 or draw(st.integers(0, 7)) == 0:
        return draw(leaves())
    kind = draw(st.sampled_from(["dict", "dict", "odict", "metadata", "list", "tuple"]))
    size = draw(st.integers(0, 4))
    children = [draw(states(depth - 1) if draw(st.booleans()) else leaves()) for _ in range(size)]
    if kind in ("list", "tuple"):
        return children if kind == "list" else tuple(children)
    # Two keys may be the same NaN, which no path could tell apart.
    names = draw(st.lists(keys(), min_size=size, max_size=size, unique_by=paths.element))
    if kind == "dict":
        return dict(zip(names, children, strict=True))
    ordered = OrderedDict(zip(names, children, strict=True))
    if kind == "metadata":
        ordered._metadata = draw(leaves())
    return ordered


@functools.cache
def memories() -> st.SearchStrategy[Any]:
    """One of the few memories of the test case that runs, as a tensor of bytes."""
    return st.tuples(st.shared(st.integers(0, 2**32), key="memories").map(_pool), st.integers(0, 1)).map(_pick)


@functools.lru_cache(maxsize=1)
def _pool(seed: int) -> list[Any]:
    # Cached for the test case: everything drawn in it must see the same two memories.
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(0, 256, POOL_BYTES, np.uint8)) for _ in range(2)]


def _pick(pair: tuple[list[Any], int]) -> Any:
    return pair[0][pair[1]]


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """A numpy array on one of the memories or on its own: any dtype, order, sign and size of steps, 0-d and empty."""
    dtype = np.dtype(draw(st.sampled_from(NUMPY_DTYPES)))
    base = draw(memories()).numpy()
    shape = draw(_SHAPES)
    order = draw(st.permutations(range(len(shape))))
    strides, step = [0] * len(shape), dtype.itemsize * draw(st.sampled_from([1, 1, 1, 2]))
    for axis in order:
        strides[axis], step = step, step * max(shape[axis], 1)
    low = 0
    for axis, size in enumerate(shape):
        if draw(st.integers(0, 5)) == 0:
            strides[axis] = -strides[axis]
            low += strides[axis] * (max(size, 1) - 1)
    reach = sum((max(n, 1) - 1) * abs(t) for n, t in zip(shape, strides, strict=True)) + dtype.itemsize
    if reach > POOL_BYTES:
        return np.zeros(shape, dtype)
    offset = draw(st.integers(0, (POOL_BYTES - reach) // 2)) - low
    if draw(st.booleans()):
        offset = -low
    view = np.ndarray(shape, dtype, base, offset, strides)
    return view if draw(st.integers(0, 3)) else view.copy(order="K")


@st.composite
def tensors(draw: st.DrawFn) -> Any:
    """A tensor on one of the memories or on its own: permuted, sliced, expanded, overlapping itself, 0-d, empty."""
    dtype = draw(st.sampled_from(TORCH_DTYPES))
    base = draw(memories())
    shape = draw(_SHAPES)
    strides, step = [0] * len(shape), draw(st.sampled_from([1, 1, 1, 2]))
    for axis in draw(st.permutations(range(len(shape))) | st.just(range(len(shape))[::-1])):
        strides[axis], step = step, step * max(shape[axis], 1)
    wild = draw(st.integers(0, 5))
    if wild < 2:
        strides = [0 if draw(st.booleans()) else stride for stride in strides]
    elif wild == 2:
        strides = [draw(st.integers(0, 5)) for _ in shape]
    reach = sum((max(n, 1) - 1) * t for n, t in zip(shape, strides, strict=True)) + 1
    room = POOL_BYTES // dtype.itemsize - reach
    if room < 0:
        return torch.zeros(2, 3)
    offset = draw(st.integers(0, room // 2) | st.just(0))
    tensor = torch.empty(0, dtype=torch.uint8).view(dtype).set_(base.untyped_storage(), offset, shape, strides)
    if draw(st.integers(0, 5)) == 5:
        fresh = base.clone().untyped_storage()
        tensor = torch.empty(0, dtype=torch.uint8).view(dtype).set_(fresh, offset, shape, strides)
    differentiable = dtype.is_floating_point or dtype.is_complex
    requires_grad = differentiable and draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_(requires_grad)


_SMALL = st.one_of(
    st.none() | st.booleans(),
    st.integers() | st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, -(2**71)]),
    floats(),
    st.builds(complex, floats(), floats()),
    strings(),
    byte_strings(),
    byte_strings().map(bytearray),
    st.sampled_from(SCALARS),
)


@st.composite
def leaves(draw: st.DrawFn) -> Any:
    """One leaf; half of them are arrays and tensors."""
    kind = draw(st.sampled_from("tatstanstas"))
    return draw({"t": tensors(), "a": arrays(), "n": long_lists(), "s": _SMALL}[kind])


# ---- through storage and back


def stored(flat: FlatState, piece: int = 96) -> tuple[list[Part], list[Any]]:
    """Parts as a store would give them: structure through msgpack, blobs copied piece by piece into new memory."""
    parts = []
    for component in (flat.root, *flat.components):
        node, values = msgpack.unpackb(msgpack.packb([component.node, component.values]), strict_map_key=True)
        memories = []
        for blob in component.blobs:
            memory = bytearray(blob.nbytes)
            for start in range(0, blob.nbytes, piece):
                stop = min(start + piece, blob.nbytes)
                read = blob.read(start, stop)
                assert read.format == "B" and read.contiguous and len(read) == stop - start
                memory[start:stop] = read
            memories.append(memoryview(memory))
        parts.append(
            Part(component.name, node, values, memories.__getitem__, [blob.nbytes for blob in component.blobs])
        )
    return parts, [[list(member) for member in group] for group in flat.links]


# ---- exact comparison


def assert_same_state(a: Any, b: Any) -> None:
    """Fail unless `b` is `a` in every type, bit, order and stride, and its memory is shared exactly where `a`'s is."""
    leaves: list[tuple[Any, Any]] = []
    _assert_same(a, b, "", leaves)
    # A lazy conjugate is resolved when it is stored, so it shares with its like only: that has tests of its own.
    held = [(x, y) for x, y in leaves if x.nbytes and not (torch.is_tensor(x) and (x.is_conj() or x.is_neg()))]
    windows = [(byte_window(x), byte_window(y), _keeps_own_sharing(x)) for x, y in held]
    for number, (mine, theirs, _) in enumerate(windows):
        for position in _some_elements(mine):
            mine[position] ^= 0xFF
            theirs[position] ^= 0xFF
            for other, (before, after, itself) in enumerate(windows):
                assert (other == number and not itself) or np.array_equal(before, after), (number, other, position)
            mine[position] ^= 0xFF
            theirs[position] ^= 0xFF


def _assert_same(a: Any, b: Any, path: str, leaves: list[tuple[Any, Any]]) -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert [(type(key), paths.element(key)) for key in a] == [(type(key), paths.element(key)) for key in b], path
        for (key, mine), theirs in zip(a.items(), b.values(), strict=True):
            _assert_same(mine, theirs, paths.join(path, paths.element(key)), leaves)
        mine, theirs = getattr(a, "__dict__", {}), getattr(b, "__dict__", {})
        assert list(mine) == list(theirs), path
        for name in mine:
            _assert_same(mine[name], theirs[name], paths.join(path, paths.METADATA), leaves)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for index, (mine, theirs) in enumerate(zip(a, b, strict=True)):
            _assert_same(mine, theirs, paths.join(path, str(index)), leaves)
    elif isinstance(a, torch.Tensor):
        _assert_same_tensor(a, b, path)
        leaves.append((a, b))
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.dtype.str, a.shape) == (b.dtype, b.dtype.str, b.shape), path
        assert a.tobytes() == b.tobytes(), path
        order = (a.flags.c_contiguous, a.flags.f_contiguous)
        assert not any(order) or order == (b.flags.c_contiguous, b.flags.f_contiguous), path
        leaves.append((a, b))
    else:
        assert _bits(a) == _bits(b), path


def _assert_same_tensor(a: Any, b: Any, path: str) -> None:
    a = a.resolve_conj().resolve_neg()
    facts = [(t.dtype, t.shape, t.requires_grad, t.is_leaf or t.requires_grad, str(t.device)) for t in (a, b)]
    assert facts[0] == facts[1], path
    assert not b.is_conj() and not b.is_neg() and b._base is None, path
    if a.nbytes == 0 or _dense(a):
        assert a.stride() == b.stride(), path
    if a.nbytes:
        assert byte_window(a).tobytes() == byte_window(b).tobytes(), path


def _bits(value: Any) -> Any:
    if isinstance(value, np.str_):
        return value.dtype, str(value)
    if isinstance(value, np.generic):
        return value.dtype, value.tobytes()
    if type(value) is complex:
        return struct.pack("<dd", value.real, value.imag)
    return struct.pack("<d", value) if type(value) is float else value


def byte_window(leaf: Any) -> Any:
    """All bytes of an array or tensor as a writable view of its memory: its shape, and one dimension more."""
    if isinstance(leaf, torch.Tensor):
        address, itemsize = leaf.data_ptr(), leaf.element_size()
        strides = [stride * itemsize for stride in leaf.stride()]
    else:
        address, itemsize, strides = leaf.__array_interface__["data"][0], leaf.itemsize, leaf.strides

    shape, steps = (*leaf.shape, itemsize), (*strides, 1)
    interface = {"data": (address, False), "shape": shape, "strides": steps, "typestr": "|u1", "version": 3}
    return np.asarray(types.SimpleNamespace(owner=leaf, __array_interface__=interface))


def _dense(tensor: Any) -> bool:
    """Whether the tensor touches every byte of its range."""
    window = byte_window(tensor)
    offsets = set()
    for index in itertools.product(*(range(size) for size in tensor.shape)):
        offsets.add(sum(i * s for i, s in zip(index, tensor.stride(), strict=True)))
    return len(offsets) == max(offsets) - min(offsets) + 1 and window.size > 0


def _keeps_own_sharing(leaf: Any) -> bool:
    """Tensors whose elements share bytes go on doing so; arrays in neither C nor F order come back in C order."""
    return isinstance(leaf, torch.Tensor) or leaf.flags.c_contiguous or leaf.flags.f_contiguous


def _some_elements(window: Any) -> set[tuple[int, ...]]:
    size = window.size
    return {tuple(map(int, np.unravel_index(at, window.shape))) for at in (0, size // 2, size - 1)}
