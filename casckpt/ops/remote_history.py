"""What was done to a remote, from the roots it keeps, and which commits lost a ref to another there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casckpt.errors import RolledBack
from casckpt.format.ids import checksum
from casckpt.format.remote import RemoteRoot
from casckpt.odb.database import Database
from casckpt.ops.push_reports import RemoteMove
from casckpt.plan.ref_policy import CONFLICTS
from casckpt.remote.view import RemoteView
from casckpt.units import rfc3339


@dataclass(frozen=True, slots=True)
class RemoteStep:
    """One root of a remote: who made it, when, and what it changed."""

    number: int
    time_ns: int
    """By the clock of the machine that made it."""
    host: str
    user: str
    tool: str
    note: str
    refs: tuple[RemoteMove, ...] | None
    """The refs that moved; None for the oldest root that is kept, as nobody knows what was before."""
    condemned: int
    """Files that may be deleted since."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "time": rfc3339(self.time_ns),
            "host": self.host,
            "user": self.user,
            "tool": self.tool,
            "note": self.note,
            "refs": None if self.refs is None else [move.to_dict() for move in self.refs],
            "condemned": self.condemned,
        }


@dataclass(frozen=True, slots=True)
class Conflict:
    """A commit that lost a ref of a remote to another one; it is kept there under a name of its own."""

    ref: str
    """That name."""
    lost: str
    """The ref that it lost."""
    commit: str
    winner: str | None
    """What the ref names."""
    time_ns: int
    by: str
    is_here: bool
    """Whether this store knows the commit."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "ref": self.ref,
            "lost": self.lost,
            "commit": self.commit,
            "winner": self.winner,
            "time": rfc3339(self.time_ns),
            "by": self.by,
            "is_here": self.is_here,
        }


def remote_log(view: RemoteView, limit: int | None = None) -> Iterator[RemoteStep]:
    """What was done to a remote, newest first, as far back as it keeps roots.

    Raises:
        RolledBack, RemoteUntrusted: its roots are not those that they were, or do not follow each other.

    Cost: one listing, and one request for each root.
    """
    root = view.refresh()
    numbers = {} if root is None else view.numbers(0)
    shown = 0
    while root is not None and (limit is None or shown < limit):
        before = _before(view, root) if root.seq - 1 in numbers else None
        yield _step(root, before)
        shown += 1
        root = before


def _before(view: RemoteView, root: RemoteRoot) -> RemoteRoot | None:
    try:
        found, data = view.read_root(root.seq - 1)
    except FileNotFoundError:  # removed since it was listed
        return None
    if checksum(data) != root.prev:
        problem = f"its root {root.seq} does not follow its root {found.seq}"
        raise RolledBack(remote=view.objects.url, problem=problem)
    return found


def _step(root: RemoteRoot, before: RemoteRoot | None) -> RemoteStep:
    push = root.push
    moves = None
    if before is not None or root.seq == 1:
        moves = _moves({} if before is None else before.refs, root.refs)
    fresh = set(root.condemned) - set(() if before is None else before.condemned)
    return RemoteStep(root.seq, push.time_ns, push.host, push.user, push.tool, push.note, moves, len(fresh))


def _moves(old: Any, new: Any) -> tuple[RemoteMove, ...]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        was, now = (None if name not in refs else refs[name].commit.hex() for refs in (old, new))
        if was != now:
            found.append(RemoteMove(name, was, now))
    return tuple(found)


def remote_conflicts(database: Database, view: RemoteView) -> tuple[Conflict, ...]:
    """The commits that lost a ref of a remote, by the ref they lost, oldest first."""
    root = view.refresh()
    refs = {} if root is None else root.refs
    found = []
    for name, ref in refs.items():
        if name.startswith(CONFLICTS):
            lost = name.removeprefix(CONFLICTS).rpartition("/")[0]
            winner = None if lost not in refs else refs[lost].commit.hex()
            here = database.has_commit(ref.commit)
            found.append(Conflict(name, lost, ref.commit.hex(), winner, ref.time_ns, ref.by, here))
    return tuple(sorted(found, key=lambda one: (one.lost, one.time_ns, one.commit)))
