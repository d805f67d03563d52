"""Numpy dtypes beyond the plain ones as canonical text, and back.

    <f4                           what `dtype.str` says all of: numbers, texts, bytes, dates; |O for Python objects
    ml_dtypes.bfloat16            a type of that library, found only where the library is imported
    <f16:63:-16382                a long double: bits of its mantissa and least exponent on the platform it is from
    {"base":..,"shape":[..]}      a sub-array
    {"names":[..],"formats":[..],"offsets":[..],"itemsize":n}    a record; with "titles", "aligned", "record" if it has
    {"coerce":true,"missing":..}  StringDType; what stands for a missing text is null if nothing, "None" or "nan"

A dtype's `metadata` is no part of it. Nothing is cached by dtype: numpy calls a record equal to one without alignment.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from typing import Any

import numpy as np

from casckpt.state.checks import expect, expect_count, expect_counts, inconsistent, unknown
from casckpt.state.kinds import params
from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown

Dtype = np.dtype[Any]

_PLAIN = re.compile(r"[<>|][biufcSUmMVO][0-9]{0,10}(\[[0-9]*[A-Za-z]{1,7}\])?").fullmatch
_LONG = re.compile(r"([<>][fc][0-9]{1,3}):[0-9]{1,4}:-[0-9]{1,6}").fullmatch
_FOREIGN = re.compile(r"ml_dtypes\.([a-z][a-z0-9_]{0,39})").fullmatch
_LONGEST = {"f": 8, "c": 16}
_DEPTH_MAX = 32
_MISSING: dict[Any, dict[str, Any]] = {None: {}, "None": {"na_object": None}, "nan": {"na_object": math.nan}}
_RECORD = ("names", "formats", "offsets", "itemsize")


def describe(dtype: Dtype) -> str:
    """The text of a dtype, of which `parse` makes it again.

    Raises:
        CannotReduce: it is none of those above.
    """
    found = _describe(dtype, 0)
    if isinstance(found, str):
        return found
    if _describe(_build(found, 0), 0) != found:
        raise CannotReduce(f"numpy does not make the dtype {str(dtype)[:80]} again from its fields")
    return params.write(found)


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Dtype:
    """The dtype of a text; hostile input.

    Raises:
        ClassUnknown: it is of a library that is not imported.
    """
    try:
        fields = params.read(text, "a numpy dtype") if text[:1] == "{" else text
        dtype = _build(fields, 0)
        same = _describe(dtype, 0) == fields
    except (TypeError, ValueError, OverflowError, CannotReduce) as error:
        raise unknown(f"numpy dtype {text[:60]!r}: {str(error)[:200]}") from error
    if not same:
        raise unknown(f"numpy dtype {text[:60]!r} is not in canonical form")
    return dtype


def is_plain(dtype: Dtype) -> bool:
    """Whether `dtype.str` says all of a dtype, on every platform."""
    if dtype.kind not in "biufcSUmMVO" or dtype.names is not None or dtype.subdtype is not None:
        return False
    if is_foreign(dtype) or _is_long(dtype):
        return False
    return np.dtype(dtype.str) == dtype and (dtype.kind != "V" or dtype.type is np.void)


def is_foreign(dtype: Dtype) -> bool:
    """Whether a dtype is of another library, whatever kind it says it is."""
    return dtype.isbuiltin == 2


def is_string(dtype: Dtype) -> bool:
    """Whether a dtype is a StringDType, whose elements lie elsewhere."""
    return dtype.kind == "T"


def _is_long(dtype: Dtype) -> bool:
    return dtype.names is None and dtype.itemsize > _LONGEST.get(dtype.kind, dtype.itemsize)


def _describe(dtype: Dtype, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise CannotReduce(f"its dtype is nested more than {_DEPTH_MAX} levels deep")
    if is_plain(dtype):
        return dtype.str
    if _is_long(dtype):
        return dtype.str + _platform()
    if is_string(dtype):
        return {"coerce": bool(getattr(dtype, "coerce", True)), "missing": _missing(dtype)}
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _describe(base, depth + 1), "shape": list(shape)}
    if dtype.names is not None and dtype.type in (np.void, np.record):
        return _describe_record(dtype, depth)
    name = f"ml_dtypes.{dtype.name}"
    if is_foreign(dtype) and _foreign(dtype.name) == dtype:
        return name
    raise CannotReduce(f"its dtype {str(dtype)[:80]} is of another library")


def _describe_record(dtype: Dtype, depth: int) -> dict[str, Any]:
    names = dtype.names or ()
    known: Any = dtype.fields
    fields = [known[name] for name in names]
    titles = [field[2] if len(field) > 2 else None for field in fields]
    found: dict[str, Any] = {
        "names": list(names),
        "formats": [_describe(field[0], depth + 1) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    if any(title is not None for title in titles):
        if any(title is not None and type(title) is not str for title in titles):
            raise CannotReduce("a field of its dtype has a title that is no text")
        found["titles"] = titles
    if dtype.isalignedstruct:
        found["aligned"] = True
    if dtype.type is np.record:
        found["record"] = True
    return found


def _build(fields: Any, depth: int) -> Dtype:
    """The dtype that `_describe` gives these fields; what it does not check, numpy or the comparison with them does."""
    if depth > _DEPTH_MAX:
        raise inconsistent(f"a numpy dtype nested more than {_DEPTH_MAX} levels deep")
    if isinstance(fields, str):
        return _build_simple(fields)
    expect(fields, dict, "a numpy dtype")
    if tuple(fields) == ("coerce", "missing"):
        return _build_string(fields)
    if tuple(fields) == ("base", "shape"):
        return _numpy((_build(fields["base"], depth + 1), expect_counts(fields["shape"], "a sub-array")))
    if tuple(fields)[:4] != _RECORD or not {*fields} <= {*_RECORD, "titles", "aligned", "record"}:
        raise unknown("a numpy dtype with other fields than this release knows")
    formats = [_build(one, depth + 1) for one in expect(fields["formats"], list, "the formats of a dtype")]
    names = expect(fields["names"], list, "the names of a dtype")
    offsets = expect(fields["offsets"], list, "the offsets of a dtype")
    titles = expect(fields.get("titles", [None] * len(names)), list, "the titles of a dtype")
    if not len(names) == len(formats) == len(offsets) == len(titles):
        raise inconsistent("the names, formats, offsets and titles of a dtype differ in number")
    for name, offset, title in zip(names, offsets, titles, strict=True):
        expect(name, str, "the name of a field")
        expect_count(offset, "the offset of a field")
        if title is not None:
            expect(title, str, "the title of a field")
    described: dict[str, Any] = {"names": names, "formats": formats, "offsets": offsets}
    described["itemsize"] = expect_count(fields["itemsize"], "the size of a dtype")
    if "titles" in fields:
        described["titles"] = titles
    dtype = _numpy(described, align="aligned" in fields)
    return _numpy((np.record, dtype)) if "record" in fields else dtype


def _build_simple(text: str) -> Dtype:
    if _PLAIN(text):
        return _numpy(text)
    found = _LONG(text)
    if found is not None:
        if text != found[1] + _platform():
            raise unknown(f"long doubles of another platform: {text}")
        return _numpy(found[1])
    found = _FOREIGN(text)
    dtype = None if found is None else _foreign(found[1])
    if dtype is not None:
        return dtype
    if found is not None and sys.modules.get("ml_dtypes") is None:
        raise ClassUnknown("ml_dtypes is not imported")
    raise unknown(f"numpy dtype {text[:60]!r}")


def _build_string(fields: dict[str, Any]) -> Dtype:
    if not hasattr(np.dtypes, "StringDType"):
        raise unknown("it holds a StringDType and this numpy has none")
    missing: Any = fields["missing"]
    if missing is not None:
        expect(missing, str, "what stands for a missing text")
    if missing not in _MISSING:
        raise unknown(f"a StringDType with {str(missing)[:40]!r} for missing texts")
    kind: Any = np.dtypes.StringDType
    made: Dtype = kind(coerce=expect(fields["coerce"], bool, "coerce"), **_MISSING[missing])
    return made


def _missing(dtype: Any) -> str | None:
    """What stands for a missing text of a StringDType, by name."""
    if not hasattr(dtype, "na_object"):
        return None
    missing = dtype.na_object
    if missing is None or (type(missing) is float and math.isnan(missing)):
        return "None" if missing is None else "nan"
    raise CannotReduce(f"its StringDType has {str(missing)[:40]!r} for missing texts; None and nan can be kept")


@functools.cache
def _platform() -> str:
    """What tells the long doubles of this platform from those of others."""
    facts = np.finfo(np.longdouble)
    return f":{facts.nmant}:{facts.minexp}"


def _foreign(name: str) -> Dtype | None:
    """The dtype of a scalar type of ml_dtypes, if that is imported and has it."""
    library = sys.modules.get("ml_dtypes")
    kind = None if library is None else vars(library).get(name)
    return _numpy(kind) if isinstance(kind, type) and issubclass(kind, np.generic) else None


def _numpy(description: Any, *, align: bool = False) -> Dtype:
    found: Dtype = np.dtype(description, align=align)
    return found
