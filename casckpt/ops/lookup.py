"""What a revision asks of a store beyond its refs: earlier values of a ref, the best by a metric, and what is near."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from casckpt.errors import MetricNotFound
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb.database import Database
from casckpt.odb.fold import all_marks
from casckpt.ops.ref_changes import changes
from casckpt.plan.graph import ancestors
from casckpt.plan.revision import id_prefix
from casckpt.units import format_count

if TYPE_CHECKING:
    from casckpt.plan.filters import Filter

_SEARCH = 1_000_000
"""How many commits are looked at for one step or epoch."""
_LISTED = 5


def values_of_ref(database: Database, ref: str) -> Iterator[CommitId]:
    """What a ref named, the newest value first, as far back as the journal goes."""
    last = before = None
    for change in changes(database, (ref,)):
        before = change.old
        if change.new is not None and change.new != last:
            last = change.new
            yield CommitId(ObjectId(bytes.fromhex(last)))
    if before is not None:  # older files are gone, but the move away from the value that they set is not
        yield CommitId(ObjectId(bytes.fromhex(before)))


def pinned(database: Database) -> dict[CommitId, int | None]:
    """The commits that are pinned now, with the moment that ends it. Cost: all marks are looked at."""
    now_ns = time.time_ns()
    found = {commit: value["until"] for commit, key, value in all_marks(database.tables) if key == "pin"}
    return {commit: until for commit, until in found.items() if until is None or until > now_ns}


def best_commit(database: Database, run: str, metric: str, mode: str) -> CommitId | None:
    """The best commit of a run by a metric, as the ref `best` would name it: completed, never NaN, the older of equals.

    Dropped commits do not count, as they have no state. Cost: all commits of the store are looked at.
    """
    found: tuple[float, int, CommitId] | None = None
    for identity, commit in database.commits():
        value = commit.metrics.get(metric)
        if commit.run != run or commit.status != "completed" or value is None or math.isnan(value):
            continue
        candidate = (value if mode == "min" else -value, commit.time_ns, identity)
        if (found is None or candidate < found) and not _is_dropped(database, identity):
            found = candidate
    return None if found is None else found[2]


def metrics_of(database: Database, run: str) -> set[str]:
    """The names of all metrics of a run."""
    return {name for _, commit in database.commits() if commit.run == run for name in commit.metrics}


def commits_by_prefix(database: Database, base: str) -> list[CommitId]:
    """The commits whose id starts with a base, the newest first; none if it cannot be the prefix of an id."""
    prefix = id_prefix(base)
    if prefix is None:
        return []
    whole, half = prefix
    found = [
        (-commit.time_ns, identity)
        for identity, commit in database.commits(whole)
        if not half or identity.hex()[len(whole) * 2] == half
    ]
    return [identity for _, identity in sorted(found)]


def listed(database: Database, identities: list[CommitId]) -> str:
    """Commits with run and step to choose from, with as many digits of their ids as tell them apart."""
    known = sorted(identity.hex() for identity in identities)
    digits = max([12, *(_shared(a, b) + 1 for a, b in pairwise(known))])
    shown = []
    for identity in identities[:_LISTED]:
        commit = database.commit(identity)
        words = [] if commit is None else [commit.run] if commit.step is None else [commit.run, f"step {commit.step}"]
        words += ["dropped"] if _is_dropped(database, identity) else []
        shown.append(" ".join([identity.hex()[:digits], *words]))
    rest = len(identities) - len(shown)
    return ", ".join(shown) + (f" and {format_count(rest)} more" if rest else "")


def matching(line: Iterable[tuple[CommitId, Commit]], wanted: Filter) -> Iterator[tuple[CommitId, Commit]]:
    """The commits of a line that a filter wants, one by one.

    Raises:
        MetricNotFound: there were commits and none was wanted, and no one had a metric that the filter compares: more
            likely a slip than an answer.
    """
    metrics: set[str] = set()
    found, looked = False, False
    for identity, commit in line:
        looked = True
        metrics |= commit.metrics.keys()
        if wanted.matches(commit):
            found = True
            yield identity, commit
    if looked and not found:
        for key in wanted.compared():
            if key.is_metric and key.name not in metrics:
                raise MetricNotFound(metric=key.name, problem=_those_there_are(key.name, metrics))


def at(database: Database, start: CommitId, key: str, number: int | float) -> CommitId | str:
    """The newest ancestor whose step or epoch is a number; if none is, the nearest ones in words."""
    near: dict[int | float, CommitId] = {}
    for identity, commit in islice(ancestors([start], database.commit), _SEARCH):
        value: int | float | None = commit.step if key == "step" else commit.epoch
        if value == number:
            return identity
        if value is not None:
            near.setdefault(value, identity)
    closest = sorted(sorted(near, key=lambda value: abs(value - number))[:2])
    words = " and ".join(f"{value} ({near[value].hex()[:12]})" for value in closest)
    return f"nearest are {words}" if len(closest) > 1 else f"the nearest is {words}" if closest else ""


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """At most three of the known names that are spelled like one, whatever their case, the closest first."""
    import difflib  # slow to import, and needed by errors only

    folded: dict[str, str] = {}
    for one in sorted(known):
        folded.setdefault(one.casefold(), one)
    return [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, 3)]


def did_you_mean(names: list[str]) -> str:
    """A question with names, empty without any."""
    return f"did you mean {' or '.join(map(repr, names))}?" if names else ""


def no_best(database: Database, run: str, metric: str) -> str:
    """Why a run has no best commit by a metric."""
    known = metrics_of(database, run)
    if metric in known:
        return f"no completed commit of run {run!r} that is not dropped has a number for {metric!r}"
    return f"run {run!r} has no metric {metric!r}; {_those_there_are(metric, known)}"


def _those_there_are(metric: str, known: set[str]) -> str:
    """Metrics that a missing one may have been meant for, else some of those there are."""
    names = ", ".join(sorted(known)[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
    return did_you_mean(close_names(metric, known)) or (f"there are {names}" if names else "there is none")


def _is_dropped(database: Database, identity: CommitId) -> bool:
    drop = database.drop(identity)
    return drop is not None and drop.parts is None


def _shared(left: str, right: str) -> int:
    """How many characters two texts share from their start."""
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
