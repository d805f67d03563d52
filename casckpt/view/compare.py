"""What differs between two commits, as text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from casckpt.ops.reports import Diff, LeafChange
from casckpt.units import format_bytes, format_count
from casckpt.view import text as t
from casckpt.view.history import named
from casckpt.view.text import Cell, Look, safe

_MARKS = {"added": ("+", t.ADDED), "removed": ("-", t.REMOVED), "changed": ("~", t.CHANGED), "kind": ("~", t.CHANGED)}

_WORDS = {"added": "added", "removed": "removed", "changed": "changed", "kind": "of another type or shape"}


def differs(diff: Diff) -> bool:
    """Whether there is any difference in what the two hold or measured."""
    return bool(diff.leaves) or any(not _same(*pair) for pair in diff.metrics.values())


def _same(before: int | float | None, after: int | float | None) -> bool:
    if before is None or after is None:
        return before is after
    return before == after or (math.isnan(before) and math.isnan(after))


def diff_lines(diff: Diff, look: Look, *, top: int) -> Iterator[str]:
    """Metrics, counts, shared bytes, and the `top` leaves that differ most (0: all)."""
    counts = Counter(leaf.change for leaf in diff.leaves)
    parts = [f"{format_count(counts[kind])} {word}" for kind, word in _WORDS.items() if counts[kind]]
    share = f" ({100 * diff.equal_bytes / diff.total_bytes:.1f} %)" if diff.total_bytes else ""
    yield f"{named(diff.before)} {look.arrow} {named(diff.after)}"
    yield f"{look.paint(t.LABEL, 'leaves')}   {', '.join([*parts, f'{format_count(diff.equal)} equal'])}"
    yield (
        f"{look.paint(t.LABEL, 'bytes')}    {format_bytes(diff.equal_bytes)} of {format_bytes(diff.total_bytes)} "
        f"are in both{share}"
    )
    metrics = list(t.columns((_metric_cells(name, *pair, look) for name, pair in diff.metrics.items()), look))
    for number, line in enumerate(metrics):
        yield (look.paint(t.LABEL, "metrics") if number == 0 else " " * 7) + "  " + line
    shown = diff.leaves[:top] if top else diff.leaves
    yield from t.columns((_leaf_cells(leaf, look) for leaf in shown), look)
    if len(shown) < len(diff.leaves):
        yield look.paint(t.MUTED, f"... {format_count(len(diff.leaves) - len(shown))} more (--top 0 shows all)")


def _metric_cells(name: str, before: int | float | None, after: int | float | None, look: Look) -> list[Cell]:
    change = ""
    if before is not None and after is not None and not _same(before, after):
        change = f"{after - before:+.4g}"
        if math.isfinite(before) and math.isfinite(after) and before:
            change += f" ({100 * (after - before) / abs(before):+.1f} %)"
    return [
        Cell(safe(name)),
        Cell(t.number(before), right=True),
        Cell(look.arrow),
        Cell(t.number(after), right=True),
        Cell(change),
    ]


def _leaf_cells(leaf: LeafChange, look: Look) -> list[Cell]:
    mark, role = _MARKS.get(leaf.change, ("~", t.CHANGED))
    what = safe(leaf.after or leaf.before)
    if leaf.before and leaf.after and leaf.before != leaf.after:
        what = f"{safe(leaf.before)} {look.arrow} {safe(leaf.after)}"
    size = format_bytes(leaf.nbytes) if leaf.nbytes else ""
    # Small leaves are compared whole: they lie in no chunk of their own, and nothing is known of their parts.
    if leaf.change in ("changed", "kind") and leaf.differing:
        size = f"{format_bytes(leaf.differing)} of {size} differ"
    return [Cell(mark, role), Cell(safe(leaf.path), role), Cell(what), Cell(size, t.MUTED)]
