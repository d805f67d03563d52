"""Resolving: which commit a revision names, which commits a range or a history consists of."""

from __future__ import annotations

import time
from collections.abc import Iterator

from casckpt.errors import (
    AmbiguousRevision,
    InvalidRevision,
    RevisionNotFound,
)
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops import lookup, meanings
from casckpt.plan.graph import ancestors, between, newest_common, nth_ancestor
from casckpt.plan.names import HEADS, REMOTES, head_ref, is_text, run_of, tag_ref, tracked_by, tracking_ref
from casckpt.plan.ref_policy import CONFLICTS
from casckpt.plan.revision import (
    Best,
    Fork,
    Revision,
    Suffix,
    When,
    With,
    is_earlier,
    parse_range,
    parse_revision,
)


def resolve(database: Database, text: str) -> CommitId:
    """The commit a revision names.

    Raises:
        InvalidRevision: the text is no revision.
        AmbiguousRevision: an id prefix fits several commits.
        RevisionNotFound: nothing has that name; close names are suggested.
    """
    database.refresh()
    if not is_text(text):
        raise RevisionNotFound(text=ascii(text), problem="no name has such characters")
    return _find(database, parse_revision(text), text)


def walk(database: Database, revision: str | None) -> Iterator[tuple[CommitId, Commit, bool]]:
    """The commits of a range, of the history of a revision or of all refs, newest first.

    They come with True; among them, with False, those outside a range that the walk meets.
    """
    found = parse_range(revision) if revision is not None and is_text(revision) else None
    if found is not None:
        database.refresh()
        left, right = (_find(database, side, str(side)) for side in (found.left, found.right))
        return between(left, right, database.commit, symmetric=found.symmetric)
    if revision is None:
        database.refresh()
        starts = list(dict.fromkeys([*database.refs().values(), *lookup.pinned(database)]))
    else:
        starts = [resolve(database, revision)]
    return ((identity, commit, True) for identity, commit in ancestors(starts, database.commit))


def _find(database: Database, revision: Revision, text: str) -> CommitId:
    base, suffixes = revision
    if isinstance(base, Best):
        identity = _best(database, base, text)
    elif isinstance(base, Fork):
        identity = _fork(database, base, text)
    elif suffixes and is_earlier(suffixes[0]):
        identity, suffixes = _earlier(database, base, suffixes[0], text), suffixes[1:]
    else:
        identity = _base(database, base, text)
    for suffix in suffixes:
        identity = _step(database, identity, suffix, text)
    return identity


def _best(database: Database, best: Best, text: str) -> CommitId:
    run = current_run(database) if best.run is None else best.run
    if run is None or database.ref(head_ref(run, "last")) is None:
        raise not_found(database, text, _suggest(database, run or ""))
    mode = best.mode
    if mode is None:
        rule = database.run_settings(run).get("best")
        if type(rule) is not list or len(rule) != 2 or rule[0] != best.metric or rule[1] not in ("min", "max"):
            problem = f"run {run!r} has no rule for {best.metric!r}: say best({best.metric},min) or ({best.metric},max)"
            raise InvalidRevision(text=text, problem=problem)
        mode = rule[1]
    found = lookup.best_commit(database, run, best.metric, mode)
    if found is None:
        raise not_found(database, text, lookup.no_best(database, run, best.metric))
    return found


def _fork(database: Database, fork: Fork, text: str) -> CommitId:
    left, right = (_find(database, side, str(side)) for side in fork)
    found = newest_common(left, right, database.commit)
    if found is None:
        raise not_found(database, text, f"{fork.left} and {fork.right} have no common ancestor")
    return found


def _earlier(database: Database, base: str, suffix: Suffix | When | With, text: str) -> CommitId:
    ref = _ref_of(database, base)
    if isinstance(suffix, When):
        # A tag that was removed named something then all the same.
        names = tuple(_ref_names(database, base)) if ref is None else (ref,)
        then = meanings.value_then(database, names, suffix.moment.at(time.time_ns()))
        if isinstance(then, str):
            raise not_found(database, text, then)
        if then is not None:
            return _present(database, then, text)
    if ref is None:
        _base(database, base, text)
        raise not_found(database, text, f"{base!r} is no run, head or tag, and only those have earlier values")
    if not isinstance(suffix, Suffix):
        raise not_found(database, text, f"the journal has no value of {ref}")
    values = 0
    for identity in lookup.values_of_ref(database, ref):
        if values == suffix.number:
            return _present(database, identity, text)
        values += 1
    raise not_found(database, text, f"the journal has {values} {'value' if values == 1 else 'values'} of {ref}")


def _ref_of(database: Database, base: str) -> str | None:
    """The ref that a name means, None if it means none now; warns where it could also mean something else."""
    found = next((name for name in _ref_names(database, base) if database.ref(name) is not None), None)
    if found is not None and "/" not in base:
        meanings.warn_of_clash(database, base)
    return found


def _base(database: Database, base: str, text: str) -> CommitId:
    ref = _ref_of(database, base)
    found = None if ref is None else database.ref(ref)
    if found is not None:
        return found
    if base == "first" or base.endswith("/first"):
        run = base.removesuffix("first").rstrip("/").removeprefix("runs/") or current_run(database) or ""
        last = database.ref(head_ref(run, "last"))
        if last is not None:
            return list(ancestors([last], database.commit))[-1][0]
    matches = lookup.commits_by_prefix(database, base)
    if len(matches) > 1:
        raise AmbiguousRevision(text=text, count=len(matches), candidates=lookup.listed(database, matches))
    if matches:
        return matches[0]
    lost = lookup.forgotten_by_prefix(database, base)
    if lost is not None:
        return _present(database, lost, text)
    raise not_found(database, text, _suggest(database, base))


def not_found(database: Database, text: str, problem: str) -> RevisionNotFound:
    """The error for a name that nothing has; what a damaged journal lost must not look as if it had never been."""
    if database.gaps():
        problem += "; frames of the journal are damaged and what they held is not known: casckpt fsck names them"
    return RevisionNotFound(text=text, problem=problem)


def _ref_names(database: Database, base: str) -> Iterator[str]:
    """Refs a base can mean, the likeliest first: exact, tag, run, head of the current run."""
    if base.startswith(("runs/", "tags/")):
        yield base
        yield f"{base}/last"
        return
    if base.startswith(CONFLICTS):
        yield base
        return
    yield from _own_names(database, base)
    remote, _, rest = base.removeprefix(REMOTES).partition("/")
    if rest:
        for name in (rest, f"{rest}/last", *_own_names(database, rest)):
            yield tracking_ref(remote, name)


def _own_names(database: Database, base: str) -> Iterator[str]:
    """What a short name can mean: a tag, a run, a head of the current run."""
    yield tag_ref(base)
    yield head_ref(base, "last")
    run, _, head = base.rpartition("/")
    if run and head in HEADS:
        yield head_ref(run, head)
    if base == "@" or base in HEADS:
        current = current_run(database)
        if current is not None:
            yield head_ref(current, "last" if base == "@" else base)


def refs_named(database: Database, text: str) -> tuple[str, ...]:
    """The ref that a name means, or all that it could mean if it means none now."""
    database.refresh()
    if not is_text(text):
        raise RevisionNotFound(text=ascii(text), problem="no name has such characters")
    ref = _ref_of(database, text)
    return tuple(_ref_names(database, text)) if ref is None else (ref,)


def no_such_ref(database: Database, text: str) -> RevisionNotFound:
    """The error for a name that no ref has or had."""
    return not_found(database, text, _suggest(database, text))


def current_run(database: Database) -> str | None:
    """The run that a setting names, else the one whose last commit is the newest; None in an empty store."""
    if database.current_run is not None:
        return database.current_run
    newest: tuple[int, bool, str] | None = None
    for name, identity in database.refs("runs/").items():
        found, commit = run_of(name), database.commit(identity)
        if found and found[1] == "last" and commit is not None:
            # A fork without commits of its own ends at a commit of another run, which goes before it.
            candidate = (commit.time_ns, commit.run == found[0], found[0])
            newest = max(newest or candidate, candidate)
    return None if newest is None else newest[2]


def _suggest(database: Database, base: str) -> str:
    names = {name.split("/", 1)[1] for name in database.own_refs()}
    tracked = (found for name in database.refs(REMOTES) if (found := tracked_by(name)) is not None)
    names |= {f"{remote}/{name.partition('/')[2]}" for remote, name in tracked}
    run, _, head = base.rpartition("/")
    run = run.removeprefix("runs/") or current_run(database) or ""
    if head == "best" and head_ref(run, "last") in database.refs(f"runs/{run}/"):
        return f"run {run!r} has no rule for best; commit with best='METRIC:min' to give it one"
    if base in ("@", *HEADS) and database.current_run is not None and not database.refs(f"runs/{run}/"):
        return f"the setting run says {run!r}, and no run has that name yet"
    names |= {name.removesuffix("/last") for name in names}
    close = lookup.did_you_mean(lookup.close_names(base, names))
    return (close or "not a run, tag, ref or commit id here") if names else "the store has no commits yet"


def _step(database: Database, identity: CommitId, suffix: Suffix | When | With, text: str) -> CommitId:
    assert not isinstance(suffix, When), "it stands behind a name, which `_earlier` has looked up"
    if isinstance(suffix, With):
        answer = lookup.newest_with(database, identity, suffix)
        if isinstance(answer, str):
            raise not_found(database, text, answer)
        return answer
    if suffix.kind == "back":
        found = nth_ancestor(identity, suffix.number, database.commit)
        problem = f"the line of {identity.hex()[:12]} has fewer than {suffix.number} ancestors"
    else:
        commit = database.commit(identity)
        parents = () if commit is None else commit.parents
        number = suffix.number
        found = identity if number == 0 else parents[number - 1] if number <= len(parents) else None
        problem = f"{identity.hex()[:12]} has {len(parents)} parents"
    if found is None:
        raise not_found(database, text, problem)
    return _present(database, found, text)


def _present(database: Database, identity: CommitId, text: str) -> CommitId:
    """A commit that something names, if the store has it."""
    if identity in database.forgotten():
        raise not_found(database, text, f"commit {identity.hex()[:12]} was forgotten, for good")
    if database.commit(identity) is None:
        raise not_found(database, text, f"the store has no commit {identity.hex()[:12]}")
    return identity
