"""Marks that name leaves of a commit: those that hold NaN or infinities, and those that are damaged or missing.

    {"leaves": how many there are, "paths": the first of them}

The value is bounded: at most 8 paths, each cut to 1 024 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NONFINITE, DAMAGED = "nonfinite", "damaged"
OF_LEAVES = (NONFINITE, DAMAGED)
"""Keys of these marks. They say what is so, so undoing the operation that found it out must not take them away."""
PATHS_MAX = 8
PATH_BYTES = 1024
_CUT = "..."


def leaves_mark(paths: Sequence[str]) -> dict[str, Any]:
    """The value of a mark that names these leaves, at least one."""
    return {"leaves": len(paths), "paths": [_cut(path) for path in paths[:PATHS_MAX]]}


def is_leaves_mark(value: Any) -> bool:
    """Whether a mark that names leaves can have a value. Fields that this release does not know may be in it."""
    if type(value) is not dict or type(value.get("leaves")) is not int or type(value.get("paths")) is not list:
        return False
    paths = value["paths"]
    return all(type(path) is str for path in paths) and len(paths) <= min(value["leaves"], PATHS_MAX) > 0


def _cut(path: str) -> str:
    data = path.encode()
    if len(data) <= PATH_BYTES:
        return path
    return data[: PATH_BYTES - len(_CUT)].decode(errors="ignore") + _CUT
