"""Values of the standard library as something simpler, and back.

Sets are in `trace`, which knows how to sort them; times in `times`.

    kind                     parameter              inner value
    set, frozenset           -                      list of the members, sorted
    deque                    maxlen in decimal, -   list
    defaultdict              factory, -             dict; the factory is a builtin type, named as in `_FACTORIES`
    Counter, mappingproxy    -                      dict
    namespace                class                  dict; types.SimpleNamespace, argparse.Namespace
    range, slice             -                      tuple of start, stop, step
    ellipsis                 -                      None
    namedtuple, dataclass    class                  dict of the fields
    enum                     class                  name of the member, or value of a Flag
    path                     flavour                text
    decimal                  -                      text
    fraction                 -                      tuple of numerator and denominator
    uuid                     -                      16 bytes

Values are made without calling what a class defines: no `__init__`, no `__post_init__`, no `__new__` of a user's class.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from types import MappingProxyType, SimpleNamespace
from typing import Any

from casckpt.state.checks import expect, inconsistent, parsed, unknown
from casckpt.state.kinds import times
from casckpt.state.kinds.classes import class_name, find_class
from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown, Make, Reduce, Reduced

_FACTORIES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(bool, bytearray, bytes, complex, float, int, str),
        *(dict, frozenset, list, set, tuple, OrderedDict, Counter),
    )
}
_PATHS = {
    "PosixPath": "posix",
    "WindowsPath": "windows",
    "PurePosixPath": "pure-posix",
    "PureWindowsPath": "pure-windows",
}


def reducer(kind: type) -> Reduce | None:
    """What reduces values of exactly this type; None for one that is not of the table.

    Modules are found among those that are imported: one that is not cannot have made the value.
    """
    found = _PLAIN.get(kind)
    if found is not None:
        return found
    known = _LATE.get((kind.__module__.partition(".")[0], kind.__name__))
    if known is not None and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind:
        return known
    if issubclass(kind, enum.Enum):
        return _reduce_enum
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _reduce_namedtuple
    if dataclasses.is_dataclass(kind) and not issubclass(kind, dict | list | tuple | str | bytes | int | float):
        return _reduce_dataclass
    return None


# ---- containers


def _reduce_deque(value: deque[Any]) -> Reduced:
    return Reduced("deque", None if value.maxlen is None else str(value.maxlen), list(value))


def _make_deque(param: str | None, inner: Any) -> Any:
    members = expect(inner, list, "a deque")
    if param is None:
        return deque(members)
    if not param.isascii() or not param.isdecimal() or len(param) > 18 or len(members) > int(param):
        raise inconsistent(f"a deque of {len(members)} with a maxlen of {param[:20]!r}")
    return deque(members, int(param))


def _reduce_defaultdict(value: defaultdict[Any, Any]) -> Reduced:
    factory = value.default_factory
    if factory is None:
        return Reduced("defaultdict", None, dict(value))
    name = getattr(factory, "__name__", "")
    if _FACTORIES.get(name) is not factory:
        raise CannotReduce(f"its default_factory is {name or type(factory).__name__}, not a builtin type")
    return Reduced("defaultdict", name, dict(value))


def _make_defaultdict(param: str | None, inner: Any) -> Any:
    if param is not None and param not in _FACTORIES:
        raise unknown(f"a defaultdict of {param[:40]!r}")
    return defaultdict(None if param is None else _FACTORIES[param], expect(inner, dict, "a defaultdict"))


def _make_counter(_param: str | None, inner: Any) -> Any:
    counter: Counter[Any] = Counter()
    dict.update(counter, expect(inner, dict, "a Counter"))
    return counter


def _make_set(kind: type) -> Make:
    def make(_param: str | None, inner: Any) -> Any:
        members = expect(inner, list, "a set")
        try:
            found = kind(members)
        except TypeError as error:
            raise inconsistent(f"a set with a member that cannot be one: {error}") from error
        if len(found) != len(members):
            raise inconsistent("a set has the same member twice")
        return found

    return make


def _reduce_namespace(value: Any) -> Reduced:
    return Reduced("namespace", class_name(type(value)), dict(vars(value)))


def _make_namespace(param: str | None, inner: Any) -> Any:
    fields = _fields(inner)
    if param not in ("types:SimpleNamespace", "argparse:Namespace"):
        raise unknown(f"a namespace of class {str(param)[:40]!r}")
    if param == "types:SimpleNamespace":
        return SimpleNamespace(**fields)
    import argparse

    return argparse.Namespace(**fields)


def _reduce_range(value: Any) -> Reduced:
    return Reduced(type(value).__name__, None, (value.start, value.stop, value.step))


def _make_range(_param: str | None, inner: Any) -> Any:
    bounds = expect(inner, tuple, "a range")
    if len(bounds) != 3 or any(type(bound) is not int for bound in bounds) or bounds[2] == 0:
        raise inconsistent("a range is not three whole numbers")
    return range(*bounds)


def _make_slice(_param: str | None, inner: Any) -> Any:
    if len(expect(inner, tuple, "a slice")) != 3:
        raise inconsistent("a slice is not three values")
    return slice(*inner)


# ---- classes


def _reduce_namedtuple(value: Any) -> Reduced:
    kind = type(value)
    if getattr(value, "__dict__", None) or len(kind._fields) != len(value):
        raise CannotReduce("it has more than the fields of a named tuple")
    return Reduced("namedtuple", class_name(kind), dict(zip(kind._fields, value, strict=True)))


def _make_namedtuple(param: str | None, inner: Any) -> Any:
    fields, kind = _fields(inner), find_class(param)
    if not issubclass(kind, tuple) or getattr(kind, "_fields", None) != tuple(fields):
        raise ClassUnknown(f"{param} is no named tuple of these fields any more")
    return tuple.__new__(kind, fields.values())


def _reduce_dataclass(value: Any) -> Reduced:
    kind = type(value)
    names = [field.name for field in dataclasses.fields(kind)]
    if set(getattr(value, "__dict__", ())) - set(names):
        raise CannotReduce("it has attributes beside its fields")
    found = {name: getattr(value, name) for name in names if hasattr(value, name)}
    if len(found) != len(names):
        raise CannotReduce("one of its fields has no value")
    return Reduced("dataclass", class_name(kind), found)


def _make_dataclass(param: str | None, inner: Any) -> Any:
    fields, kind = _fields(inner), find_class(param)
    if not dataclasses.is_dataclass(kind) or [field.name for field in dataclasses.fields(kind)] != list(fields):
        raise ClassUnknown(f"{param} is no dataclass of these fields any more")
    try:
        made = object.__new__(kind)
    except TypeError as error:  # it derives from a type that is made otherwise
        raise ClassUnknown(f"{param} cannot be made without its own __new__") from error
    for name, item in fields.items():
        object.__setattr__(made, name, item)
    return made


def _reduce_enum(value: Any) -> Reduced:
    kind = type(value)
    return Reduced("enum", class_name(kind), value.value if isinstance(value, enum.Flag) else value.name)


def _make_enum(param: str | None, inner: Any) -> Any:
    kind = find_class(param)
    if not issubclass(kind, enum.Enum):
        raise ClassUnknown(f"{param} is no enumeration any more")
    try:
        return kind(inner) if issubclass(kind, enum.Flag) else kind[expect(inner, str, "an enum member")]
    except (KeyError, ValueError, TypeError) as error:
        raise ClassUnknown(f"{param} has no member {inner!r:.40} any more") from error


def _fields(inner: Any) -> dict[str, Any]:
    fields: dict[str, Any] = expect(inner, dict, "the fields of an object")
    if any(type(name) is not str for name in fields):
        raise inconsistent("a field of an object has no text as its name")
    return fields


# ---- texts


def _reduce_path(value: Any) -> Reduced:
    return Reduced("path", _PATHS[type(value).__name__], str(value))


def _make_path(param: str | None, inner: Any) -> Any:
    import pathlib

    text = expect(inner, str, "a path")
    here = "windows" if pathlib.Path is pathlib.WindowsPath else "posix"
    if param is None or param not in _PATHS.values():
        raise unknown(f"a path of flavour {str(param)[:20]!r}")
    if param == here:
        return pathlib.Path(text)
    return pathlib.PurePosixPath(text) if param.endswith("posix") else pathlib.PureWindowsPath(text)


def _reduce_decimal(value: Any) -> Reduced:
    return Reduced("decimal", None, str(value).replace("e", "E"))  # a context may ask for small letters


def _make_decimal(_param: str | None, inner: Any) -> Any:
    import decimal

    text = expect(inner, str, "a Decimal")
    made = parsed(decimal.Decimal, text)
    if str(made).replace("e", "E") != text:
        raise inconsistent("a Decimal is not in its usual form")
    return made


def _make_fraction(_param: str | None, inner: Any) -> Any:
    import fractions

    parts = expect(inner, tuple, "a Fraction")
    if [type(part) for part in parts] != [int, int] or parts[1] < 1 or math.gcd(*parts) != 1:
        raise inconsistent("a Fraction is not two whole numbers in lowest terms")
    return fractions.Fraction(*parts)


def _make_uuid(_param: str | None, inner: Any) -> Any:
    import uuid

    return uuid.UUID(int=int.from_bytes(_sixteen(inner), "big"))


def _sixteen(inner: Any) -> bytes:
    data: bytes = expect(inner, bytes, "a UUID")
    if len(data) != 16:
        raise inconsistent(f"a UUID of {len(data)} bytes")
    return data


_PLAIN: dict[type, Reduce] = {
    deque: _reduce_deque,
    defaultdict: _reduce_defaultdict,
    Counter: lambda value: Reduced("Counter", None, dict(value)),
    MappingProxyType: lambda value: Reduced("mappingproxy", None, dict(value)),
    SimpleNamespace: _reduce_namespace,
    range: _reduce_range,
    slice: _reduce_range,
    type(Ellipsis): lambda _: Reduced("ellipsis", None, None),
}

_LATE: dict[tuple[str, str], Reduce] = {
    **times.REDUCERS,
    ("argparse", "Namespace"): _reduce_namespace,
    **{("pathlib", name): _reduce_path for name in _PATHS},
    ("decimal", "Decimal"): _reduce_decimal,
    ("fractions", "Fraction"): lambda value: Reduced("fraction", None, (value.numerator, value.denominator)),
    ("uuid", "UUID"): lambda value: Reduced("uuid", None, value.bytes),
}
"""By top package and name of the type."""

MAKERS: dict[str, Make] = {
    "set": _make_set(set),
    "frozenset": _make_set(frozenset),
    "deque": _make_deque,
    "defaultdict": _make_defaultdict,
    "Counter": _make_counter,
    "mappingproxy": lambda _, inner: MappingProxyType(expect(inner, dict, "a mappingproxy")),
    "namespace": _make_namespace,
    "range": _make_range,
    "slice": _make_slice,
    "ellipsis": lambda _, inner: ... if inner is None else expect(inner, type(None), "an ellipsis"),
    "namedtuple": _make_namedtuple,
    "dataclass": _make_dataclass,
    "enum": _make_enum,
    **times.MAKERS,
    "path": _make_path,
    "decimal": _make_decimal,
    "fraction": _make_fraction,
    "uuid": _make_uuid,
}
"""How values of each kind are made of a parameter and an inner value."""
