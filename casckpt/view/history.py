"""Commits as text: the log, one commit in full, what a commit or checkout did."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from casckpt.ops.values import CommitInfo
from casckpt.units import format_bytes, format_count, format_ratio, rfc3339
from casckpt.view import text as t
from casckpt.view.json import plain
from casckpt.view.text import Cell, Look, safe

if TYPE_CHECKING:
    from casckpt.ops.reports import CheckoutReport, LeafSummary, RefChange

METRICS_SHOWN = 4
BLOCK_COMMITS = 50
"""So many rows of a log are aligned with each other, and read before the first is printed."""
VALUE_WIDTH = 60
_HEADS = {"last": 0, "best": 1, "recovery": 2}


def log_lines(commits: Iterable[CommitInfo], look: Look, *, oneline: bool = False) -> Iterator[str]:
    """A line a commit, aligned block by block as they come; without `oneline` its message follows, indented."""
    for block in _blocks(commits):
        lines = t.columns((commit_cells(commit, look) for commit in block), look)
        for commit, line in zip(block, lines, strict=True):
            yield line
            if commit.message and not oneline:
                yield from (f"    {line}".rstrip() for line in message_lines(commit))


def _blocks(commits: Iterable[CommitInfo]) -> Iterator[list[CommitInfo]]:
    rest = iter(commits)
    while block := list(islice(rest, BLOCK_COMMITS)):
        yield block


def commit_cells(commit: CommitInfo, look: Look) -> list[Cell]:
    """A commit in one row: id, run, step, metrics, bytes added, age, refs, and what is unusual about it."""
    return [
        Cell(look.id(commit.id), t.ID),
        Cell(safe(commit.run), cut=True),
        Cell(step(commit)),
        Cell(t.metrics(commit.metrics, METRICS_SHOWN)),
        Cell("" if commit.added is None else f"+{format_bytes(commit.added)}", t.PLAIN, right=True),
        Cell(look.when(commit.time_ns), t.MUTED),
        Cell(f"({refs(commit)})" if commit.refs else "", t.REF),
        Cell(remarks(commit), t.BAD if commit.dropped else t.MUTED),
    ]


def step(commit: CommitInfo) -> str:
    """Where in its training a commit stands, empty if it does not say."""
    parts = [f"step {format_count(commit.step)}"] if commit.step is not None else []
    return ", ".join([*parts, f"epoch {t.number(commit.epoch)}"] if commit.epoch is not None else parts)


def schema(commit: CommitInfo) -> str:
    """Name and version of a commit's schema with the paths it requires, empty if it states none."""
    if commit.schema is None:
        return ""
    required = f", requires {' '.join(commit.required)}" if commit.required else ""
    return safe(f"{commit.schema[0]} {commit.schema[1]}{required}")


def refs(commit: CommitInfo) -> str:
    """The refs that name a commit: the heads of its run, then tags."""
    return safe(", ".join(sorted(commit.refs, key=lambda name: (_HEADS.get(name, len(_HEADS)), name))))


def message_lines(commit: CommitInfo) -> list[str]:
    """The message of a commit; only line feeds break it, so that no other character forges a line."""
    return [safe(line.removesuffix("\r")) for line in commit.message.rstrip().split("\n")]


def remarks(commit: CommitInfo) -> str:
    """Kind, status and drop of a commit, where they are not the usual ones."""
    found = [commit.kind] if commit.kind != "step" else []
    found += [commit.status] if commit.status != "completed" else []
    found += [f"dropped by rule {safe(commit.dropped)}"] if commit.dropped is not None else []
    return ", ".join(found)


def one_line(commit: CommitInfo, look: Look) -> str:
    """A commit in one line of its own."""
    return next(t.columns([commit_cells(commit, look)], look))


def named(commit: CommitInfo) -> str:
    """Run, id and step of a commit, to name it in a sentence."""
    place = step(commit)
    return f"{safe(commit.run)} {commit.short}" + (f" ({place})" if place else "")


def checkout_lines(report: CheckoutReport, look: Look) -> Iterator[str]:
    """What a checkout wrote, and where."""
    size = f"{t.plural(report.files, 'file')}, {format_bytes(report.nbytes)}{t.would(report.dry_run)}"
    yield f"{look.paint(t.ID, look.id(report.commit))} {look.arrow} {safe(str(report.path))}  {size}"


def show_lines(
    commit: CommitInfo, leaves: Sequence[LeafSummary] | None, metadata: Mapping[str, Any] | None, look: Look
) -> Iterator[str]:
    """One commit in full; its leaves and its metadata if they were asked for."""
    author = f" by {safe(commit.author)}" if commit.author else ""
    if commit.added is None:
        size = format_bytes(commit.nbytes)
    else:
        ratio = format_ratio(commit.nbytes, commit.added)
        size = f"{format_bytes(commit.nbytes)}, added {format_bytes(commit.added)} ({ratio})"
    yield from t.fields(
        [
            ("commit", Cell(commit.id, t.ID)),
            ("run", "  ".join(part for part in (safe(commit.run), step(commit)) if part)),
            ("kind", f"{commit.kind}, {commit.status}"),
            ("refs", Cell(refs(commit), t.REF)),
            ("time", f"{rfc3339(commit.time_ns)} ({look.when(commit.time_ns)}){author}"),
            ("parents", " ".join(parent[:12] for parent in commit.parents)),
            ("children", " ".join(child[:12] for child in commit.children)),
            ("metrics", t.metrics(commit.metrics)),
            ("schema", schema(commit)),
            ("size", size),
            ("dropped", Cell("" if commit.dropped is None else f"by rule {safe(commit.dropped)}", t.BAD)),
            *(("message" if not number else "", line) for number, line in enumerate(message_lines(commit))),
        ],
        look,
    )
    if metadata is not None:
        yield from _metadata_lines(metadata, look)
    if leaves is not None:
        total = sum(leaf.nbytes or 0 for leaf in leaves)
        yield look.paint(t.LABEL, f"tree     {t.plural(len(leaves), 'leaf', 'leaves')}, {format_bytes(total)}")
        yield from t.columns((leaf_cells(leaf) for leaf in leaves), look, indent="  ")


def leaf_cells(leaf: LeafSummary) -> list[Cell]:
    """A leaf in one row: path, type, shape, size, and the value if the tree itself holds it."""
    what = leaf.kind
    if leaf.dtype is not None and leaf.shape is not None:
        what = f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    elif leaf.dtype is not None and leaf.kind != "scalar":
        what = f"{leaf.kind} {leaf.dtype}"
    look = t.BAD if "pickle" in leaf.kind.split() else t.PLAIN
    # An empty file has no blob, so its size is not stated.
    nbytes = 0 if leaf.kind == "file" and leaf.nbytes is None else leaf.nbytes
    size = Cell("" if nbytes is None else format_bytes(nbytes), t.PLAIN, right=True)
    return [Cell(safe(leaf.path), cut=True), Cell(safe(what), look), size, Cell(_value(leaf), t.MUTED, cut=True)]


def _value(leaf: LeafSummary) -> str:
    """A value kept in the tree itself, cut to a line; of a file whether it can be executed, of a link its target."""
    if leaf.kind == "file":
        return "executable" if leaf.value else ""
    if leaf.kind == "link" and isinstance(leaf.value, bytes):
        return safe(f"-> {leaf.value.decode(errors='backslashreplace')}")
    if leaf.nbytes is not None or leaf.value is None:
        return ""
    shown = safe(t.value(leaf.value))
    return shown if len(shown) <= VALUE_WIDTH else shown[: VALUE_WIDTH - 3] + "..."


def _metadata_lines(metadata: Mapping[str, Any], look: Look) -> Iterator[str]:
    """Nested values as one `a.b  value` line each, by the name they were committed under."""
    if not metadata:
        yield look.paint(t.MUTED, "config   none was committed")
    for name, value in metadata.items():
        yield look.paint(t.LABEL, name)
        rows = ([Cell(safe(path)), Cell(json.dumps(item, ensure_ascii=look.ascii))] for path, item in _flat(value))
        yield from map(safe, t.columns(rows, Look(look.now_ns), indent="  "))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, plain(value)


def reflog_lines(changes: Iterable[RefChange], look: Look) -> Iterator[str]:
    """A line a change: what the ref named then, why and since when, and what it named before."""
    yield from t.columns((_change_cells(change, look) for change in changes), look)


def _change_cells(change: RefChange, look: Look) -> list[Cell]:
    name = change.ref.removeprefix("runs/")
    tag = change.ref.removeprefix("tags/")
    return [
        Cell("removed", t.BAD) if change.new is None else Cell(look.id(change.new), t.ID),
        Cell(safe(name if tag == change.ref else f"tag: {tag}"), t.REF),
        Cell(safe(change.reason)),
        Cell(look.when(change.time_ns), t.MUTED),
        Cell("" if change.old is None else f"was {look.id(change.old)}"),
        Cell(safe(change.note), t.MUTED),
    ]


def tag_lines(tags: Mapping[str, CommitInfo], look: Look) -> Iterator[str]:
    """The tags with what they name."""
    rows = ([Cell(safe(name), t.REF), *commit_cells(commit, look)[:4]] for name, commit in sorted(tags.items()))
    yield from t.columns(rows, look)
