"""Values of the standard library that are stored as something simpler: a strategy for each row of the table."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import types
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque

from hypothesis import strategies as st

import casckpt
from casckpt.state import paths
from casckpt.state.kinds.opaque import Opaque
from tests.strategies import floats, keys, leaves, states


class Color(enum.Enum):
    RED = "r"
    GREEN = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Mode(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Point(typing.NamedTuple):
    x: object
    y: object = 0


@dataclasses.dataclass
class Config:
    lr: float
    extra: object = None

    def __post_init__(self):
        # Values are made without it: a class that computes, logs or checks here is not asked.
        raise AssertionError("made by its own code")


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: object

    @dataclasses.dataclass
    class Nested:
        x: int


class Registered:
    def __init__(self, value):
        self.value = value


class Protocol:
    __casckpt_version__ = 3

    def __init__(self, value):
        self.value = value

    def __casckpt__(self):
        return {"value": self.value}

    @classmethod
    def __from_casckpt__(cls, stored, version):
        assert version == 3
        return cls(stored["value"])


casckpt.register(Registered, to=lambda one: [one.value], of=lambda stored, _version: Registered(stored[0]), version=2)


def config(lr, extra):
    """A Config, made without its `__post_init__`, which no test may run."""
    made = object.__new__(Config)
    made.lr, made.extra = lr, extra
    return made


_zones = st.none() | st.sampled_from(
    [
        *(datetime.UTC, datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)), zoneinfo.ZoneInfo("UTC")),
        datetime.timezone(datetime.timedelta(seconds=1), "odd"),
    ]
)
_keys = keys()
_members = _keys | st.sampled_from([*Color, *Level, Mode(3), fractions.Fraction(1, 3), pathlib.PurePosixPath("a")])
_sets = st.lists(_members, max_size=5, unique_by=lambda one: (type(one).__name__, repr(one))).map(
    lambda found: {one for one in found if type(one) in (int, str)} if len(found) % 2 else set(found)
)
_dicts = st.dictionaries(_keys.filter(lambda key: key == key), leaves(), max_size=3)

ROWS: dict[str, st.SearchStrategy] = {
    "set": _sets,
    "frozenset": _sets.map(frozenset),
    "set of sets": st.sets(st.frozensets(st.integers(0, 9), max_size=3), max_size=3),
    "large set": st.sets(st.integers(-(2**70), 2**70), min_size=65, max_size=80),
    "deque": st.builds(deque, st.lists(leaves(), max_size=3), st.none() | st.integers(3, 9)),
    "defaultdict": st.builds(defaultdict, st.sampled_from([None, list, dict, int, OrderedDict, Counter, set]), _dicts),
    "Counter": st.dictionaries(st.text(max_size=2), st.integers() | floats(), max_size=3).map(Counter),
    "mappingproxy": _dicts.map(types.MappingProxyType),
    "SimpleNamespace": st.builds(types.SimpleNamespace, a=leaves(), b=leaves()),
    "Namespace": st.builds(argparse.Namespace, lr=leaves()),
    "range": st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
    "slice": st.builds(slice, st.none() | st.integers(), st.none() | st.integers(), st.none() | leaves()),
    "ellipsis": st.just(...),
    "namedtuple": st.builds(Point, leaves(), states(1)),
    "dataclass": st.builds(config, floats(), states(1)),
    "frozen dataclass": st.builds(Frozen, st.text(max_size=3), st.builds(Frozen.Nested, st.integers())),
    "enum": st.sampled_from(Color),
    "IntEnum": st.sampled_from(Level),
    "Flag": st.sampled_from([Mode(0), Mode.READ, Mode.READ | Mode.RUN, Mode(7)]),
    "date": st.dates(),
    "time": st.times(timezones=_zones),
    "datetime": st.datetimes(timezones=_zones, allow_imaginary=True),
    "timedelta": st.timedeltas(),
    "timezone": _zones.filter(lambda zone: type(zone) is datetime.timezone),
    "ZoneInfo": st.just(zoneinfo.ZoneInfo("UTC")),
    "path": st.sampled_from(
        [
            *(pathlib.Path("a/b"), pathlib.PurePosixPath("/x/\udcff"), pathlib.PureWindowsPath("C:\\a\\b")),
            pathlib.Path("."),
        ]
    ),
    "Decimal": st.decimals(allow_nan=True) | st.sampled_from([decimal.Decimal("sNaN12"), decimal.Decimal("-0E+5")]),
    "Fraction": st.fractions(),
    "UUID": st.uuids(),
    "registered": st.builds(Registered, leaves()),
    "__casckpt__": st.builds(Protocol, leaves()),
    "opaque": st.builds(Opaque, st.just("dataclass"), st.just("gone.module:Config"), st.just({"lr": 0.1})),
}


def plain(value):
    """A value as plain nested ones that say all of it, for `assert_same_leaves`."""
    kind = type(value)
    if kind in (set, frozenset):
        return kind.__name__, sorted(repr(plain(one)) for one in value)
    if kind in (deque, defaultdict, types.MappingProxyType, Counter):
        extra = repr(getattr(value, "maxlen", None)), repr(getattr(value, "default_factory", None))
        return kind.__name__, extra, plain(list(value) if kind is deque else dict(value))
    if kind in (types.SimpleNamespace, argparse.Namespace, Registered, Protocol):
        return kind.__name__, plain(dict(vars(value)))
    if dataclasses.is_dataclass(value):
        return kind.__qualname__, plain({one.name: getattr(value, one.name) for one in dataclasses.fields(value)})
    if kind is Opaque:
        return "Opaque", value.kind, value.param, plain(value.fields)
    if kind is Point:
        return "Point", *(plain(one) for one in value)
    if kind is slice:
        return "slice", plain([value.start, value.stop, value.step])
    if kind is decimal.Decimal:
        return "Decimal", str(value)
    if kind in (datetime.time, datetime.datetime):
        return kind.__name__, value.replace(tzinfo=None).isoformat(), value.fold, repr(value.tzinfo)
    if kind in (dict, OrderedDict):
        return {key: plain(one) for key, one in value.items()}
    if kind in (list, tuple):
        return kind(map(plain, value))
    if isinstance(value, enum.Enum | pathlib.PurePath | datetime.date | datetime.timedelta | datetime.tzinfo):
        return kind.__name__, repr(value)
    if kind in (uuid.UUID, fractions.Fraction, range, type(...)):
        return kind.__name__, repr(value)
    return value


__all__ = ["ROWS", "Config", "Frozen", "Point", "Protocol", "Registered", "config", "paths", "plain"]
