"""What the caller of a commit or checkout agreed to: entries that are left out, and pickles, made or run, by path."""

from __future__ import annotations

from collections.abc import Iterable

from casckpt.errors import PickleBlocked, UsageError
from casckpt.ops.required import require
from casckpt.ops.selection import Chosen, Patterns
from casckpt.plan.schema import Schema, SchemaLike
from casckpt.state.flat import FlatState
from casckpt.state.flatten import flatten
from casckpt.state.kinds.pickled import KIND
from casckpt.state.select import compile_patterns
from casckpt.state.trace import nothing
from casckpt.state.unflatten import Trust

AllowPickle = bool | Patterns
"""Whether pickles are run: all, none, or those at paths that match a pattern."""


def take_apart(
    state: object, skip: Patterns | None, allow_pickle: AllowPickle, schema: SchemaLike | None = None
) -> FlatState:
    """A live state, without what patterns skip, and with pickles of what nothing else can store where that is allowed.

    Raises:
        StateError: as `flatten`, or because a path is missing that the schema requires.
    """
    skips = nothing if skip is None else compile_patterns(skip)
    allowed = selects_pickles(allow_pickle)
    pickles = (lambda _: allowed) if isinstance(allow_pickle, bool) or not allowed else compile_patterns(allow_pickle)
    flat = flatten(state, skips, pickles)
    if schema is not None:
        require(flat, Schema.of(schema))
    return flat


def selects_pickles(allow_pickle: AllowPickle) -> bool:
    """Whether any pickle may be made or run.

    Raises:
        UsageError: it is neither a truth value nor patterns.
    """
    if not isinstance(allow_pickle, bool | str | list | tuple):
        raise UsageError(problem=f"allow_pickle is True, False or patterns of paths, not {allow_pickle!r}")
    return bool(allow_pickle)


def agreed(parts: Iterable[Chosen], commit: str, *, strict: bool, allow_pickle: AllowPickle) -> Trust:
    """How far what parts of a commit name is trusted.

    Args:
        commit: short id of it, for errors.

    Raises:
        PickleBlocked: it holds a pickle that the caller did not agree to.
    """
    everything = allow_pickle is True
    trust = Trust(strict=strict, allow_pickle=selects_pickles(allow_pickle))
    if everything:
        return trust
    selects = compile_patterns(allow_pickle) if not isinstance(allow_pickle, bool) and allow_pickle else None
    for chosen in parts:
        leaves = list(chosen.leaves()) if chosen.reduced else []
        for leaf in leaves:
            if KIND in leaf.kind.split() and not (selects is not None and selects(leaf.path)):
                blobs = {one.blob for one in leaves if one.path.startswith(f"{leaf.path}/") and one.blob is not None}
                size = sum(chosen.size(blob) for blob in blobs)
                facts = {"path": leaf.path, "type": leaf.dtype, "size": size, "commit": commit}
                raise PickleBlocked(**facts)
    return trust
