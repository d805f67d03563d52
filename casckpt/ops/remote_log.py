"""What was done to a remote, root by root: who moved which ref when, and what collections dropped and removed.

newest root -> the root that it names by hash -> ... until one was removed as old
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casckpt.errors import RemoteUntrusted
from casckpt.format.entry import Drop
from casckpt.format.ids import checksum
from casckpt.format.remote import RemoteRoot, root_key
from casckpt.ops.push_reports import RemoteMove
from casckpt.plan.ref_policy import CONFLICTS
from casckpt.remote.view import RemoteView
from casckpt.units import rfc3339


@dataclass(frozen=True, slots=True)
class RemoteChange:
    """One root of a remote, as what it changed."""

    root: int
    """Its number."""
    id: str
    """Of the push or collection that made it, 32 hex digits."""
    time_ns: int
    """By the clock of who made it."""
    host: str
    user: str
    tool: str
    note: str
    moves: tuple[RemoteMove, ...]
    """The refs that moved, by name."""
    dropped: tuple[Drop, ...]
    """Records of commits that lost something, new with this root."""
    condemned: int
    """Files that may be removed since this root."""
    removed: int
    """Files that were removed before this root."""
    is_oldest: bool
    """Whether the root before it is gone, so that what it changed is not known."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "id": self.id,
            "time": rfc3339(self.time_ns),
            "host": self.host,
            "user": self.user,
            "tool": self.tool,
            "note": self.note,
            "moves": [move.to_dict() for move in self.moves],
            "dropped": [
                {
                    "commit": drop.commit.hex(),
                    "parts": None if drop.parts is None else list(drop.parts),
                    "rule": drop.rule,
                }
                for drop in self.dropped
            ],
            "condemned": self.condemned,
            "removed": self.removed,
            "oldest": self.is_oldest,
        }


@dataclass(frozen=True, slots=True)
class RemoteConflict:
    """A commit that was pushed to a ref and lost it to a newer one: it kept a name of its own."""

    ref: str
    """That name."""
    of: str
    """The ref that it lost."""
    commit: str
    time_ns: int
    by: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "ref": self.ref,
            "of": self.of,
            "commit": self.commit,
            "time": rfc3339(self.time_ns),
            "by": self.by,
        }


def remote_log(view: RemoteView) -> Iterator[RemoteChange]:
    """What the roots of a remote changed, the newest first.

    Args:
        view: refreshed.

    Raises:
        RemoteUntrusted: a root is not the one that the next names.

    Cost: one request for each root, made when it is asked for.
    """
    root = view.root
    while root is not None:
        before = _before(view, root)
        yield _change(before, root)
        root = before


def conflicts(root: RemoteRoot | None) -> tuple[RemoteConflict, ...]:
    """The commits of a remote that lost a ref to a newer one, by the names they have."""
    refs = {} if root is None else root.refs
    return tuple(
        RemoteConflict(name, name.removeprefix(CONFLICTS).rpartition("/")[0], ref.commit.hex(), ref.time_ns, ref.by)
        for name, ref in sorted(refs.items())
        if name.startswith(CONFLICTS)
    )


def _before(view: RemoteView, root: RemoteRoot) -> RemoteRoot | None:
    """The root that a root follows, None if there is none any more."""
    if root.prev is None:
        return None
    try:
        before, data = view.read_root(root.seq - 1)
    except FileNotFoundError:
        return None
    if checksum(data) != root.prev:
        problem = f"{root_key(root.seq)} does not follow {root_key(root.seq - 1)}"
        raise RemoteUntrusted(remote=view.objects.url, problem=problem)
    return before


def _change(before: RemoteRoot | None, root: RemoteRoot) -> RemoteChange:
    is_oldest = before is None and root.prev is not None
    known = root if is_oldest else before
    old = {} if known is None else {name: ref.commit.hex() for name, ref in known.refs.items()}
    new = {name: ref.commit.hex() for name, ref in root.refs.items()}
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    condemned = set(() if known is None else known.condemned)
    dropped = set(() if known is None else known.drops)
    return RemoteChange(
        root=root.seq,
        id=root.push.id.hex(),
        time_ns=root.push.time_ns,
        host=root.push.host,
        user=root.push.user,
        tool=root.push.tool,
        note=root.push.note,
        moves=tuple(RemoteMove(name, old.get(name), new.get(name)) for name in names),
        dropped=tuple(drop for drop in root.drops if drop not in dropped),
        condemned=len(set(root.condemned) - condemned),
        removed=len(condemned - set(root.condemned)),
        is_oldest=is_oldest,
    )
