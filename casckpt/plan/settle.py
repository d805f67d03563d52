"""Which refs a new commit moves, decided under the journal lock from what is there at that moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from casckpt.errors import ConflictError, UsageError
from casckpt.format.commit import Commit
from casckpt.format.entry import RefMove
from casckpt.format.ids import CommitId
from casckpt.plan.names import head_ref

RefOf = Callable[[str], CommitId | None]
CommitOf = Callable[[CommitId], Commit | None]
Standing = Callable[[CommitId, str, str], CommitId | None]


def parse_best(text: str) -> tuple[str, str]:
    """(metric, mode) from `val/loss:min`.

    Raises:
        UsageError: the mode is neither min nor max, or the metric is empty.
    """
    metric, _, mode = text.rpartition(":")
    if not metric or mode not in ("min", "max"):
        raise UsageError(problem=f"{text!r} does not say METRIC:min or METRIC:max")
    return metric, mode


def settle_parents(
    run: str, parents: tuple[CommitId, ...] | None, expect: CommitId | None, refs: RefOf
) -> tuple[CommitId, ...]:
    """Parents of a commit to `run`: what the caller says, else the run's last.

    Args:
        expect: if given, the run's last must be this commit.

    Raises:
        ConflictError: it is another.
    """
    last = refs(head_ref(run, "last"))
    if expect is not None and last != expect:
        raise ConflictError(ref=run, expected=expect.hex()[:12], actual="nothing" if last is None else last.hex()[:12])
    if parents is not None:
        return parents
    return () if last is None else (last,)


def as_it_is(best: CommitId, metric: str, mode: str) -> CommitId | None:
    """The commit that `best` names, if that is sound anyway."""
    return best


def ref_moves(
    identity: CommitId,
    commit: Commit,
    settings: Mapping[str, Any],
    refs: RefOf,
    commits: CommitOf,
    *,
    is_sound: bool = True,
    standing: Standing = as_it_is,
) -> tuple[RefMove, ...]:
    """Ref moves of a new commit: `last` always, `recovery` and `best` when it earns them.

    Args:
        settings: of its run; `best` is [metric, mode].
        is_sound: whether it may be trusted with more than `last`.
        standing: the commit that `best` should name until now, by what it names, the metric and the mode: itself, or if
            it has become unsound, the best of the others. Then `best` moves there unless the new one is better.
    """
    moves = [RefMove(head_ref(commit.run, "last"), refs(head_ref(commit.run, "last")), identity)]
    if commit.status != "completed" or not is_sound:
        return tuple(moves)
    if commit.kind == "recovery":
        name = head_ref(commit.run, "recovery")
        moves.append(RefMove(name, refs(name), identity))
    rule = settings.get("best")
    if type(rule) is list and len(rule) == 2:
        name = head_ref(commit.run, "best")
        old = refs(name)
        best = None if old is None else standing(old, rule[0], rule[1])
        if _is_better(commit, None if best is None else commits(best), rule[0], rule[1]):
            best = identity
        if best is not None and best != old:
            moves.append(RefMove(name, old, best))
    return tuple(moves)


def heads_among(commits: Collection[tuple[CommitId, Commit]], settings: Mapping[str, Any]) -> dict[str, CommitId]:
    """What the heads of a run would name if it had these commits only, made in the order of their times."""
    known = dict(commits)
    refs: dict[str, CommitId] = {}
    for identity, commit in sorted(commits, key=lambda one: (one[1].time_ns, one[0])):
        for move in ref_moves(identity, commit, settings, refs.get, known.get):
            refs[move.name] = identity
    return {name.rpartition("/")[2]: identity for name, identity in refs.items()}


def _is_better(new: Commit, old: Commit | None, metric: str, mode: str) -> bool:
    """Whether `new` takes over `best`: NaN never does, ties stay with the older."""
    value = new.metrics.get(metric)
    if value is None or math.isnan(value):
        return False
    other = None if old is None else old.metrics.get(metric)
    if other is None or math.isnan(other):
        return True
    return value < other if mode == "min" else value > other
