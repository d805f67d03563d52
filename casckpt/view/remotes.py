"""Remotes as text: which there are, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from casckpt.ops.locking import HeldLock
from casckpt.ops.remotes import Remote
from casckpt.units import format_bytes, format_duration
from casckpt.view import text as t
from casckpt.view.text import Cell, Look, safe

_DEFAULTS = Remote("", "")


def remote_cells(remote: Remote) -> list[Cell]:
    """A remote in a line: its name, its address, and what holds for it that does not hold for all."""
    return [Cell(safe(remote.name), t.LABEL), Cell(safe(remote.url), t.REF), Cell(_special(remote), t.MUTED, cut=True)]


def remotes_lines(remotes: Sequence[Remote], look: Look) -> Iterator[str]:
    """A line a remote."""
    yield from t.columns(map(remote_cells, remotes), look)


def remote_line(verb: str, remote: Remote) -> str:
    """What became, or would become, of a remote."""
    special = _special(remote)
    return f"{verb} {safe(remote.name)} {safe(remote.url)}" + (f"  ({special})" if special else "")


def locks_lines(locks: Sequence[HeldLock], look: Look) -> Iterator[str]:
    """A line a lock: its name, who holds it, and for how long without renewal."""
    rows = [
        [
            Cell(safe(one.name), t.LABEL),
            Cell(safe(one.owner), cut=True),
            Cell(format_duration(one.ttl_s), t.MUTED),
            Cell("kept here" if one.is_kept else "", t.MUTED),
        ]
        for one in locks
    ]
    yield from t.columns(rows, look)


def unlocked_line(lock: str, remote: str, found: HeldLock | None, *, dry_run: bool) -> str:
    """What became, or would become, of a lock; `found` is what it was."""
    name = f"lock {safe(lock)} of {safe(remote)}"
    if found is None:
        return f"nobody holds {name}"
    if found.is_kept:
        return f"{'would let' if dry_run else 'let'} go of {name}"
    return f"{'would take' if dry_run else 'took'} {name} from {safe(found.owner)}"


def _special(remote: Remote) -> str:
    said = []
    for key, value in remote.to_dict().items():
        if key in ("name", "url") or value == _DEFAULTS.to_dict()[key]:
            continue
        said.append(key if value is True else f"{key.removesuffix('_s')} {safe(_value(key, value))}")
    return ", ".join(said)


def _value(key: str, value: Any) -> str:
    if key == "limit_rate":
        return f"{format_bytes(value)}/s"
    if key == "timeout_s":
        return format_duration(value)
    return " ".join(f"{name} {price:g}" for name, price in value.items()) if key == "cost" else str(value)
