"""Hypothesis strategies of every numpy, torch and generator row of docs/reference/values.md, with exact comparers.

`ROWS` names the rows; `STRATEGIES[row]` draws a value of it, `assert_same(expected, found)` compares two of any row.
`through` takes a value through its reduction and storage, the way the walk does.
"""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from torch.testing._internal.two_tensor import TwoTensor

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

from casckpt.state.flatten import flatten
from casckpt.state.kinds import array_objects, generators, tensor_objects
from casckpt.state.kinds import quantized as quantized_tensors
from casckpt.state.kinds.reduced import Reduced
from casckpt.state.unflatten import unflatten
from tests import strategies

MAKERS = {**array_objects.MAKERS, **tensor_objects.MAKERS, **generators.MAKERS}

BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
QUANTIZED = (torch.qint8, torch.quint8, torch.qint32)
SPARSE = ("csr", "csc", "bsr", "bsc")
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64)


@contextlib.contextmanager
def quiet() -> Any:
    """Torch warns when the tests make what the package only takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- numpy

_SHAPES = st.lists(st.sampled_from([2, 1, 3, 0, 2]), max_size=3).map(tuple)
_NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True)
_SIMPLE = st.sampled_from(strategies.NUMPY_DTYPES)


@st.composite
def records(draw: st.DrawFn, depth: int = 2) -> Any:
    """A structured dtype: nested, with sub-arrays, titles, gaps, overlaps, alignment; or one of `numpy.record`."""
    names = draw(_NAMES)
    formats = []
    for _ in names:
        one = np.dtype(draw(_SIMPLE)) if depth == 0 or draw(st.integers(0, 3)) else draw(records(depth - 1))
        if draw(st.integers(0, 4)) == 0:
            one = np.dtype((one, draw(st.sampled_from([(2,), (1, 3), (0,)]))))
        formats.append(one)
    kind = draw(st.sampled_from(["packed", "aligned", "gaps", "overlap", "titles", "record"]))
    if kind in ("packed", "record", "titles"):
        titles = [f"title {index} {name}" for index, name in enumerate(names)] if kind == "titles" else names
        fields = [((t, n) if kind == "titles" else n, f) for t, n, f in zip(titles, names, formats, strict=True)]
        dtype = np.dtype(fields)
        return np.dtype((np.record, dtype)) if kind == "record" else dtype
    if kind == "aligned":
        return np.dtype(list(zip(names, formats, strict=True)), align=True)
    step = 0 if kind == "overlap" else 3
    offsets, end = [], 0
    for one in formats:
        offsets.append(end)
        end = 0 if kind == "overlap" else end + one.itemsize + step
    size = max(at + one.itemsize for at, one in zip(offsets, formats, strict=True)) + 2
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


@st.composite
def on_memory(draw: st.DrawFn, dtypes: st.SearchStrategy[Any]) -> Any:
    """An array of any bytes: C, F or reversed, some of them with gaps, 0-d and empty ones too."""
    dtype, shape = np.dtype(draw(dtypes)), draw(_SHAPES)
    nbytes = dtype.itemsize * int(np.prod(shape))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    order = draw(st.sampled_from("CF"))
    if dtype.hasobject or dtype.itemsize == 0:
        return np.zeros(shape, dtype, order=order)
    array = np.ndarray(shape, dtype, bytearray(rng.bytes(nbytes)) if nbytes else None, order=order)
    if draw(st.integers(0, 3)) == 0:
        array = array[..., *(slice(None, None, -1) for _ in shape)]
    if draw(st.integers(0, 3)) == 0:
        array = array[..., *(slice(None, None, 2) for _ in shape)]
    return array


def foreign() -> st.SearchStrategy[Any]:
    """Dtypes of ml_dtypes, if that is installed."""
    names = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4", "uint2", "float4_e2m1fn")
    found = [np.dtype(getattr(ml_dtypes, name)) for name in names if hasattr(ml_dtypes, name)]
    return st.sampled_from(found) if found else st.nothing()


_LONG = st.sampled_from([np.dtype(np.longdouble), np.dtype(np.clongdouble), np.dtype(np.longdouble).newbyteorder()])


@st.composite
def object_arrays(draw: st.DrawFn) -> Any:
    shape = draw(_SHAPES)
    array = np.empty(shape, object, order=draw(st.sampled_from("CF")))
    elements = st.one_of(
        strategies.leaves(),
        st.lists(st.integers(), max_size=2),
        st.just(None),
        st.just(np.array(3.0)),
        on_memory(records()),
    )
    for index in np.ndindex(shape):
        array[index] = [draw(elements)]  # in a list, for numpy takes a 0-d array out of itself
        array[index] = array[index][0] if not isinstance(array[index][0], np.ndarray) else array[index]
    return array


@st.composite
def string_arrays(draw: st.DrawFn) -> Any:
    missing = draw(st.sampled_from([{}, {"na_object": None}, {"na_object": np.nan}]))
    dtype = np.dtypes.StringDType(coerce=draw(st.booleans()), **missing)
    shape = draw(_SHAPES)
    texts = st.text(max_size=40) | (st.just(missing["na_object"]) if missing else st.just(""))
    values = [draw(texts) for _ in range(int(np.prod(shape)))]
    array = np.array(values, dtype).reshape(shape) if values else np.zeros(shape, dtype)
    return np.asfortranarray(array) if draw(st.booleans()) else array


@st.composite
def masked_arrays(draw: st.DrawFn) -> Any:
    dtypes = st.sampled_from(["<f4", "<i8", ">i2", "<U3", "?", "S2", "<M8[s]", [("x", "<f4"), ("y", ">i2", (2,))]])
    data = draw(on_memory(dtypes))
    array = data.view(np.ma.MaskedArray)
    if draw(st.booleans()):
        mask = np.zeros(data.shape, np.ma.make_mask_descr(data.dtype))
        if mask.nbytes:
            mask.reshape(-1).view("?")[:: draw(st.integers(1, 2))] = True
        array = np.ma.MaskedArray(data, mask=mask)
    if draw(st.booleans()) and data.dtype.kind in "fi":
        array.fill_value = 7
    if draw(st.booleans()):
        array.harden_mask()
    return array


@st.composite
def array_subclasses(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["recarray", "matrix", "chararray", "numbers"]))
    if kind == "recarray":
        return draw(on_memory(records())).view(np.recarray)
    if kind == "numbers":
        return draw(on_memory(_SIMPLE)).view(np.recarray)
    if kind == "chararray":
        return np.array(draw(st.lists(st.text("ab ", max_size=3), min_size=1, max_size=4))).view(np.char.chararray)
    return np.arange(6.0).reshape(2, 3)[:, :: draw(st.sampled_from([1, -1, 2]))].view(np.matrix)


def scalars() -> st.SearchStrategy[Any]:
    """Structured ones, long doubles, and those of ml_dtypes."""
    dtypes = (
        records().filter(lambda dtype: dtype.itemsize) | _LONG | foreign().filter(lambda d: np.dtype(d).kind == "V")
    )
    return dtypes.map(lambda dtype: np.frombuffer(bytearray(range(1, 1 + dtype.itemsize % 200)) * 99, dtype, 1)[0])


def dtypes() -> st.SearchStrategy[Any]:
    return st.one_of(_SIMPLE.map(np.dtype), records(), _LONG, foreign(), st.just(np.dtype(object)), hn.scalar_dtypes())


# ---- generators


def _drawn(generator: Any, steps: list[int]) -> Any:
    """A generator after an odd number of draws that leave it in the middle of what it has in hand."""
    for step in steps:
        (
            lambda: generator.integers(0, 9, dtype=np.uint32),
            lambda: generator.random(3, dtype=np.float32),
            generator.normal,
            lambda: generator.bytes(5),
            lambda: generator.permutation(5),
        )[step]()
    return generator


_STEPS = st.lists(st.integers(0, 4), max_size=5)


@st.composite
def seeds(draw: st.DrawFn) -> Any:
    word = st.integers(0, 2**80) | st.integers(0, 9).map(np.uint8)
    entropy = draw(
        st.one_of(st.integers(0, 2**200), st.lists(word, max_size=4), st.just(np.arange(5, dtype=np.uint64)))
    )
    seed = np.random.SeedSequence(
        entropy, spawn_key=draw(st.lists(word, max_size=2)), pool_size=draw(st.sampled_from([4, 8]))
    )
    seed.spawn(draw(st.integers(0, 3)))
    return seed


@st.composite
def numpy_generators(draw: st.DrawFn) -> Any:
    bits = getattr(np.random, draw(st.sampled_from(BIT_GENERATORS)))(draw(seeds()))
    generator = _drawn(np.random.Generator(bits), draw(_STEPS))
    generator.spawn(draw(st.integers(0, 2)))
    return generator


@st.composite
def random_states(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        state = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    else:
        state = np.random.RandomState(
            getattr(np.random, draw(st.sampled_from(BIT_GENERATORS)))(draw(st.integers(0, 99)))
        )
    for step in draw(st.lists(st.integers(0, 3), max_size=5)):
        (state.randn, state.rand, lambda: state.bytes(3), lambda: state.permutation(3))[step]()
    return state


@st.composite
def python_generators(draw: st.DrawFn) -> Any:
    generator = random.Random(draw(st.integers()))
    for step in draw(st.lists(st.integers(0, 2), max_size=5)):
        (generator.random, lambda: generator.gauss(0, 1), lambda: generator.getrandbits(40))[step]()
    return generator


@st.composite
def torch_generators(draw: st.DrawFn) -> Any:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**63 - 1)))
    for size in draw(st.lists(st.sampled_from([0, 1, 3, 17]), max_size=5)):  # 16 and more are drawn another way
        if size:
            torch.randn(size, generator=generator)
        else:
            torch.rand(1, dtype=torch.float64, generator=generator)
    return generator


# ---- torch


def _normal(draw: st.DrawFn, *shape: int) -> Any:
    """Numbers that are the same in every process."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))


@st.composite
def dense(draw: st.DrawFn, sizes: Any = None) -> Any:
    shape = draw(st.lists(st.sampled_from([2, 4, 2, 0]), min_size=2, max_size=3)) if sizes is None else sizes
    return _normal(draw, *shape).mul(3).to(draw(st.sampled_from(FLOATS)))


@st.composite
def quantized(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.sampled_from([2, 3, 4, 1, 0]), max_size=4))
    values = _normal(draw, *shape)
    dtype = draw(st.sampled_from(QUANTIZED))
    tensor = torch.quantize_per_tensor(values, draw(st.floats(1e-3, 4)), draw(st.integers(0, 100)), dtype)
    if tensor.dim() == 4 and draw(st.booleans()):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    if tensor.dim() >= 2 and draw(st.booleans()):
        tensor = tensor.transpose(0, 1)
    return tensor[1:] if tensor.dim() and len(tensor) and draw(st.booleans()) else tensor


@st.composite
def quantized_channels(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.sampled_from([2, 3, 5]), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    values = _normal(draw, *shape)
    kind = draw(st.sampled_from(["int", "float", "packed"]))
    scales = _normal(draw, shape[axis]).abs() + 0.1
    if kind == "int":
        zeros = torch.arange(shape[axis])
        if len(shape) == 4 and axis < 2 and draw(st.booleans()):
            values = values.contiguous(memory_format=torch.channels_last)
        return torch.quantize_per_channel(values, scales, zeros, axis, draw(st.sampled_from(QUANTIZED)))
    zeros = _normal(draw, shape[axis])
    if kind == "float":
        return torch.quantize_per_channel(values, scales, zeros, axis, torch.quint8)
    flat, scales, zeros = _normal(draw, 3, shape[0]), _normal(draw, 3).abs() + 0.1, _normal(draw, 3)
    packed = draw(st.sampled_from([torch.quint4x2, torch.quint2x4]))
    return torch.quantize_per_channel(flat, scales, zeros, 0, packed)


@st.composite
def sparse_coo(draw: st.DrawFn) -> Any:
    values = draw(dense())
    tensor = values.to_sparse(draw(st.integers(1, values.dim())))
    if draw(st.booleans()):
        indices, parts = tensor._indices(), tensor._values()
        both = torch.cat([indices, indices.flip(1)], 1), torch.cat([parts, parts])
        tensor = torch.sparse_coo_tensor(*both, tensor.shape, check_invariants=True, is_coalesced=False)
    return tensor


@st.composite
def sparse_compressed(draw: st.DrawFn) -> Any:
    layout = draw(st.sampled_from(SPARSE))
    values = draw(dense([*draw(st.sampled_from([[], [2]])), 4, 6]))
    values[..., draw(st.integers(0, 3)), :] = 0
    values[values.abs() < 1] = 0
    if values.dim() == 3:
        values[1] = values[0]  # members of a batch have the same number of elements
    make = getattr(values, f"to_sparse_{layout}")
    tensor = make((2, 3)) if layout.startswith("bs") else make()
    if draw(st.booleans()):
        return tensor
    names = ("crow_indices", "col_indices") if layout in ("csr", "bsr") else ("ccol_indices", "row_indices")
    indices = [getattr(tensor, name)().to(torch.int32) for name in names]
    return torch.sparse_compressed_tensor(
        *indices, tensor.values(), tensor.shape, layout=tensor.layout, check_invariants=True
    )


@st.composite
def nested(draw: st.DrawFn) -> Any:
    width = draw(st.integers(0, 3))
    members = [_normal(draw, draw(st.integers(0, 3)), width) for _ in range(draw(st.integers(0, 3)))]
    tensor = torch.nested.nested_tensor(
        members, dtype=draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
    )
    if len(members) > 1 and draw(st.booleans()):
        tensor = tensor.narrow(0, 1, 1)
    return tensor.transpose(1, 2) if members and draw(st.booleans()) else tensor


@st.composite
def jagged(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["list", "values", "transposed", "lengths"]))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    if kind in ("list", "transposed"):
        tensor = torch.nested.nested_tensor([_normal(draw, size, 2) for size in sizes], layout=torch.jagged)
        return tensor.transpose(1, 2) if kind == "transposed" else tensor
    starts = torch.tensor([0, *np.cumsum(sizes).tolist()])
    lengths = torch.tensor([draw(st.integers(0, size)) for size in sizes]) if kind == "lengths" else None
    return torch.nested.nested_tensor_from_jagged(_normal(draw, sum(sizes), 2), starts, lengths)


@st.composite
def meta(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.integers(0, 2**20), max_size=3))
    tensor = torch.empty(shape, dtype=draw(st.sampled_from(strategies.TORCH_DTYPES)), device="meta")
    return tensor.transpose(0, -1) if tensor.dim() > 1 and draw(st.booleans()) else tensor


@st.composite
def two_tensors(draw: st.DrawFn) -> Any:
    size = draw(st.lists(st.integers(0, 3), max_size=2))
    return TwoTensor(_normal(draw, *size), _normal(draw, *size))


@st.composite
def with_gradient(draw: st.DrawFn) -> Any:
    """A tensor of a layout of its own that requires a gradient, or is a Parameter."""
    tensor = draw(st.one_of(sparse_coo(), sparse_compressed(), jagged(), two_tensors(), quantized()))
    if draw(st.booleans()) and not tensor.is_quantized:
        return tensor.detach().requires_grad_()
    return torch.nn.Parameter(tensor.detach(), requires_grad=not tensor.is_quantized and draw(st.booleans()))


@st.composite
def uninitialized(draw: st.DrawFn) -> Any:
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    if draw(st.booleans()):
        return torch.nn.UninitializedBuffer(dtype=dtype)
    return torch.nn.UninitializedParameter(dtype=dtype, requires_grad=draw(st.booleans()))


_ALL_DTYPES = sorted({one for one in vars(torch).values() if isinstance(one, torch.dtype)}, key=str)
_CONSTANTS = [one for one in vars(torch).values() if isinstance(one, torch.layout | torch.memory_format)]
_DEVICES = ["cpu", "cuda", "cuda:3", "mps", "meta", "xpu:1", "cpu:0"]

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "structured array": on_memory(records()),
    "ml_dtypes array": on_memory(foreign()),
    "long double array": on_memory(_LONG),
    "object array": object_arrays(),
    "string array": string_arrays(),
    "masked array": masked_arrays() | st.just(np.ma.masked),
    "recarray, matrix, chararray": array_subclasses(),
    "other numpy scalar": scalars(),
    "numpy dtype": dtypes(),
    "numpy.random.Generator": numpy_generators(),
    "numpy.random.RandomState": random_states(),
    "numpy bit generator": numpy_generators().map(lambda generator: generator.bit_generator),
    "numpy.random.SeedSequence": seeds(),
    "random.Random": python_generators(),
    "torch.Generator": torch_generators(),
    "quantized per tensor": quantized(),
    "quantized per channel": quantized_channels(),
    "sparse COO": sparse_coo(),
    "sparse CSR, CSC, BSR, BSC": sparse_compressed(),
    "nested, strided": nested(),
    "nested, jagged": jagged(),
    "meta": meta(),
    "tensor subclass": two_tensors(),
    "gradient of other layouts": with_gradient(),
    "uninitialized": uninitialized(),
    "torch dtype": st.sampled_from(_ALL_DTYPES),
    "torch device": st.sampled_from(_DEVICES).map(torch.device),
    "torch layout, memory_format": st.sampled_from(_CONSTANTS),
    "torch.Size": st.lists(st.integers(0, 2**62), max_size=5).map(torch.Size),
}
if ml_dtypes is None:
    del STRATEGIES["ml_dtypes array"]
ROWS = tuple(STRATEGIES)


# ---- through storage and back


def reduced(value: Any) -> Reduced | None:
    """What a live value of one of the rows is reduced to; None if it is plain or a container."""
    if isinstance(value, torch.Tensor):
        return None if tensor_objects.is_plain(value) else tensor_objects.reduce_tensor(value)
    if isinstance(value, np.ndarray):
        return array_objects.reduce_array(value)
    if isinstance(value, np.generic):
        return array_objects.reduce_scalar(value)
    if isinstance(value, random.Random):
        return generators.reduce(value)
    return array_objects.reduce(value) or tensor_objects.reduce(value)


def through(value: Any) -> Any:
    """A value reduced, stored, read and made again."""
    parts, links = strategies.stored(flatten(["root", apart(value)]))
    return together(unflatten(parts, links)[1])


def apart(value: Any) -> Any:
    """A value with everything reduced in it replaced by marked tuples of kind, parameter and the simpler value."""
    found = reduced(value)
    if found is not None:
        assert found.param is None or type(found.param) is str
        return ("reduced", found.kind, found.param, apart(found.inner))
    if type(value) is dict:
        return {key: apart(child) for key, child in value.items()}
    return type(value)(map(apart, value)) if type(value) in (list, tuple) else value


def together(value: Any) -> Any:
    if type(value) is tuple and value[:1] == ("reduced",):
        return MAKERS[value[1]](value[2], together(value[3]))
    if type(value) is dict:
        return {key: together(child) for key, child in value.items()}
    return type(value)(map(together, value)) if type(value) in (list, tuple) else value


# ---- exact comparison


def assert_same(a: Any, b: Any) -> None:
    """Fail unless `b` is what `a` was, in type, bits, layout, and in the numbers that follow."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        _assert_same_tensor(a, b)
    elif isinstance(a, np.ndarray):
        _assert_same_array(a, b)
    elif isinstance(a, np.dtype):
        _assert_same_dtype(a, b)
    elif isinstance(a, np.generic):
        _assert_same_dtype(a.dtype, b.dtype)
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple) and type(a) is not torch.Size:
        assert len(a) == len(b)
        for mine, theirs in zip(a, b, strict=True):
            assert_same(mine, theirs)
    elif type(a) in _FOLLOWING:
        assert_same(_FOLLOWING[type(a)](a), _FOLLOWING[type(a)](b))
    elif isinstance(a, np.random.BitGenerator):
        assert_same(_numbers(a), _numbers(b))
    elif isinstance(a, float | complex):
        strategies.assert_same_state(a, b)
    else:
        assert a == b


def _numbers(bits: np.random.BitGenerator) -> list[Any]:
    seed = bits.seed_seq
    copied = copy.deepcopy(bits)
    return [bits.state, seed, copied.random_raw(9).tolist(), np.random.Generator(copied).integers(0, 9, 3, np.uint32)]


def _of_seed(seed: np.random.SeedSequence) -> list[Any]:
    copied = copy.deepcopy(seed)
    return [seed.state, seed.generate_state(5), [child.state for child in copied.spawn(2)]]


def _of_state(state: np.random.RandomState) -> list[Any]:
    facts = state.get_state(legacy=False)
    return [facts, state._bit_generator.seed_seq, copy.deepcopy(state).randn(3)]


def _of_random(generator: random.Random) -> list[Any]:
    copied = copy.deepcopy(generator)
    return [generator.getstate(), copied.gauss(0, 1), copied.random(), copied.getrandbits(100)]


def _of_torch(generator: torch.Generator) -> list[Any]:
    copied = generator.clone_state()
    return [generator.device, generator.get_state(), generator.initial_seed(), torch.randn(3, generator=copied)]


_FOLLOWING: dict[type, Any] = {
    np.random.Generator: lambda generator: _numbers(generator.bit_generator),
    np.random.RandomState: _of_state,
    np.random.SeedSequence: _of_seed,
    random.Random: _of_random,
    torch.Generator: _of_torch,
}


def _assert_same_dtype(a: Any, b: Any) -> None:
    assert a == b and (a.type, a.str, a.isalignedstruct, a.itemsize) == (b.type, b.str, b.isalignedstruct, b.itemsize)
    if a.names is not None:
        assert {name: field[1:] for name, field in a.fields.items()} == {
            name: field[1:] for name, field in b.fields.items()
        }
        for name in a.names:
            _assert_same_dtype(a.fields[name][0], b.fields[name][0])
    if a.subdtype is not None:
        _assert_same_dtype(a.subdtype[0], b.subdtype[0])
    if a.kind == "T":
        assert (a.coerce, str(getattr(a, "na_object", "none"))) == (b.coerce, str(getattr(b, "na_object", "none")))


def _assert_same_array(a: Any, b: Any) -> None:
    _assert_same_dtype(a.dtype, b.dtype)
    assert a.shape == b.shape
    order = (a.flags.c_contiguous, a.flags.f_contiguous)
    assert not any(order) or order == (b.flags.c_contiguous, b.flags.f_contiguous)
    if isinstance(a, np.ma.MaskedArray):
        assert (a.mask is np.ma.nomask) == (b.mask is np.ma.nomask) and a.hardmask == b.hardmask
        assert_same(np.ma.getmaskarray(a), np.ma.getmaskarray(b))
        assert_same(a._fill_value, b._fill_value)
        if a is not np.ma.masked:
            assert_same(a.view(np.ndarray), b.view(np.ndarray))
    elif a.dtype.kind in "OT":
        for mine, theirs in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            assert_same(mine, theirs)
    else:
        raw = [np.ndarray.view(one, np.ndarray).view(f"|V{one.itemsize}") for one in (a, b)]  # what lies in gaps, too
        assert raw[0].tobytes() == raw[1].tobytes()


def _assert_same_tensor(a: Any, b: Any) -> None:
    if isinstance(a, torch.nn.parameter.UninitializedTensorMixin):
        assert (a.dtype, a.requires_grad) == (b.dtype, b.requires_grad)
        return
    assert isinstance(a, torch.nn.Parameter) == isinstance(b, torch.nn.Parameter)
    facts = [(t.dtype, t.layout, t.requires_grad, t.is_nested, t.is_quantized, t.is_meta, t.is_leaf) for t in (a, b)]
    assert facts[0] == facts[1]
    a, b = a.detach(), b.detach()
    if a.layout is torch.jagged:
        parts = [
            [t.values(), t.offsets(), t.lengths(), t._maybe_min_seqlen, t._maybe_max_seqlen, t._ragged_idx]
            for t in (a, b)
        ]
    elif a.is_nested:
        parts = [[t.values(), t._nested_tensor_storage_offsets(), list(t.unbind())] for t in (a, b)]
    elif a.layout is torch.sparse_coo:
        parts = [[t.shape, t.is_coalesced(), t._indices(), t._values()] for t in (a, b)]
    elif a.layout is not torch.strided:
        names = (
            ("crow_indices", "col_indices")
            if a.layout in (torch.sparse_csr, torch.sparse_bsr)
            else ("ccol_indices", "row_indices")
        )
        parts = [[t.shape, t.values(), *(getattr(t, name)() for name in names)] for t in (a, b)]
    elif a.is_quantized:
        parts = [[t.shape, t.qscheme(), *quantized_tensors.reduce(t).inner.values()] for t in (a, b)]
    elif a.is_meta:
        parts = [[t.shape, t.stride()] for t in (a, b)]
    elif type(a) is not torch.Tensor:
        names, context = a.__tensor_flatten__()
        parts = [[context, a.shape, *(getattr(t, name) for name in names)] for t in (a, b)]
    else:
        strategies.assert_same_state(a, b)
        return
    assert_same(parts[0], parts[1])
