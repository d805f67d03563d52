"""What a comparison of values found; part of `reports.Diff`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casckpt.units import json_number


@dataclass(frozen=True, slots=True)
class Measures:
    """How far elements are apart. Those that are NaN or infinite on a side are left out of all but `changed`."""

    elements: int
    l2: float
    """Length of the difference."""
    relative: float | None
    """`l2` by the length before; None if parts that are equal were not read."""
    largest: float
    """The largest difference of an element."""
    cosine: float | None
    """Of the angle between before and after; None if one of them is zero, or parts were not read."""
    changed: float
    """Share of the elements that differ; -0 is 0, and NaN is NaN."""
    nan_before: int
    nan_after: int
    inf_before: int
    inf_after: int
    whole: bool
    """False if parts that are equal were not read: NaN and infinite ones in them are not counted."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "elements": self.elements,
            "l2": json_number(self.l2),
            "relative": None if self.relative is None else json_number(self.relative),
            "max": json_number(self.largest),
            "cosine": self.cosine,
            "changed": self.changed,
            "nan": [self.nan_before, self.nan_after],
            "inf": [self.inf_before, self.inf_after],
            "whole": self.whole,
        }


@dataclass(frozen=True, slots=True)
class Overlap:
    """Along which axis a leaf was resized: its first `compared` entries are in both commits and were compared."""

    axis: int
    compared: int
    before: int
    after: int

    def to_dict(self) -> dict[str, Any]:
        return {"axis": self.axis, "compared": self.compared, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class ValueChange:
    """The numbers of one leaf in both commits; `path` and `change` are those of its `LeafChange`."""

    path: str
    change: str
    before: str
    after: str
    measures: Measures
    overlap: Overlap | None = None
    """Of a resized leaf the part that was compared; None if all of it was."""

    def to_dict(self) -> dict[str, Any]:
        words = {"path": self.path, "change": self.change, "before": self.before, "after": self.after}
        overlap = None if self.overlap is None else self.overlap.to_dict()
        return words | self.measures.to_dict() | {"overlap": overlap}


@dataclass(frozen=True, slots=True)
class GroupChange:
    """The leaves below a path together. `measures` are those of the ones that were compared."""

    path: str
    leaves: int
    equal: int
    measures: Measures

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "leaves": self.leaves, "equal": self.equal} | self.measures.to_dict()


@dataclass(frozen=True, slots=True)
class ValueDiff:
    """How far the numbers of two commits are apart, and what had to be read to know it."""

    leaves: tuple[ValueChange, ...]
    groups: tuple[GroupChange, ...]
    compared: int
    """Leaves that were compared, shown in `leaves` or not."""
    unmeasured: tuple[str, ...]
    """Paths of tensors and arrays in both commits that could not be compared by number."""
    read_bytes: int
    """Plain bytes of the chunks that were read, by the comparison of small leaves too."""
    total_bytes: int
    """Plain bytes of both commits."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "leaves": [leaf.to_dict() for leaf in self.leaves],
            "groups": [group.to_dict() for group in self.groups],
            "compared": self.compared,
            "unmeasured": list(self.unmeasured),
            "bytes_read": self.read_bytes,
            "bytes_total": self.total_bytes,
        }
