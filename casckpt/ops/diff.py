"""diff: what differs between two commits, by path, reading as little as possible.

Leaves with equal ids are equal and never read. Small leaves share chunks with their neighbours, so a leaf in a chunk
that changed is compared by its bytes; large leaves are compared chunk by chunk, by id alone, unless their values are
asked for (`diff_values`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, TypedDict, Unpack

from casckpt.errors import UsageError
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import describe
from casckpt.ops.inspect import metadata
from casckpt.ops.opening import loader_of
from casckpt.ops.remains import lost_parts
from casckpt.ops.renames import renamed
from casckpt.ops.reports import Diff, LeafChange
from casckpt.ops.stored_leaves import Chunks, Run, StoredLeaf, stored_leaves
from casckpt.ops.value_reports import ValueDiff
from casckpt.ops.values import Progress
from casckpt.plan.fields import metadata_differences

Part = Literal["metadata", "tree"]
PARTS: tuple[Part, ...] = ("metadata", "tree")


class DiffWords(TypedDict, total=False):
    """What a diff takes besides, for its `values`."""

    top: int | None
    """Only the leaves that differ most, None: all."""
    by: int | None
    """Also groups by so many elements of the paths."""
    exact: bool
    """Read leaves that changed whole, also where few of their chunks did."""
    progress: Progress | None
    """Called with the plain bytes done and in all."""


def diff_commits(
    database: Database,
    before: CommitId,
    after: CommitId,
    values: bool = False,
    threads: int = 1,
    parts: Sequence[Part] = PARTS,
    **words: Unpack[DiffWords],
) -> Diff:
    """Compare two commits by path, and by their numbers if `values` are asked for.

    Args:
        parts: `metadata` compares metrics and configurations, `tree` the states.

    Raises:
        UsageError: a count in `words` is none, or there are words and no values; values of no tree.
        CommitDropped: one of them has no state any more.
        DamagedLeaf: what has to be read is wrong or missing.

    Cost: reads both trees, the pages of large tensors, and the chunks of small leaves that changed or have a changed
    neighbour; grows with the number of leaves. With values also what the two do not share of large leaves.
    """
    _check(words, parts, values=values)
    first, second = describe(database, before), describe(database, after)
    names = sorted({*first.metrics, *second.metrics}) if "metadata" in parts else []
    found = Diff(
        before=first,
        after=second,
        metrics={name: (first.metrics.get(name), second.metrics.get(name)) for name in names},
        leaves=(),
        equal=0,
        equal_bytes=0,
        total_bytes=0,
        parts=tuple(part for part in PARTS if part in parts),
    )
    if "metadata" in parts:
        sides = [metadata(database, identity) for identity in (before, after)]
        found = replace(found, metadata=metadata_differences(sides))
    return _with_tree(found, database, before, after, values, threads, words) if "tree" in parts else found


def _with_tree(
    found: Diff, database: Database, before: CommitId, after: CommitId, values: bool, threads: int, words: DiffWords
) -> Diff:
    """A diff, with what differs between the states."""
    lost = {*lost_parts(database, before), *lost_parts(database, after)}
    old, new = stored_leaves(database, before, lost), stored_leaves(database, after, lost)
    chunks = Chunks()
    comparison = None
    if values:
        from casckpt.ops.diff_values import ValueComparison  # and numpy, which a diff by path does not need

        comparison = ValueComparison(chunks, exact=words.get("exact", False))
    changes, equal = [], []
    # In the order of the paths, in which small leaves lie in their chunks.
    for path in sorted(new):
        leaf, other = new[path], old.get(path)
        if other is not None and leaf.equals(other, chunks):
            equal.append(path)
            continue
        change = _change(path, other, leaf)
        if comparison is not None and other is not None:
            change = replace(change, change=comparison.add(path, change.change, other, leaf))
        changes.append(change)
    changes += [_change(path, leaf, None) for path, leaf in old.items() if path not in new]
    measured = None
    if comparison is not None:
        changes = _with_renamed(changes, old, new, chunks)
        comparison.run(threads, words.get("progress"))
        depth = words.get("by")
        measured = ValueDiff(
            leaves=tuple(comparison.leaves(_text, words.get("top"))),
            groups=() if depth is None else tuple(comparison.groups(equal, depth)),
            compared=comparison.compared,
            unmeasured=tuple(comparison.unmeasured),
            read_bytes=chunks.read_bytes,
            total_bytes=_total(old) + _total(new),
        )
    return replace(
        found,
        leaves=tuple(sorted(changes, key=lambda change: (-change.differing, change.path))),
        equal=len(equal),
        equal_bytes=_equal_bytes(old, new, equal),
        total_bytes=_total(new),
        values=measured,
        lost=_unlike(database, (before, after), lost) if lost else (),
    )


def _unlike(database: Database, commits: Sequence[CommitId], lost: Collection[str]) -> tuple[str, ...]:
    """Of components that cannot be looked into those that differ, as their ids say, ascending."""
    trees = []
    for identity in commits:
        trees.append(dict(loader_of(database, identity, lambda name: name in lost).tree().components))
    return tuple(sorted(name for name in lost if len({tree.get(name) for tree in trees}) > 1))


def _check(words: DiffWords, parts: Sequence[Part], *, values: bool) -> None:
    if not parts or any(part not in PARTS for part in parts):
        raise UsageError(problem=f"parts of a diff are {' and '.join(PARTS)}, not {parts!r}")
    if words and not values:
        raise UsageError(problem=f"{', '.join(words)} of a diff need values=True")
    if values and "tree" not in parts:
        raise UsageError(problem="values are those of the tree, which parts= leaves out")
    for name, least in (("top", 0), ("by", 1)):
        count = words.get(name)
        if count is not None and (type(count) is not int or count < least):
            raise UsageError(problem=f"{name} must be {least} or more, not {count!r}")


def _total(leaves: dict[str, StoredLeaf]) -> int:
    """Plain bytes of the leaves, those in the tree left out and shared ones counted once."""
    return sum(length for _, _, length in {run for leaf in leaves.values() for run in leaf.runs})


def _equal_bytes(old: dict[str, StoredLeaf], new: dict[str, StoredLeaf], equal: list[str]) -> int:
    both: set[Run] = {run for leaf in old.values() for run in leaf.runs}
    both &= {run for leaf in new.values() for run in leaf.runs}
    both |= {run for path in equal for run in new[path].runs}
    return sum(length for _, _, length in both)


def _with_renamed(
    changes: list[LeafChange], old: dict[str, StoredLeaf], new: dict[str, StoredLeaf], chunks: Chunks
) -> list[LeafChange]:
    """The changes, with one `renamed` for what is else removed at one path and added at another."""
    removed = {path: leaf for path, leaf in old.items() if path not in new}
    added = {path: leaf for path, leaf in new.items() if path not in old}
    pairs = {now: then for then, now in renamed(removed, added, chunks)}
    settled = {*pairs, *pairs.values()}
    changes = [change for change in changes if change.path not in settled]
    for now, then in pairs.items():
        text = _text(new[now])
        changes.append(LeafChange(now, "renamed", text, text, new[now].nbytes, 0, then))
    return changes


def _change(path: str, before: StoredLeaf | None, after: StoredLeaf | None) -> LeafChange:
    shown = after or before
    assert shown is not None
    if before is None or after is None:
        change = "added" if before is None else "removed"
    else:
        same = (before.info.kind, before.info.dtype, before.info.shape)
        change = "changed" if same == (after.info.kind, after.info.dtype, after.info.shape) else "kind"
    known = set() if before is None or shown is before else set(before.runs)
    differing = sum(run[2] for run in shown.runs if run not in known)
    return LeafChange(path, change, _text(before), _text(after), shown.nbytes, differing)


def _text(leaf: StoredLeaf | None) -> str:
    """A leaf in a few words: `float32[768,768]`, or its value."""
    if leaf is None:
        return ""
    info = leaf.info
    if info.shape is not None:
        return f"{info.dtype}[{','.join(map(str, info.shape))}]"
    if info.blob is not None or info.value is None:
        return info.kind
    text = repr(info.value)
    return text if len(text) <= 40 else text[:37] + "..."
