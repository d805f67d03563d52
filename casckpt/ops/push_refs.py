"""Which refs a push is about, and what becomes of those of the remote by a policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from casckpt.errors import LeaseLost, NotFastForward, NotOnRemote, UsageError
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, short_id
from casckpt.format.remote import RemoteRoot
from casckpt.odb.database import Database
from casckpt.ops.resolve import current_run, no_such_ref, not_found, refs_named, resolve
from casckpt.plan import graph
from casckpt.plan.names import HEADS, head_ref, run_of, tracking_ref
from casckpt.plan.ref_policy import CONFLICTS, Refused, fast_forward, joined, with_lease
from casckpt.remote.locks import RemoteLock
from casckpt.remote.reading import RemoteReader
from casckpt.remote.view import RemoteView

Policy = Literal["ff", "lease", "newest"]
Lease = str | Mapping[str, str | None] | None
OWN = ("runs/", "tags/")
"""What the refs begin with that are this store's own."""
KEPT = "kept/"
"""What the refs of a remote begin with that hold what a forgotten commit has cut off."""


def chosen_refs(database: Database, names: Sequence[str], *, everything: bool) -> dict[str, CommitId]:
    """The refs that a push is about.

    Args:
        names: of runs, tags and refs; none for the current run. Of a run all heads go together.
        everything: all runs and tags.

    Raises:
        RevisionNotFound: nothing has that name.
        UsageError: names, and everything.
    """
    if everything:
        if names:
            raise UsageError(problem="a push is of everything, or of what is named")
        return {name: commit for name, commit in database.refs().items() if name.startswith(OWN)}
    if not names:
        run = current_run(database)
        if run is None:
            raise not_found(database, "@", "the store has no commits yet")
        names = (head_ref(run, "last"),)
    found: dict[str, CommitId] = {}
    for text in names:
        ref = refs_named(database, text)[0]
        if database.ref(ref) is None or not ref.startswith(OWN):
            raise no_such_ref(database, text)
        head = run_of(ref)
        refs = [ref] if head is None else [head_ref(head[0], one) for one in HEADS]
        found |= {ref: commit for ref in refs if (commit := database.ref(ref)) is not None}
    return found


def stranded(database: Database, ours: Mapping[str, CommitId]) -> dict[str, CommitId]:
    """Refs for the commits that ours lead to only over forgotten ones.

    A commit names its parents for good, so whoever has not forgotten the same finds no way on where one is missing; a
    collector of the remote would take what is behind it.
    """
    tips = set(ours.values())
    parents = {parent for one in database.forgotten().values() for parent in one.parents if database.has_commit(parent)}
    return {
        f"{KEPT}{parent.hex()[:12]}": parent
        for parent in sorted(parents)
        if any(graph.leads(parent, tip, database.commit) for tip in tips)
    }


@dataclass
class RefPlan:
    """Decides what a root's refs become.

    Args:
        ours: what is pushed.
        expected: with the policy `lease`, where refs of the remote are to be.
        mirror: whether what is not here goes there too.
        lock: that must still be held.
    """

    database: Database
    view: RemoteView
    ours: Mapping[str, CommitId]
    policy: Policy
    expected: Mapping[str, CommitId | None]
    mirror: bool
    lock: RemoteLock | None = None
    _theirs: dict[CommitId, Commit | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = self.view.objects.url
        if self.lock is not None and self.lock.url != url:
            raise UsageError(problem=f"the lock {self.lock.name} is one of {self.lock.url}, not of {url}")

    def refs(self, root: RemoteRoot) -> dict[str, CommitId]:
        """What all refs of the remote name then.

        Raises:
            NotFastForward, LeaseLost: a ref cannot move.
            LockLost: the lock is somebody else's by now.
        """
        if self.lock is not None:
            self.lock.check(root)
        theirs = {name: ref.commit for name, ref in root.refs.items()}
        if self.policy == "newest":
            wanted = self._join(theirs, root)
        else:
            lookup = self.database.commit
            found = (
                with_lease(self.ours, theirs, self.expected)
                if self.policy == "lease"
                else fast_forward(self.ours, theirs, lambda one, other: graph.leads(one, other, lookup))
            )
            if isinstance(found, Refused):
                raise self._refusal(found)
            wanted = {**theirs, **found}
        if self.mirror:
            wanted = {name: commit for name, commit in wanted.items() if name in self.ours or not name.startswith(OWN)}
        return wanted

    def _refusal(self, refused: Refused) -> NotFastForward | LeaseLost:
        theirs = "nothing" if refused.theirs is None else short_id(refused.theirs)
        facts = {"ref": refused.ref, "remote": self.view.objects.url, "theirs": theirs}
        if self.policy == "lease":
            expected = "nothing" if refused.expected is None else short_id(refused.expected)
            return LeaseLost(**facts, expected=expected)
        return NotFastForward(**facts, ours=short_id(refused.ours))

    def _join(self, theirs: Mapping[str, CommitId], root: RemoteRoot) -> dict[str, CommitId]:
        """Both sides as one, by the rule of the newest; what is not here is read from the remote."""
        reader = RemoteReader(self.view)

        def lookup(identity: CommitId) -> Commit | None:
            known = self.database.commit(identity)
            if known is None and identity not in self._theirs:
                self._theirs[identity] = _read_commit(reader, identity)
            return self._theirs[identity] if known is None else known

        about = {name for name in theirs if name in self.ours or _is_about(name, self.ours)}
        mine = {name: commit for name, commit in theirs.items() if name in about}
        found = joined(self.ours, mine, self._order(lookup, root), lambda one, other: graph.leads(one, other, lookup))
        return {**{name: commit for name, commit in theirs.items() if name not in about}, **found}

    def _order(
        self, lookup: Callable[[CommitId], Commit | None], root: RemoteRoot
    ) -> Callable[[str, CommitId], tuple[Any, ...]]:
        def order(name: str, identity: CommitId) -> tuple[Any, ...]:
            commit = lookup(identity)
            time_ns = 0 if commit is None else commit.time_ns
            head = run_of(name)
            if head is not None and head[1] == "best" and commit is not None:
                rule = root.runs.get(head[0], {}).get("best") or self.database.run_settings(head[0]).get("best")
                metric, mode = rule if type(rule) is list and len(rule) == 2 else ("", "")
                value = commit.metrics.get(metric)
                if value is not None and not math.isnan(value):
                    score = value if mode == "max" else -value
                    return 1, score, -time_ns, bytes(255 - byte for byte in identity)
            return 0, 0, time_ns, identity

        return order


def expected_refs(
    database: Database, remote: str, ours: Mapping[str, CommitId], lease: Lease
) -> dict[str, CommitId | None]:
    """Where the refs of a remote are to be for a push with a lease.

    Args:
        lease: None for where they were when the remote was last looked at; a revision for the one run or tag that is
            pushed; or a revision, None for absent, for each ref.
    """
    leading = [name for name in ours if (head := run_of(name)) is None or head[1] == "last"]
    if lease is None:
        return {name: database.ref(tracking_ref(remote, name)) for name in leading}
    if isinstance(lease, str):
        if len(leading) != 1:
            raise UsageError(problem="one expected commit is for one run or tag")
        return {leading[0]: resolve(database, lease)}
    return {name: None if text is None else resolve(database, text) for name, text in lease.items()}


def sent_settings(database: Database, refs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Settings of the runs whose `last` is among some refs, and the former names of these runs."""
    runs = {head[0] for name in refs if (head := run_of(name)) is not None and head[1] == "last"}
    known = dict(database.all_run_settings())
    while former := {
        run
        for run, settings in known.items()
        if run not in runs and any(name in runs for _, name in settings.get("renamed", ()))
    }:
        runs |= former
    return {run: known[run] for run in sorted(runs & known.keys())}


def _is_about(name: str, ours: Mapping[str, CommitId]) -> bool:
    """Whether a ref of a remote keeps what lost one of ours."""
    return name.startswith(CONFLICTS) and name[len(CONFLICTS) :].rpartition("/")[0] in ours


def _read_commit(reader: RemoteReader, identity: CommitId) -> Commit | None:
    try:
        return Commit.decode(reader.plain(identity, Kind.COMMIT))
    except NotOnRemote:
        return None
