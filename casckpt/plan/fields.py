"""Configurations side by side: nested values as one field a path, and which of them differ.

    {"optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "layers": [{"dim": 8}]}
    optim.lr = 0.1    optim.betas = [0.9, 0.95]    layers[0].dim = 8

Lists of plain values stay whole, since they are read and changed as one. Keys that would make a path ambiguous stand in
quotes, and those that are no texts in parentheses, so two fields never have the same path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from casckpt.format.canonical import encode
from casckpt.units import json_number

_BARE = re.compile(r"[^.\[\]()\"]+")


class _Missing:
    """The value of a field that is not there, which None is not."""

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class FieldDifference(NamedTuple):
    """A field that is not the same everywhere: its value on each side, `MISSING` where there is none."""

    path: str
    values: tuple[Any, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "values": [None if value is MISSING else _json(value) for value in self.values],
            "missing": [number for number, value in enumerate(self.values) if value is MISSING],
        }


class FieldDifferences(NamedTuple):
    """The fields that differ, by path, and how many are the same everywhere."""

    different: tuple[FieldDifference, ...] = ()
    equal: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"different": [field.to_dict() for field in self.different], "equal": self.equal}


class MetadataDifferences(NamedTuple):
    """What differs in the values that commits were made with, by the name they were given under."""

    config: FieldDifferences = FieldDifferences()
    environment: FieldDifferences = FieldDifferences()
    code: FieldDifferences = FieldDifferences()
    data: FieldDifferences = FieldDifferences()

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not any(found.different for found in self)

    def to_dict(self) -> dict[str, Any]:
        return {name: found.to_dict() for name, found in zip(self._fields, self, strict=True)}


NO_DIFFERENCES: Final = MetadataDifferences()


def metadata_differences(sides: Sequence[Mapping[str, Any]]) -> MetadataDifferences:
    """What differs between the metadata of commits, each by name."""
    return MetadataDifferences(
        *(differences([side.get(name, MISSING) for side in sides]) for name in MetadataDifferences._fields)
    )


def differences(sides: Sequence[Any]) -> FieldDifferences:
    """What differs between nested values; `MISSING` for a side that has none.

    Values are the same if their types and bits are: 1 is not 1.0 and not True, NaN is NaN.
    """
    flat = [flattened(side) for side in sides]
    different, equal = [], 0
    for path in sorted({path for fields in flat for path in fields}):
        values = tuple(fields.get(path, MISSING) for fields in flat)
        if len({None if value is MISSING else encode(value) for value in values}) == 1:
            equal += 1
        else:
            different.append(FieldDifference(path, values))
    return FieldDifferences(tuple(different), equal)


def flattened(value: Any) -> dict[str, Any]:
    """The fields of a nested value by path; a value that is not nested is the field of the empty path."""
    found: dict[str, Any] = {}
    # A stack, since a stored value may be nested deeper than functions may call each other.
    waiting = [] if value is MISSING else [("", value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, Mapping) and item:
            waiting += [(f"{path}.{_key(key)}" if path else _key(key), inner) for key, inner in item.items()]
        elif isinstance(item, list | tuple) and any(isinstance(inner, Mapping | list | tuple) for inner in item):
            waiting += [(f"{path}[{number}]", inner) for number, inner in enumerate(item)]
        else:
            found[path] = item
    return found


def _json(value: Any) -> Any:
    """A field, which is at most a list of plain values, as JSON has it."""
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return json_number(value) if isinstance(value, float) else value


def _key(key: Any) -> str:
    if not isinstance(key, str):
        return f"({key!r})"
    return key if _BARE.fullmatch(key) else json.dumps(key)
