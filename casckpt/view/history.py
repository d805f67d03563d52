"""Commits as text: the log, one commit in full, what a commit or checkout did."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from casckpt.ops.values import CommitInfo
from casckpt.plan.transfer import ABSENT
from casckpt.units import format_bytes, format_count, format_ratio, rfc3339
from casckpt.view import text as t
from casckpt.view.json import plain
from casckpt.view.text import Cell, Look, safe

if TYPE_CHECKING:
    from casckpt.ops.journal_reports import RefChange
    from casckpt.ops.relatives import Relatives
    from casckpt.ops.remains import Remains
    from casckpt.ops.reports import CheckoutReport, LeafSummary
    from casckpt.ops.storage import ComponentStorage, StorageInfo

METRICS_SHOWN = 4
BLOCK_COMMITS = 50
"""So many rows of a log are aligned with each other, and read before the first is printed."""
VALUE_WIDTH = 60
NOTE_WIDTH = 40
RELATIVES_SHOWN = 20
TROUBLED = ("failed", "cancelled")
_HEADS = {"last": 0, "best": 1, "recovery": 2}


class LogForm(NamedTuple):
    """What a log says of each commit: its message, the metrics of these names in this order, what it changed."""

    messages: bool = True
    metrics: tuple[str, ...] | None = None
    stat: Callable[[CommitInfo], StorageInfo | None] | None = None


FULL = LogForm()


def log_lines(commits: Iterable[CommitInfo], look: Look, form: LogForm = FULL) -> Iterator[str]:
    """A line a commit, aligned block by block as they come, no column narrower than before; then what lies below."""
    widths: list[int] = []
    for block in blocks(commits):
        lines = t.columns((commit_cells(commit, look, form.metrics) for commit in block), look, least=widths)
        for commit, line in zip(block, lines, strict=True):
            yield line
            yield from lines_below(commit, form)


_One = TypeVar("_One")


def blocks(rows: Iterable[_One]) -> Iterator[list[_One]]:
    """As many rows at a time as are aligned with each other."""
    rest = iter(rows)
    while block := list(islice(rest, BLOCK_COMMITS)):
        yield block


def lines_below(commit: CommitInfo, form: LogForm) -> Iterator[str]:
    """What a log says below the line of a commit, indented: what it changed, and its message."""
    found = None if form.stat is None else form.stat(commit)
    if found is not None:
        yield f"    {stat(found)}"
    if commit.message and form.messages:
        yield from (f"    {line}".rstrip() for line in message_lines(commit))


def stat(found: StorageInfo) -> str:
    """What a commit changed, in a line: leaves and bytes, compared with its first parent by ids."""
    leaves, size = t.plural(found.leaves, "leaf", "leaves"), format_bytes(found.nbytes)
    if found.parent is None:
        return f"{leaves}, {size}"
    counts = [(found.leaves_added, "added"), (found.leaves_removed, "removed"), (found.leaves_changed, "changed")]
    words = ", ".join(f"{format_count(count)} {word}" for count, word in counts if count) or "none changed"
    return f"{leaves}: {words}; {format_bytes(found.nbytes - found.shared)} of {size} new"


def commit_cells(commit: CommitInfo, look: Look, keys: Sequence[str] | None = None) -> list[Cell]:
    """A commit in one row: id, run, step, metrics, bytes added, age, refs, and what is unusual about it.

    Args:
        keys: the metrics to show, a column each; without it the first few in one.
    """
    metrics = commit.metrics
    # Positional, and built once each: thousands of rows are drawn at a time.
    shown = [Cell(t.metrics(metrics, METRICS_SHOWN))] if keys is None else [_metric(metrics, key) for key in keys]
    wrong = remarks(commit)
    return [
        Cell(look.id(commit.id), t.ID),
        Cell(safe(commit.run), t.PLAIN, False, True),
        Cell(step(commit)),
        *shown,
        Cell("" if commit.added is None else f"+{format_bytes(commit.added)}", t.PLAIN, True),
        Cell(look.when(commit.time_ns), t.MUTED),
        Cell(f"({refs(commit)})" if commit.refs else "", t.REF),
        Cell(wrong, t.BAD if wrong and (commit.dropped or is_bad(commit)) else t.MUTED),
    ]


def _metric(metrics: Mapping[str, int | float], key: str) -> Cell:
    return Cell(t.metrics({key: metrics[key]}) if key in metrics else "")


def is_bad(commit: CommitInfo) -> bool:
    """Whether a commit stands for trouble: NaN in its metrics or state, damage, or its training failed or so."""
    if commit.nonfinite or commit.damaged:
        return True
    return commit.status in TROUBLED or not all(map(math.isfinite, commit.metrics.values()))


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
    """The message of a commit, line by line."""
    return text_lines(commit.message)


def text_lines(text: str) -> list[str]:
    """A text of several lines; only line feeds break it, so that no other character forges a line."""
    return [safe(line.removesuffix("\r")) for line in text.rstrip().split("\n")]


def pin_end(commit: CommitInfo, look: Look) -> str:
    """Until when a pinned commit is kept; never as an age, since it is to come."""
    if commit.pinned_until is None:
        return "for good"
    shown = look if look.time != "relative" else Look(look.now_ns, time="utc")
    return f"until {shown.when(commit.pinned_until)}"


def _cut(text: str, most: int) -> str:
    """The first line of a text, cut to so many characters."""
    shown = safe(text.strip().partition("\n")[0])
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def remarks(commit: CommitInfo) -> str:
    """What is unusual about a commit: its kind, what is wrong with it, its pin and note."""
    found = [commit.kind] if commit.kind != "step" else []
    found += health(commit)
    found += ["pinned"] if commit.pinned else []
    found += [f"note: {_cut(commit.note, NOTE_WIDTH)}"] if commit.note is not None else []
    return ", ".join(found)


def health(commit: CommitInfo) -> list[str]:
    """What is wrong with a commit: its status, NaN in its metrics and state, damage, what of it was dropped."""
    found = [commit.status] if commit.status != "completed" else []
    if not all(map(math.isfinite, commit.metrics.values())):
        wrong = [safe(name) for name, value in commit.metrics.items() if not math.isfinite(value)]
        found.append(f"! {', '.join(wrong)} not finite")
    if commit.nonfinite:
        found.append(f"! NaN or Inf in {t.plural(commit.nonfinite, 'leaf', 'leaves')}")
    if commit.damaged:
        found.append(f"! {t.plural(commit.damaged, 'leaf', 'leaves')} damaged")
    if commit.dropped is not None:
        found.append(ABSENT if commit.dropped == ABSENT else f"dropped by rule {safe(commit.dropped)}")
    if commit.thinned:
        found.append(f"without {safe(', '.join(commit.thinned))}")
    return found


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
    commit: CommitInfo,
    leaves: Sequence[LeafSummary] | None,
    metadata: Mapping[str, Any] | None,
    look: Look,
    *,
    relatives: Relatives | None = None,
    storage: StorageInfo | None = None,
    remains: Remains | None = None,
) -> Iterator[str]:
    """One commit in full; its leaves, its metadata and its storage if they were asked for.

    Args:
        relatives: its parents and children, which are shown by their ids alone without.
        remains: what it lost.
    """
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
            *_related("parents", commit.parents, () if relatives is None else relatives.parents, commit.run, look),
            *_related("children", commit.children, () if relatives is None else relatives.children, commit.run, look),
            ("metrics", t.metrics(commit.metrics)),
            ("schema", schema(commit)),
            ("size", size),
            ("health", Cell(", ".join(health(commit)), t.BAD)),
            ("lost", "" if remains is None else lost_text(remains)),
            *_hit("NaN, Inf", commit.nonfinite, commit.nonfinite_paths),
            *_hit("damaged", commit.damaged, commit.damaged_paths),
            ("pinned", pin_end(commit, look) if commit.pinned else ""),
            *(("message" if not number else "", line) for number, line in enumerate(message_lines(commit))),
            *(("note" if not number else "", line) for number, line in enumerate(text_lines(commit.note or ""))),
        ],
        look,
    )
    if storage is not None:
        yield from _storage_lines(storage, look)
    if metadata is not None:
        yield from _metadata_lines(metadata, look)
    if leaves is not None:
        total = sum(leaf.nbytes or 0 for leaf in leaves)
        yield look.paint(t.LABEL, f"tree     {t.plural(len(leaves), 'leaf', 'leaves')}, {format_bytes(total)}")
        yield from t.columns((leaf_cells(leaf) for leaf in leaves), look, indent="  ")


def lost_text(remains: Remains) -> str:
    """What a commit lost, by which rule and when, and until when that is promised to be taken back."""
    what = "all of its state" if remains.lost is None else safe(", ".join(remains.lost))
    if remains.rule == ABSENT:
        return f"{what}: it is {ABSENT}, and was not fetched"
    until = "; freed" if remains.is_freed else ""
    until = until if remains.until_ns is None else f"; undo until {rfc3339(remains.until_ns)}"
    return f"{what}, by rule {safe(remains.rule)} at {rfc3339(remains.time_ns)}{until}"


def _hit(label: str, count: int, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A line a leaf that something is wrong with, as far as they are known by name."""
    for number, path in enumerate(paths):
        yield "" if number else label, safe(path) or "the state"
    if count > len(paths):
        yield "" if paths else label, f"and {t.plural(count - len(paths), 'more leaf', 'more leaves')}"


def nonfinite_warning(count: int, paths: Sequence[str], *, gate: bool) -> str:
    """What to say of a commit whose state holds NaN or infinities.

    Args:
        gate: whether that keeps it from becoming best or recovery.
    """
    named = ", ".join(safe(path) or "the state" for path in paths) + (", ..." if count > len(paths) else "")
    effect = "best and recovery stay" if gate else "the health gate is off"
    return f"holds NaN or Inf in {t.plural(count, 'leaf', 'leaves')}: {named}; {effect}"


def _related(
    label: str, identities: Sequence[str], known: Sequence[CommitInfo], run: str, look: Look
) -> Iterator[tuple[str, str]]:
    """A line a parent or child: its id, its run if that is another, its step and the start of its message."""
    found = {commit.id: commit for commit in known}
    if not found:
        yield label, " ".join(map(look.id, identities))
        return
    shown = [*found, *(identity for identity in identities if identity not in found)][:RELATIVES_SHOWN]
    for number, identity in enumerate(shown):
        commit = found.get(identity)
        if commit is None:
            words = ["missing here" if label == "parents" else ""]
        else:
            message = safe(commit.message.strip().split("\n")[0])
            words = ["" if commit.run == run else safe(commit.run), step(commit), t.cut(message, VALUE_WIDTH, "...")]
        yield "" if number else label, "  ".join(word for word in [look.id(identity), *words] if word)
    rest = len(identities) - len(shown)
    if rest > 0:
        yield "", f"and {format_count(rest)} more"


def _storage_lines(storage: StorageInfo, look: Look) -> Iterator[str]:
    """Where the bytes of a commit are, a line a component."""
    shared = "" if storage.parent is None else f", {format_bytes(storage.shared)} shared with {look.id(storage.parent)}"
    total = f"{format_bytes(storage.nbytes)}{shared}, {_place(storage.packs)}"
    yield f"{look.paint(t.LABEL, 'storage')}  {total}"
    yield from t.columns(
        (_component_cells(one, storage.parent is not None) for one in storage.components), look, indent="  "
    )


def _component_cells(component: ComponentStorage, has_parent: bool) -> list[Cell]:
    return [
        Cell(safe(component.name) or "(root)", cut=True),
        Cell(t.plural(component.leaves, "leaf", "leaves"), right=True),
        Cell(format_bytes(component.nbytes), right=True),
        Cell(f"{format_bytes(component.shared)} shared" if has_parent else "", right=True),
        Cell(_place(component.packs), t.MUTED),
    ]


def _place(files: int) -> str:
    return f"in {t.plural(files, 'file')}" if files else "in the tree"


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
        yield look.paint(t.MUTED, "metadata  none was committed")
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
        Cell(f"#{change.operation}", t.MUTED),
        Cell(look.when(change.time_ns), t.MUTED),
        Cell("" if change.old is None else f"was {look.id(change.old)}"),
        Cell(safe(change.note), t.MUTED),
    ]


def tag_lines(tags: Mapping[str, CommitInfo], look: Look) -> Iterator[str]:
    """The tags with what they name."""
    rows = ([Cell(safe(name), t.REF), *commit_cells(commit, look)[:4]] for name, commit in sorted(tags.items()))
    yield from t.columns(rows, look)
