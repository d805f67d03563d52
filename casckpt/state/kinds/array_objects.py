"""Numpy beyond plain arrays and scalars, as something simpler, and back: `reduce_array`, `reduce_scalar`, `reduce`.

    numpy.array        an array of another dtype: the same memory as |V<n>, or u1 to u8 for types of other libraries
    numpy.object       an array of Python objects: the list of them, in C order or in F order
    numpy.string       an array of StringDType: the list of its texts, None for the missing ones
    numpy.recarray, numpy.matrix, numpy.chararray, numpy.memmap     the array itself; a memmap comes back as an array
    numpy.masked       data, mask, fill value and whether the mask is hard
    numpy.masked-constant
    numpy.scalar       its bytes
    numpy.dtype        nothing but its parameter

Arrays stay views of the state's own memory all the way, so they are hashed, shared and read as plain ones are.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from casckpt.state import arrays
from casckpt.state.checks import check_size, expect, expect_counts, inconsistent
from casckpt.state.kinds import array_dtypes, array_generators, params
from casckpt.state.kinds.reduced import CannotReduce, Make, Reduced

Array = np.ndarray[Any, np.dtype[Any]]
Masked = np.ma.MaskedArray[Any, Any]

_ORDERS = ("order", "shape")
_MASKED = ("data", "mask", "fill", "hard")
_RAW = {1: "|u1", 2: "<u2", 4: "<u4", 8: "<u8"}


def reduce_array(array: Array) -> Reduced | None:
    """An array as something simpler; None for one that is kept as it is.

    Raises:
        CannotReduce: its class or dtype is not known.
    """
    kind = type(array)
    if kind is np.ndarray:
        return _reduce_dtype(array) if arrays.form(array).problem else None
    if array is np.ma.masked:
        return Reduced("numpy.masked-constant", None, None)
    if isinstance(array, np.ma.MaskedArray) and kind is np.ma.MaskedArray:
        return _reduce_masked(array)
    name = next((name for name, known in _classes().items() if known is kind), None)
    if name is None:
        raise CannotReduce(f"arrays of class {kind.__qualname__} are not kept; numpy.asarray(...) of it is")
    own = vars(array).keys() - {"_getitem"}  # a matrix remembers with it that an index is being taken
    if own and kind is not np.memmap:
        raise CannotReduce(f"the array has attributes of its own: {', '.join(sorted(own))[:80]}")
    return Reduced(name, None, _bare(array))


def reduce_scalar(scalar: np.generic) -> Reduced | None:
    """A scalar as its bytes; None for one that is kept as it is.

    Raises:
        CannotReduce: its class or dtype is not known.
    """
    _, problem = arrays.describe_scalar(scalar)
    if not problem:
        return None
    dtype = scalar.dtype
    if type(scalar) is not dtype.type:
        raise CannotReduce("subclasses of numpy scalars are not kept")
    if dtype.hasobject:
        raise CannotReduce("structured dtypes with Python objects are not kept")
    return Reduced("numpy.scalar", array_dtypes.describe(dtype), scalar.tobytes())


def reduce(value: object) -> Reduced | None:
    """A dtype or a generator as something simpler; None for anything else.

    Raises:
        CannotReduce: this very one cannot be kept.
    """
    if isinstance(value, np.dtype):
        return Reduced("numpy.dtype", array_dtypes.describe(value), None)
    return array_generators.reduce(value)


def _bare(array: Array) -> Array:
    """The same memory as an array of no other class."""
    return np.ndarray.view(array, np.ndarray)


def _reduce_dtype(array: Array) -> Reduced:
    dtype = array.dtype
    if dtype.kind == "O" and dtype.names is None:
        return _reduce_elements("numpy.object", [], array, array)
    if array_dtypes.is_string(dtype):
        described = [array_dtypes.describe(dtype)]
        return _reduce_elements("numpy.string", described, array, _without_missing(array))
    if dtype.hasobject:
        raise CannotReduce("structured dtypes with Python objects are not kept")
    return Reduced("numpy.array", array_dtypes.describe(dtype), array.view(_raw(dtype)))


def _raw(dtype: np.dtype[Any]) -> str:
    """The plain dtype of the same width under which an array's memory is stored."""
    usual = f"|V{dtype.itemsize}"
    return _RAW.get(dtype.itemsize, usual) if array_dtypes.is_foreign(dtype) else usual


def _reduce_elements(kind: str, described: list[str], array: Array, elements: Array) -> Reduced:
    columns = array.flags.f_contiguous and not array.flags.c_contiguous
    param = params.write([*described, "F" if columns else "C", list(array.shape)])
    return Reduced(kind, param, (elements.T if columns else elements).reshape(-1).tolist())


def _without_missing(array: Array) -> Array:
    """The texts of a StringDType as Python objects, None for the missing ones."""
    texts = array.astype(object)
    for index, text in enumerate(texts.flat):
        if not isinstance(text, str):
            texts.flat[index] = None
    return texts


def _reduce_masked(array: Masked) -> Reduced:
    facts = vars(array)
    if facts["_baseclass"] is not np.ndarray or facts["_optinfo"]:
        raise CannotReduce("masked arrays of another class or with more in them than data, mask and fill value")
    mask, fill = facts["_mask"], facts["_fill_value"]
    inner = {
        "data": _bare(array),
        "mask": None if mask is np.ma.nomask else _bare(mask),
        "fill": None if fill is None else np.asarray(fill),
        "hard": bool(facts["_hardmask"]),
    }
    problem = _masked_problem(inner)
    if problem:
        raise CannotReduce(problem)
    return Reduced("numpy.masked", None, inner)


def _masked_problem(inner: dict[Any, Any]) -> str:
    """What is wrong with the parts of a masked array."""
    if tuple(inner) != _MASKED:
        return f"a masked array does not have the parts {', '.join(_MASKED)}"
    data, mask, fill, hard = inner.values()
    if type(data) is not np.ndarray or type(hard) is not bool:
        return "the data of a masked array is no array"
    if mask is not None and not _is(mask, data.shape, np.ma.make_mask_descr(data.dtype)):
        return "the mask of a masked array does not fit its data"
    if fill is not None and not _is(fill, (), data.dtype):
        return "the fill value of a masked array does not fit its data"
    return ""


def _is(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return type(array) is np.ndarray and array.shape == shape and array.dtype == dtype


def _make_masked(param: str | None, inner: Any) -> Masked:
    params.none(param, "a masked array")
    problem = _masked_problem(expect(inner, dict, "a masked array"))
    if problem:
        raise inconsistent(problem)
    data, mask, fill, hard = inner.values()
    found: Masked = data.view(np.ma.MaskedArray)
    # Straight into the attributes: the constructor and the setters copy, convert and round.
    held = np.ma.nomask if mask is None else mask
    vars(found).update(_mask=held, _fill_value=fill, _hardmask=hard, _sharedmask=True)
    return found


def _make_constant(param: str | None, inner: Any) -> Any:
    params.none(param, "numpy.ma.masked")
    expect(inner, type(None), "numpy.ma.masked")
    return np.ma.masked


def _make_array(param: str | None, inner: Any) -> Array:
    dtype = _parse_exotic(param)
    _expect_array(inner)
    if inner.dtype.str != np.dtype(_raw(dtype)).str:
        raise inconsistent(f"an array of dtype {str(dtype)[:80]} on memory of dtype {inner.dtype.str}")
    found: Array = inner.view(dtype)
    return found


def _make_scalar(param: str | None, inner: Any) -> np.generic:
    dtype = _parse_exotic(param)
    data = expect(inner, bytes, "the bytes of a scalar")
    if len(data) != dtype.itemsize:
        raise inconsistent(f"a scalar of dtype {str(dtype)[:80]} has {len(data)} bytes")
    # Of its own memory, which can be written to: a structured scalar is a view.
    found: Any = np.ndarray((), dtype, bytearray(data) if data else None)
    scalar: np.generic = found[()]
    return scalar


def _parse_exotic(param: str | None) -> np.dtype[Any]:
    """A dtype that is not plain and has its elements in its own memory."""
    dtype = array_dtypes.parse(expect(param, str, "a numpy dtype"))
    if array_dtypes.is_plain(dtype) or dtype.subdtype is not None or dtype.hasobject:
        raise inconsistent(f"an array of dtype {str(dtype)[:80]} is not stored so")
    return dtype


def _make_dtype(param: str | None, inner: Any) -> np.dtype[Any]:
    expect(inner, type(None), "the rest of a numpy dtype")
    return array_dtypes.parse(expect(param, str, "a numpy dtype"))


def _make_object(param: str | None, inner: Any) -> Array:
    return _fill(np.dtype(object), params.read(param, "an array of objects"), inner)


def _make_string(param: str | None, inner: Any) -> Array:
    described, *look = expect(params.read(param, "an array of texts") or None, list, "a parameter")
    dtype = array_dtypes.parse(expect(described, str, "a numpy dtype"))
    if not array_dtypes.is_string(dtype):
        raise inconsistent(f"an array of texts of dtype {str(dtype)[:80]}")
    missing = hasattr(dtype, "na_object")
    for text in expect(inner, list, "the texts of an array"):
        if type(text) is not str and not (missing and text is None):
            raise inconsistent(f"an array of texts holds a {type(text).__name__}")
    values = [getattr(dtype, "na_object", None) if text is None else text for text in inner]
    try:
        return _fill(dtype, look, values)
    except UnicodeEncodeError as error:
        raise inconsistent("an array of texts holds one that is not Unicode") from error


def _fill(dtype: np.dtype[Any], look: Any, values: Any) -> Array:
    """An array of elements one by one; numpy would look into those that are sequences."""
    if type(look) is not list or len(look) != 2 or look[0] not in ("C", "F"):
        raise inconsistent("an array of objects has no order and shape")
    shape = expect_counts(look[1], "the shape of an array")
    if check_size(shape, 1) != len(expect(values, list, "the elements of an array")):
        raise inconsistent(f"an array of shape {shape} has {len(values)} elements")
    check_size(shape, dtype.itemsize)
    flat = np.fromiter(values, object, len(values)).astype(dtype, copy=False)
    return flat.reshape(shape) if look[0] == "C" else flat.reshape(shape[::-1]).T


def _subclass(name: str) -> Make:
    """The maker of a class, which is looked up only when there is one: numpy warns for some that it will drop."""

    def make(param: str | None, inner: Any) -> Array:
        params.none(param, f"a {name}")
        _expect_array(inner)
        if name == "numpy.matrix" and inner.ndim != 2:
            raise inconsistent(f"a matrix of {inner.ndim} dimensions")
        try:
            found: Array = inner if name == "numpy.memmap" else inner.view(_classes()[name])
        except (TypeError, ValueError) as error:
            raise inconsistent(f"a {name} of dtype {str(inner.dtype)[:80]}: {error}") from error
        return found

    return make


def _expect_array(inner: Any) -> None:
    if type(inner) is not np.ndarray:
        raise inconsistent(f"an array is on a {type(inner).__name__}")


@functools.cache
def _classes() -> dict[str, type]:
    return {f"numpy.{kind.__name__}": kind for kind in (np.recarray, np.matrix, np.char.chararray, np.memmap)}


MAKERS: dict[str, Make] = {
    "numpy.array": _make_array,
    "numpy.object": _make_object,
    "numpy.string": _make_string,
    "numpy.masked": _make_masked,
    "numpy.masked-constant": _make_constant,
    "numpy.scalar": _make_scalar,
    "numpy.dtype": _make_dtype,
    **{name: _subclass(name) for name in ("numpy.recarray", "numpy.matrix", "numpy.chararray", "numpy.memmap")},
    **array_generators.MAKERS,
}
