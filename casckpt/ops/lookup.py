"""What a revision asks of a store beyond its refs: earlier values of a ref, the best by a metric, and what is near."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from casckpt.errors import MetricNotFound, RevisionNotFound
from casckpt.format.canonical import decode
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.marks import DAMAGED, NONFINITE
from casckpt.odb.database import Database
from casckpt.odb.fold import all_marks
from casckpt.ops.ref_changes import changes
from casckpt.plan.graph import ancestors
from casckpt.plan.names import NUMBERS, TEXTS, run_of
from casckpt.plan.revision import CONFIG, With, id_prefix
from casckpt.units import format_count, parse_number, rfc3339

if TYPE_CHECKING:
    from casckpt.plan.filters import Filter

_SEARCH = 1_000_000
"""How many commits are looked at for one value."""
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


def marked(database: Database, key: str) -> dict[CommitId, Any]:
    """The commits that have a mark, with its value. Cost: all marks are looked at."""
    if not database.has_marks():
        return {}
    return {commit: value for commit, found, value in all_marks(database.tables) if found == key}


def is_sound(database: Database, identity: CommitId) -> bool:
    """Whether a commit may be the `best` or `recovery` of its run.

    Not if damage of it was recorded; nor, with the health gate, if its state holds NaN or infinities. What nobody has
    looked at counts as finite.
    """
    if database.mark(identity, DAMAGED) is not None:
        return False
    return not database.health_gate or database.mark(identity, NONFINITE) is None


def best_commit(database: Database, run: str, metric: str, mode: str) -> CommitId | None:
    """The best commit of a run by a metric, as the ref `best` would name it: completed, never NaN, the older of equals.

    Dropped commits do not count, as they have no state; nor do unsound ones. Cost: all commits of the store are looked
    at.
    """
    found: tuple[float, int, CommitId] | None = None
    for identity, commit in database.commits():
        value = commit.metrics.get(metric)
        if commit.run != run or commit.status != "completed" or value is None or math.isnan(value):
            continue
        candidate = (value if mode == "min" else -value, commit.time_ns, identity)
        better = found is None or candidate < found
        if better and not _is_dropped(database, identity) and is_sound(database, identity):
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


def forgotten_by_prefix(database: Database, base: str) -> CommitId | None:
    """A forgotten commit whose id starts with a base."""
    prefix = id_prefix(base)
    if prefix is None:
        return None
    whole, half = prefix
    alike = (one for one in database.forgotten() if one.startswith(whole))
    return next((one for one in alike if not half or one.hex()[len(whole) * 2] == half), None)


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


def matching(
    line: Iterable[tuple[CommitId, Commit]],
    wanted: Filter,
    tags: Mapping[CommitId, Sequence[str]],
    mark: Callable[[CommitId, str], Any] | None,
) -> Iterator[tuple[CommitId, Commit]]:
    """The commits of a line that a filter wants, one by one.

    Args:
        tags: names of the tags of the commits that have any.
        mark: gives the mark of a commit by its key, None without one; None if no commit has any.

    Raises:
        MetricNotFound: there were commits and none was wanted, and no one had a metric that the filter compares: more
            likely a slip than an answer.
    """
    from casckpt.plan.filters import FLAGS, Subject  # whoever parsed the filter has imported it

    now_ns = time.time_ns()
    metrics: set[str] = set()
    found, looked = False, False
    for identity, commit in line:
        looked = True
        metrics |= commit.metrics.keys()
        subject = Subject(commit, now_ns, tuple(tags.get(identity, ())))
        if mark is not None:
            flags = tuple(flag for flag in FLAGS if mark(identity, flag) is not None)
            pin = _end_of_pin(mark(identity, "pin"), now_ns)
            subject = subject._replace(note=mark(identity, "note"), pin=pin, flags=flags)
        if wanted.matches(subject):
            found = True
            yield identity, commit
    if looked and not found:
        for key in wanted.compared():
            if key.is_metric and key.name not in metrics:
                raise MetricNotFound(metric=key.name, problem=_those_there_are(key.name, metrics))


def _end_of_pin(pin: Mapping[str, Any] | None, now_ns: int) -> str | None:
    """When a pin ends, in UTC, or `never`; None if there is none any more."""
    if pin is None or (pin["until"] is not None and pin["until"] <= now_ns):
        return None
    return "never" if pin["until"] is None else rfc3339(pin["until"])


def newest_with(database: Database, start: CommitId, wanted: With) -> CommitId | str:
    """The newest ancestor, itself included, that has a value; if none has, what there is instead, in words.

    Cost: one index look-up a commit; for a key of the config also one read for each different config.
    """
    seen: dict[int | float | str, CommitId] = {}
    names: set[str] = set()
    value_of = _Configs(database, wanted.key.removeprefix(CONFIG)) if wanted.key.startswith(CONFIG) else None
    for identity, commit in islice(ancestors([start], database.commit), _SEARCH):
        value: int | float | str | None
        if value_of is not None:
            value = value_of(commit)
        elif wanted.key in (*NUMBERS, *TEXTS):
            value = getattr(commit, wanted.key)
        else:
            value = commit.metrics.get(wanted.key)
            names |= commit.metrics.keys()
        if value is not None:
            if _is_same(value, wanted.value):
                return identity
            seen.setdefault(value, identity)
    return _without(wanted, seen, names if value_of is None else value_of.names)


class _Configs:
    """The number or text that configs of commits have at a path of keys. Each config is read once."""

    def __init__(self, database: Database, path: str) -> None:
        self._database = database
        self._path = path
        self._known: dict[ObjectId, int | float | str | None] = {}
        self.names: set[str] = set()
        """The keys there are where the path ends or could not be followed, of all configs looked at."""

    def __call__(self, commit: Commit) -> int | float | str | None:
        if commit.config is None:
            return None
        if commit.config not in self._known:
            self._known[commit.config] = self._read(commit.config)
        return self._known[commit.config]

    def _read(self, identity: ObjectId) -> int | float | str | None:
        found = decode(self._database.read(identity, Kind.META), "a config")
        followed, rest = CONFIG, self._path
        while rest:
            named = _children(found)
            # A key may have dots of its own: then it can only be the last one.
            key, _, after = (rest, "", "") if rest in named else rest.partition(".")
            if key not in named:
                self.names |= {followed + name for name in named}
                return None
            found, followed, rest = named[key], f"{followed}{key}.", after
        if isinstance(found, dict | list):
            self.names |= {followed + name for name in _children(found)}
            return None
        if found is None or isinstance(found, bool):
            return {None: "null", True: "true", False: "false"}[found]
        return found if isinstance(found, int | float) else str(found)


def _children(value: Any) -> dict[str, Any]:
    """What a value of a config holds, by key or place."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {str(key): item for key, item in pairs}


def _is_same(value: int | float | str, wanted: int | float | str) -> bool:
    if isinstance(wanted, str) and not isinstance(value, str):
        # A number of a config, of which the text says more: 1e-4 is 0.0001.
        number = parse_number(wanted)
        return number is not None and _is_same(value, number)
    # NaN equals nothing, but who asks for it wants those that are.
    return value == wanted or (_is_nan(value) and _is_nan(wanted))


def _is_nan(value: int | float | str) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _without(wanted: With, seen: dict[int | float | str, CommitId], names: set[str]) -> str:
    """Why no commit has a value: the nearest ones, or the keys that may have been meant."""
    key, value = wanted
    if not seen and key not in (*NUMBERS, *TEXTS):
        return f"no commit has {key!r}; {_those_there_are(key, names)}"
    shown = list(seen)
    if isinstance(value, str):
        words = ", ".join(f"{found} ({seen[found].hex()[:12]})" for found in shown[:_LISTED])
        return f"no commit with {key} {value!r}" + (f"; there are {words}" if words else "")
    numbers = [found for found in shown if not isinstance(found, str) and math.isfinite(found)]
    closest = sorted(sorted(numbers, key=lambda found: abs(found - value))[:2]) if math.isfinite(value) else []
    words = " and ".join(f"{found} ({seen[found].hex()[:12]})" for found in closest)
    near = f"; nearest are {words}" if len(closest) > 1 else f"; the nearest is {words}" if closest else ""
    return f"no commit at {key} {value}{near}"


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


def no_such_run(database: Database, run: str) -> RevisionNotFound:
    """The error for the name of a run that is none, with names that are close."""
    close = close_names(run, {head[0] for head in map(run_of, database.refs("runs/")) if head is not None})
    return RevisionNotFound(text=run, problem=did_you_mean(close) or "there is no such run")


def no_best(database: Database, run: str, metric: str) -> str:
    """Why a run has no best commit by a metric."""
    known = metrics_of(database, run)
    if metric in known:
        return f"no completed, sound commit of run {run!r} that is not dropped has a number for {metric!r}"
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
