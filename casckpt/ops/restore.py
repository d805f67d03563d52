"""checkout, and into a live state: tensors are overwritten where they are, once everything is known to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from casckpt.errors import DamagedLeaf, PartialMigration, PartialRestore, StateMismatch, UsageError
from casckpt.format.ids import CommitId, short_id
from casckpt.odb.repository import Repository
from casckpt.ops.background import Background
from casckpt.ops.checkout import build, checkout_state, fresh_memory, read_targets
from casckpt.ops.consent import AllowPickle, agreed, take_apart
from casckpt.ops.load import GroupTarget, Target
from casckpt.ops.selection import Patterns, Selection, select_state
from casckpt.ops.values import Progress, Verify
from casckpt.ops.versions import migrate_state, steps_ahead
from casckpt.plan.schema import SchemaLike
from casckpt.state.flat import Node
from casckpt.state.overlap import Blob, Placed, conflicts, place_pairs
from casckpt.state.pairing import Pair, pair, put

_SHOWN_MAX = 5


def checkout(
    repository: Repository,
    background: Background,
    identity: CommitId,
    into: Any,
    select: Patterns | None,
    mmap: bool,
    verify: str | None,
    progress: Progress | None,
    strict: bool,
    allow_pickle: AllowPickle,
    schema: SchemaLike | None = None,
    migrate: bool = True,
) -> Any:
    """A checkout in whichever way is asked for; see `Store.checkout`."""
    if verify not in (None, *get_args(Verify)):
        raise UsageError(problem=f"verify is one of {', '.join(get_args(Verify))}, not {verify!r}")
    if mmap and into is not None:
        raise UsageError(problem="mmap=True makes new memory, into= fills the memory there is: give one of them")
    if (verify == "first" and into is None) or (verify == "background" and not mmap):
        raise UsageError(problem="verify='first' goes with into=, verify='background' with mmap=True")
    trust: dict[str, Any] = {"strict": strict, "allow_pickle": allow_pickle}
    if schema is not None and not migrate:
        raise UsageError(problem="schema= says which version to migrate to, migrate=False that nothing is migrated")
    steps = steps_ahead(repository.database, identity, schema) if migrate else ()
    if steps:
        if select is not None or mmap:
            raise PartialMigration(commit=short_id(identity), name=steps[0].name, start=steps[0].start)
        # An old state fits nothing that lives today, so it is read aside; into= gets what became of it.
        state = migrate_state(checkout_state(repository, identity, progress=progress, **trust), steps, identity)
        return state if into is None else overwrite(into, state, allow_pickle)
    if into is not None:
        return restore_state(repository, identity, into, select, progress, verify_first=verify == "first", **trust)
    if not mmap:
        return checkout_state(repository, identity, select, progress, **trust)
    from casckpt.ops.mapped import mapped_state

    state, verify_mapped = mapped_state(repository, identity, select, progress, **trust)
    if verify is not None:
        background.watch(verify_mapped)
    return state


def restore_state(
    repository: Repository,
    identity: CommitId,
    live: Any,
    select: Patterns | None = None,
    progress: Progress | None = None,
    *,
    verify_first: bool = False,
    strict: bool = False,
    allow_pickle: AllowPickle = False,
) -> Any:
    """Put a commit, or what is selected of it, into a live state; returns that.

    Args:
        live: has the structure of what is asked for. Tensors and arrays of the same dtype and shape are overwritten,
            on whatever device; other values are replaced in their dicts and lists.
        verify_first: read and verify everything once before anything is overwritten.

    Raises:
        StateMismatch: something does not fit; nothing was changed.
        DamagedLeaf: stored bytes are missing or wrong; nothing was changed.
        PartialRestore: the same, found when some leaves had been overwritten, which it names.

    Cost: one read, hash and copy; twice the read and hash with `verify_first`.
    """
    selection = select_state(repository.database, identity, select)
    trust = agreed(selection.chosen, selection.loader.commit, strict=strict, allow_pickle=allow_pickle)
    parts = [(chosen.loaded.name, chosen.node, chosen.values) for chosen in selection.chosen]
    first = {(part, blob): (group[0][0], group[0][1]) for group in selection.links for part, blob in group}
    pairs, placed = _fitting(parts, first, live, all_of_it=select is None)
    direct = _direct(selection, pairs, first)
    targets: list[Target | GroupTarget] = []
    memories = []
    for number, (chosen, blobs) in enumerate(selection.own_blobs()):
        mine = {blob: direct[number, blob] for blob in blobs if (number, blob) in direct}
        targets += [Target(chosen.loaded, blob, memory) for blob, memory in sorted(mine.items())]
        memories.append(mine | fresh_memory(targets, chosen, [blob for blob in blobs if blob not in mine]))
    if verify_first:
        selection.loader.fetch(targets, repository.threads, keep=False)
    _read(selection, targets, direct, placed, repository.threads, progress)
    put(live, build(selection, memories, trust))
    return live


def overwrite(live: Any, state: Any, allow_pickle: AllowPickle = False) -> Any:
    """Put a state that is in memory into a live one, as `restore_state` does with a stored one; returns that.

    What is put as a whole, as a `_metadata`, is the state's own: it shares no memory with what is overwritten in place.

    Raises:
        StateMismatch: something does not fit; nothing was changed.
        StateError: the state holds what no commit can hold; nothing was changed.
    """
    flat = take_apart(state, None, allow_pickle)
    first = {(part, blob): group[0] for group in flat.links for part, blob in group}
    _fitting([(one.name, one.node, one.values) for one in (flat.root, *flat.components)], first, live, all_of_it=True)
    put(live, state)
    return live


def _fitting(
    parts: Sequence[tuple[str, Node, Sequence[object]]], first: dict[Blob, Blob], live: Any, *, all_of_it: bool
) -> tuple[list[Pair], list[Placed]]:
    """What goes where in a live state, if all of it fits; see `pair` and `place_pairs`."""
    pairs, problems = pair(parts, live, all_of_it=all_of_it)
    placed = [] if problems else place_pairs(pairs, first)
    problems += conflicts(placed)
    if problems:
        path, problem = problems[0]
        raise StateMismatch(path=path, problem=problem, count=len(problems), problems=dict(problems))
    return pairs, placed


def _direct(selection: Selection, pairs: list[Pair], first: dict[Blob, Blob]) -> dict[Blob, memoryview]:
    """Live memory that can take a blob as it is stored, by component and blob."""
    found: dict[Blob, memoryview] = {}
    for one in pairs:
        node = one.node
        memory = one.place() if node.blob is not None and node.offset == 0 else None
        if memory is None or node.blob is None:
            continue
        if len(memory) == selection.chosen[one.part].size(node.blob):
            key = (one.part, node.blob)
            found.setdefault(first.get(key, key), memory)
    return found


def _address(memory: memoryview) -> int:
    import numpy as np

    return int(np.frombuffer(memory, np.uint8).ctypes.data)


def _meets(leaf: Placed, memory: memoryview) -> bool:
    start = _address(memory)
    return leaf.space == "cpu" and leaf.low < start + len(memory) and leaf.high > start


def _read(
    selection: Selection,
    targets: list[Target | GroupTarget],
    direct: dict[Blob, memoryview],
    placed: list[Placed],
    threads: int,
    progress: Progress | None,
) -> None:
    live = {id(memory) for memory in direct.values()}
    begun: list[Target] = []

    def begin(target: Target) -> None:
        if id(target.memory) in live:
            begun.append(target)

    try:
        read_targets(selection, targets, threads, progress, begin)
    except DamagedLeaf as error:
        if not begun:
            raise
        paths = [leaf.path for leaf in placed if any(_meets(leaf, target.memory) for target in begun)]
        shown = ", ".join(paths[:_SHOWN_MAX]) + (", ..." if len(paths) > _SHOWN_MAX else "")
        raise PartialRestore(**error.facts, count=len(paths), overwritten=paths, shown=shown) from error
