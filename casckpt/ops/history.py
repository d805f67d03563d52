"""Looking at history: what a revision names, the log, one commit in full, runs, the store at a glance."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from casckpt.errors import (
    AmbiguousRevision,
    CommitDropped,
    CommitThinned,
    InvalidRevision,
    RevisionNotFound,
    UsageError,
)
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.ops import lookup, meanings
from casckpt.ops.values import CommitInfo, RunInfo, Status
from casckpt.plan.graph import ancestors, between, newest_common, nth_ancestor
from casckpt.plan.names import HEADS, head_ref, is_text, run_of, tag_ref
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
from casckpt.units import rfc3339


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
        raise _not_found(database, text, _suggest(database, run or ""))
    mode = best.mode
    if mode is None:
        rule = database.run_settings(run).get("best")
        if type(rule) is not list or len(rule) != 2 or rule[0] != best.metric or rule[1] not in ("min", "max"):
            problem = f"run {run!r} has no rule for {best.metric!r}: say best({best.metric},min) or ({best.metric},max)"
            raise InvalidRevision(text=text, problem=problem)
        mode = rule[1]
    found = lookup.best_commit(database, run, best.metric, mode)
    if found is None:
        raise _not_found(database, text, lookup.no_best(database, run, best.metric))
    return found


def _fork(database: Database, fork: Fork, text: str) -> CommitId:
    left, right = (_find(database, side, str(side)) for side in fork)
    found = newest_common(left, right, database.commit)
    if found is None:
        raise _not_found(database, text, f"{fork.left} and {fork.right} have no common ancestor")
    return found


def _earlier(database: Database, base: str, suffix: Suffix | When | With, text: str) -> CommitId:
    ref = _ref_of(database, base)
    if isinstance(suffix, When):
        # A tag that was removed named something then all the same.
        names = tuple(_ref_names(database, base)) if ref is None else (ref,)
        then = meanings.value_then(database, names, suffix.moment.at(time.time_ns()))
        if isinstance(then, str):
            raise _not_found(database, text, then)
        if then is not None:
            return _present(database, then, text)
    if ref is None:
        _base(database, base, text)
        raise _not_found(database, text, f"{base!r} is no run, head or tag, and only those have earlier values")
    if not isinstance(suffix, Suffix):
        raise _not_found(database, text, f"the journal has no value of {ref}")
    values = 0
    for identity in lookup.values_of_ref(database, ref):
        if values == suffix.number:
            return _present(database, identity, text)
        values += 1
    raise _not_found(database, text, f"the journal has {values} {'value' if values == 1 else 'values'} of {ref}")


def _ref_of(database: Database, base: str) -> str | None:
    """The ref that a name means, None if it means none now; warns where it could also mean something else."""
    found = next((name for name in _ref_names(database, base) if database.ref(name) is not None), None)
    if found is not None and "/" not in base:
        meanings.warn_of_clash(database, base)
    return found


def _base(database: Database, base: str, text: str) -> CommitId:
    if base.startswith("remotes/"):
        raise _not_found(database, text, "names of remotes begin with 'remotes/', and this store follows none")
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
    raise _not_found(database, text, _suggest(database, base))


def _not_found(database: Database, text: str, problem: str) -> RevisionNotFound:
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
    return _not_found(database, text, _suggest(database, text))


def current_run(database: Database) -> str | None:
    """The run whose last commit is the newest, None in an empty store."""
    newest: tuple[int, bool, str] | None = None
    for name, identity in database.refs("runs/").items():
        found, commit = run_of(name), database.commit(identity)
        if found and found[1] == "last" and commit is not None:
            # A fork without commits of its own ends at a commit of another run, which goes before it.
            candidate = (commit.time_ns, commit.run == found[0], found[0])
            newest = max(newest or candidate, candidate)
    return None if newest is None else newest[2]


def _suggest(database: Database, base: str) -> str:
    names = {name.split("/", 1)[1] for name in database.refs()}
    run, _, head = base.rpartition("/")
    run = run.removeprefix("runs/") or current_run(database) or ""
    if head == "best" and head_ref(run, "last") in database.refs(f"runs/{run}/"):
        return f"run {run!r} has no rule for best; commit with best='METRIC:min' to give it one"
    names |= {name.removesuffix("/last") for name in names}
    close = lookup.did_you_mean(lookup.close_names(base, names))
    return (close or "not a run, tag, ref or commit id here") if names else "the store has no commits yet"


def _step(database: Database, identity: CommitId, suffix: Suffix | When | With, text: str) -> CommitId:
    assert not isinstance(suffix, When), "it stands behind a name, which `_earlier` has looked up"
    if isinstance(suffix, With):
        answer = lookup.newest_with(database, identity, suffix)
        if isinstance(answer, str):
            raise _not_found(database, text, answer)
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
        raise _not_found(database, text, problem)
    return _present(database, found, text)


def _present(database: Database, identity: CommitId, text: str) -> CommitId:
    """A commit that something names, if the store has it."""
    if database.commit(identity) is None:
        raise _not_found(database, text, f"the store has no commit {identity.hex()[:12]}")
    return identity


def describe(
    database: Database,
    identity: CommitId,
    refs: dict[CommitId, list[str]] | None = None,
    commit: Commit | None = None,
) -> CommitInfo:
    """A commit as users see it.

    Args:
        refs: from `refs_by_commit`, where many commits are described.
        commit: what is stored under the id, where that was read already.
    """
    commit = database.commit(identity) if commit is None else commit
    if commit is None:
        raise _not_found(database, identity.hex(), "the store has no such commit")
    names = (refs_by_commit(database) if refs is None else refs).get(identity, [])
    shown = tuple(_short(name, commit.run) for name in names)
    children = tuple(child.hex() for child in database.children(identity))
    pin = database.mark(identity, "pin")
    if pin is not None and pin["until"] is not None and pin["until"] <= time.time_ns():
        pin = None
    note = database.mark(identity, "note")
    return info(identity, commit, database.added(identity), shown, children, database.drop(identity), note, pin)


def info(
    identity: CommitId,
    commit: Commit,
    added: int | None,
    refs: tuple[str, ...],
    children: tuple[str, ...] = (),
    drop: Drop | None = None,
    note: str | None = None,
    pin: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """A commit as users see it, with what it does not know itself."""
    return CommitInfo(
        id=identity.hex(),
        run=commit.run,
        step=commit.step,
        epoch=commit.epoch,
        kind=commit.kind,
        status=commit.status,
        time_ns=commit.time_ns,
        metrics=dict(commit.metrics),
        message=commit.message,
        author=commit.author,
        parents=tuple(parent.hex() for parent in commit.parents),
        tree=commit.tree.hex(),
        nbytes=commit.nbytes,
        added=added,
        refs=refs,
        children=children,
        dropped=drop.rule if drop is not None and drop.parts is None else None,
        thinned=() if drop is None or drop.parts is None else drop.parts,
        schema=commit.schema,
        required=commit.required,
        note=note,
        pinned=pin is not None,
        pinned_until=None if pin is None else pin["until"],
    )


def refs_by_commit(database: Database) -> dict[CommitId, list[str]]:
    """Full names of refs by the commit they name."""
    found: dict[CommitId, list[str]] = {}
    for name, identity in database.refs().items():
        found.setdefault(identity, []).append(name)
    return found


def _short(ref: str, run: str) -> str:
    """A ref as one says it beside a commit of a run: its heads without the run, tags with `tag: `."""
    head = run_of(ref)
    if head is None:
        return f"tag: {ref.removeprefix('tags/')}"
    return head[1] if head[0] == run else f"{head[0]}/{head[1]}"


def log(
    database: Database, revision: str | None = None, limit: int | None = None, where: str | None = None
) -> Iterator[CommitInfo]:
    """Commits newest first: those of a range, the ancestors of a revision, or of every ref and pin.

    Args:
        where: only those that a filter wants; they count towards the limit.

    Cost: one index look-up a commit and parent; nothing is read ahead of what the caller takes.
    """
    if limit is not None and limit < 0:
        raise UsageError(problem=f"limit must be 0 or more, not {limit}")
    line = ((identity, commit) for identity, commit, is_inside in walk(database, revision) if is_inside)
    refs = refs_by_commit(database)
    for identity, commit in islice(narrowed(database, line, where), limit):
        yield describe(database, identity, refs, commit)


def narrowed(
    database: Database, line: Iterator[tuple[CommitId, Commit]], where: str | None
) -> Iterator[tuple[CommitId, Commit]]:
    """The commits of a line that a filter wants; without a filter all."""
    if where is None:
        return line
    from casckpt.plan.filters import parse_filter  # a plain log starts without it

    tags: dict[CommitId, list[str]] = {}
    for name, identity in database.refs("tags/").items():
        tags.setdefault(identity, []).append(name.removeprefix("tags/"))
    return lookup.matching(line, parse_filter(where), tags)


def require_tree(database: Database, identity: CommitId) -> Commit:
    """The commit, if its whole tree can be asked for.

    Raises:
        CommitDropped, CommitThinned: by which rule and when.
    """
    commit = database.commit(identity)
    if commit is None:
        raise _not_found(database, identity.hex(), "the store has no such commit")
    drop = database.drop(identity)
    if drop is not None:
        facts = {"commit": identity.hex()[:12], "rule": drop.rule, "when": rfc3339(drop.time_ns)}
        raise CommitDropped(**facts) if drop.parts is None else CommitThinned(parts=", ".join(drop.parts), **facts)
    return commit


def runs(database: Database) -> list[RunInfo]:
    """All runs, the one with the newest commit first. Cost: a few index look-ups a run."""
    database.refresh()
    refs = refs_by_commit(database)
    heads = [(run_of(name), identity) for name, identity in database.refs("runs/").items()]
    found = [_run(database, head[0], identity, refs) for head, identity in heads if head and head[1] == "last"]
    return sorted(found, key=lambda run: -run.last.time_ns)


def run_info(database: Database, name: str) -> RunInfo:
    """One run, which must be there."""
    last = database.ref(head_ref(name, "last"))
    assert last is not None, name
    return _run(database, name, last, refs_by_commit(database))


def _run(database: Database, name: str, last: CommitId, refs: dict[CommitId, list[str]]) -> RunInfo:
    best = database.ref(head_ref(name, "best"))
    settings = database.run_settings(name)
    rule, ended = settings.get("best"), finished(settings)
    newest = describe(database, last, refs)
    status, at = (None, None) if ended is None or ended[1] < newest.time_ns else ended
    return RunInfo(
        name=name,
        commits=database.total(name)[0],
        last=newest,
        best=None if best is None else describe(database, best, refs),
        rule=":".join(rule) if rule else None,
        finished=status,
        finished_ns=at,
    )


def finished(settings: Mapping[str, Any]) -> tuple[str, int] | None:
    """(status, time) of a run that was said to have ended; a later commit makes that void."""
    ended = settings.get("finished")
    found = (ended.get("status"), ended.get("time")) if type(ended) is dict else (None, None)
    return found if [type(part) for part in found] == [str, int] else None  # type: ignore[return-value]


def status(database: Database) -> Status:
    """The store at a glance. Cost: an index scan of runs and packs."""
    found = runs(database)
    packs = list(database.pack_set())
    storage = database.storage
    files = [storage.size(file_name(number)) or 0 for number in database.journal.files()]
    return Status(
        path=str(storage.path or "memory"),
        commits=sum(count for count, _ in database.totals().values()),
        packs=len(packs),
        stored=sum(pack.nbytes for pack in packs) + sum(files),
        logical=sum(nbytes for _, nbytes in database.totals().values()),
        free=None if storage.path is None else _free(storage.path),
        runs=tuple(found),
        tags={name.removeprefix("tags/"): commit.hex() for name, commit in database.refs("tags/").items()},
        journal_seq=database.tail.position.seq,
    )


def _free(path: str) -> int:
    """Bytes an ordinary user can still write on the disk of a folder."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
