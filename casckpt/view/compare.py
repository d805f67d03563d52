"""What differs between two commits, as text."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from casckpt.ops.reports import Diff, LeafChange
from casckpt.ops.value_reports import Measures, Overlap, ValueDiff
from casckpt.plan.fields import MISSING, FieldDifference, MetadataDifferences
from casckpt.units import format_bytes, format_count
from casckpt.view import text as t
from casckpt.view.history import named
from casckpt.view.json import plain
from casckpt.view.text import Cell, Look, safe

Lines = Iterator[str]

_MARKS = {"added": ("+", t.ADDED), "removed": ("-", t.REMOVED), "renamed": (">", t.CHANGED)}
_CHANGED = ("~", t.CHANGED)

_WORDS = {
    "added": "added", "removed": "removed", "renamed": "renamed", "changed": "changed", "recast": "recast",
    "reshaped": "reshaped", "resized": "resized", "kind": "of another type or shape",
}  # fmt: skip


def differs(diff: Diff) -> bool:
    """Whether there is any difference in what the two hold, measured or were made with."""
    same = diff.metadata.is_empty and all(_same(*pair) for pair in diff.metrics.values())
    return bool(diff.leaves or diff.lost) or not same


def _same(before: int | float | None, after: int | float | None) -> bool:
    if before is None or after is None:
        return before is after
    return before == after or (math.isnan(before) and math.isnan(after))


def diff_lines(diff: Diff, look: Look, *, top: int) -> Iterator[str]:
    """Metrics, configuration, and what differs between the states: the `top` leaves that differ most (0: all)."""
    yield f"{named(diff.before)} {look.arrow} {named(diff.after)}"
    metrics = list(t.columns((_metric_cells(name, *pair, look) for name, pair in diff.metrics.items()), look))
    for number, line in enumerate(metrics):
        yield (look.paint(t.LABEL, "metrics") if number == 0 else " " * 7) + "  " + line
    yield from metadata_lines(diff.metadata, look)
    if "tree" in diff.parts:
        yield from tree_lines(diff, look, top=top)


def metadata_lines(found: MetadataDifferences, look: Look, titles: Sequence[str] = ()) -> Lines:
    """The fields that differ, by what they are of, below how many are equal; with a title for each side."""
    for name, fields in zip(found._fields, found, strict=True):
        if not fields.different:
            continue
        equal = look.paint(t.MUTED, f"{format_count(fields.equal)} equal")
        yield f"{look.paint(t.LABEL, name)}  {equal}"
        rows = [_field_cells(field, look) for field in fields.different]
        if titles:
            rows.insert(0, [Cell(""), Cell(""), *_sides([Cell(safe(title), t.MUTED) for title in titles], Cell(""))])
        yield from t.columns(rows, look, indent="  ")


def _field_cells(field: FieldDifference, look: Look) -> list[Cell]:
    first, *others = (value is MISSING for value in field.values)
    mark = "+" if first and not any(others) else "-" if all(others) and not first else "~"
    role = {"+": t.ADDED, "-": t.REMOVED}.get(mark, t.CHANGED)
    values = ["-" if value is MISSING else _json(value, look) for value in field.values]
    cells = [Cell(value, cut=True) for value in values]
    return [Cell(mark, role), Cell(safe(field.path) or "(value)", role, cut=True), *_sides(cells, Cell(look.arrow))]


def _json(found: Any, look: Look) -> str:
    """A value of a configuration as JSON on one line."""
    return safe(json.dumps(plain(found), ensure_ascii=look.ascii))


def _sides(cells: list[Cell], arrow: Cell) -> list[Cell]:
    """Two sides have an arrow between them, more stand side by side."""
    return [cells[0], arrow, cells[1]] if len(cells) == 2 else cells


def tree_lines(diff: Diff, look: Look, *, top: int) -> Lines:
    """Counts, shared bytes, the `top` leaves that differ most (0: all), and as many by their values."""
    counts = Counter(leaf.change for leaf in diff.leaves)
    parts = [f"{format_count(counts[kind])} {word}" for kind, word in _WORDS.items() if counts[kind]]
    share = f" ({100 * diff.equal_bytes / diff.total_bytes:.1f} %)" if diff.total_bytes else ""
    yield f"{look.paint(t.LABEL, 'leaves')}   {', '.join([*parts, f'{format_count(diff.equal)} equal'])}"
    yield (
        f"{look.paint(t.LABEL, 'bytes')}    {format_bytes(diff.equal_bytes)} of {format_bytes(diff.total_bytes)} "
        f"are in both{share}"
    )
    if diff.lost:
        names = safe(", ".join(diff.lost))
        yield f"{look.paint(t.LABEL, 'lost')}     not the same, and one of the commits has lost it: {names}"
    measured = set() if diff.values is None else {leaf.path for leaf in diff.values.leaves}
    leaves = [leaf for leaf in diff.leaves if leaf.path not in measured]
    yield from _first((_leaf_cells(leaf, look) for leaf in leaves), len(leaves), top, look)
    if diff.values is not None:
        yield from _value_lines(diff.values, diff.equal, look, top)


def _first(rows: Iterable[list[Cell]], count: int, top: int, look: Look, titles: list[Cell] | None = None) -> Lines:
    """The first `top` rows (0: all) below their titles, and how many more there are."""
    shown = list(islice(rows, top or None))
    yield from t.columns([titles, *shown] if titles and shown else shown, look)
    if len(shown) < count:
        yield look.paint(t.MUTED, f"... {format_count(count - len(shown))} more (--top 0 shows all)")


def _value_lines(values: ValueDiff, equal: int, look: Look, top: int) -> Lines:
    """Measures by leaf and by group, and how much was read for them."""
    leaves = (
        [Cell("~", t.CHANGED), Cell(safe(leaf.path), t.CHANGED, cut=True), Cell(_form(leaf.before, leaf.after, look)),
         *_measure_cells(leaf.measures), Cell(_overlap(leaf.overlap), t.MUTED)]
        for leaf in values.leaves
    )  # fmt: skip
    yield from _first(leaves, len(values.leaves), top, look, _titles("values", "type"))
    groups = (
        [Cell("~", t.CHANGED), Cell(safe(group.path), t.CHANGED, cut=True), Cell(f"{group.leaves} ~ {group.equal} ="),
         *_measure_cells(group.measures)]
        for group in values.groups
    )  # fmt: skip
    yield from _first(groups, len(values.groups), top, look, _titles("groups", "leaves"))
    if any(not leaf.measures.whole for leaf in values.leaves):
        yield look.paint(t.MUTED, "- in rel and cos: few chunks changed, the others were not read (--exact reads them)")
    if values.unmeasured:
        yield f"{t.plural(len(values.unmeasured), 'leaf', 'leaves')} could not be compared by number"
    share = f" ({100 * values.read_bytes / values.total_bytes:.1f} %)" if values.total_bytes else ""
    yield (
        f"{look.paint(t.LABEL, 'read')}     {format_bytes(values.read_bytes)} of {format_bytes(values.total_bytes)}"
        f"{share}; {t.plural(equal, 'leaf', 'leaves')} equal, by id or byte by byte"
    )


def _titles(what: str, kind: str) -> list[Cell]:
    numbers = [Cell(title, t.LABEL, right=True) for title in ("rel", "cos", "changed", "max", "l2")]
    return [Cell(""), Cell(what, t.LABEL), Cell(kind, t.LABEL), *numbers]


def _measure_cells(measures: Measures) -> list[Cell]:
    found = [t.number(measures.relative), t.number(measures.cosine), _share(measures.changed)]
    found += [t.number(measures.largest), t.number(measures.l2)]
    bad = [
        f"{name} {format_count(before)} to {format_count(after)}"
        for name, before, after in (
            ("NaN", measures.nan_before, measures.nan_after),
            ("Inf", measures.inf_before, measures.inf_after),
        )
        if before or after
    ]
    return [*(Cell(text, right=True) for text in found), Cell(", ".join(bad), t.BAD)]


def _overlap(overlap: Overlap | None) -> str:
    """Which part of a resized leaf the measures are about."""
    if overlap is None:
        return ""
    what = "rows" if overlap.axis == 0 else f"axis {overlap.axis}"
    rest = overlap.after - overlap.before
    more = f"{format_count(abs(rest))} {'new' if rest > 0 else 'gone'}"
    return f"{what} 0:{overlap.compared} compared, {more}"


def _share(share: float) -> str:
    """A share in percent that is 0 or 100 % only if it is exactly that."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def _form(before: str, after: str, look: Look) -> str:
    return safe(after) if before == after else f"{safe(before)} {look.arrow} {safe(after)}"


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
    mark, role = _MARKS.get(leaf.change, _CHANGED)
    both = leaf.before and leaf.after
    what = _form(leaf.before, leaf.after, look) if both else safe(leaf.after or leaf.before)
    size = format_bytes(leaf.nbytes) if leaf.nbytes else ""
    # Small leaves are compared whole: they lie in no chunk of their own, and nothing is known of their parts.
    if leaf.change not in _MARKS and leaf.differing:
        size = f"{format_bytes(leaf.differing)} of {size} differ"
    path = safe(leaf.path) if leaf.source is None else f"{safe(leaf.source)} {look.arrow} {safe(leaf.path)}"
    return [Cell(mark, role), Cell(path, role, cut=True), Cell(what), Cell(size, t.MUTED)]
