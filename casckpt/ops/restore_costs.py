"""What this machine needs to restore deltas: measured once per store and machine, and kept beside its speeds."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from typing import Any

from casckpt.errors import CasckptError
from casckpt.odb.temporary import create_temporary
from casckpt.plan.group_size import WordCosts, measure
from casckpt.storage.base import Storage, read_exact, write_all

Costs = dict[int, WordCosts]
_NAME = "costs"
_MAX_FILE_BYTES = 64 << 10
_CURVES = ("plain", "one", "two", "classed")
_WIDTHS = {1, 2, 4, 8}


def restore_costs(storage: Storage) -> Costs:
    """Costs of decoding records by width of words. Measures, the first time, for about a second."""
    machine = os.uname().nodename
    found = _read(storage, machine)
    if found is None:
        found = _measured()
        with suppress(CasckptError):  # a full disk is for the packs to report
            _write(storage, machine, found)
    return found


@cache
def _measured() -> Costs:
    return measure(time.thread_time)


def _read(storage: Storage, machine: str) -> Costs | None:
    try:
        file = storage.open_read(_NAME)
    except FileNotFoundError:
        return None
    try:
        found = json.loads(read_exact(file, 0, min(file.size(), _MAX_FILE_BYTES)))
        costs = {int(width): _word_costs(item) for width, item in found["costs"].items()}
        return costs if found["machine"] == machine and set(costs) == _WIDTHS else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    finally:
        file.close()


def _word_costs(item: dict[str, Any]) -> WordCosts:
    record = float(item["record"])
    if record <= 0:
        raise ValueError("no costs")
    return WordCosts(record, *(_curve(item[name]) for name in _CURVES))


def _curve(points: list[Any]) -> tuple[tuple[float, float], ...]:
    curve = tuple((float(ratio), float(seconds)) for ratio, seconds in points)
    if not curve or min(seconds for _, seconds in curve) <= 0:
        raise ValueError("no costs")
    return curve


def _write(storage: Storage, machine: str, costs: Costs) -> None:
    """Note what was measured. Not flushed: it can be measured again."""
    name, file = create_temporary(storage, _NAME)
    try:
        text = {"machine": machine, "costs": {width: asdict(item) for width, item in costs.items()}}
        write_all(file, json.dumps(text).encode(), 0)
    finally:
        file.close()
    storage.rename(name, _NAME)
