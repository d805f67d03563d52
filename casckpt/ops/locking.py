"""Locks of remotes: take one, keep it for later commands of this store, let go of it, take it away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casckpt.errors import LockLost, ReadOnlyStore, UsageError
from casckpt.format.remote import Lock
from casckpt.plan.names import check_name
from casckpt.remote.lock_notes import TTL_MAX_S, LockNotes
from casckpt.remote.lock_watch import LockWatch
from casckpt.remote.locks import RemoteLock, break_lock, held, lock_remote, seconds
from casckpt.remote.view import RemoteView

TTL_S = 600


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock of a remote that somebody holds."""

    name: str
    owner: str
    """User and host of who took or renewed it last."""
    ttl_s: int
    """So many seconds after its last renewal others may take it over."""
    is_kept: bool
    """Whether this store keeps it."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "owner": self.owner, "ttl_s": self.ttl_s, "kept": self.is_kept}


def lock(view: RemoteView, name: str, *, ttl_s: int, wait_s: float, keep: bool, read_only: bool) -> RemoteLock:
    """A lock of a remote: the one that the store keeps, renewed, else a new one.

    Args:
        keep: whether the store keeps it from now on; with this `ttl_s`.
        read_only: whether the store can keep nothing.

    Raises:
        LockHeld: somebody else holds it.
        LockLost: the store kept it, and somebody else took it; not with `keep`, which takes it anew.
    """
    check_name("lock", name)
    if type(ttl_s) is not int or not 0 < ttl_s <= TTL_MAX_S:
        raise UsageError(problem=f"a lock lives 1 s to 30 days without renewal, not {ttl_s!a} s")
    _require_writable(view)
    if keep and read_only:
        raise ReadOnlyStore(path=view.objects.url, problem="a store that can only be read keeps no lock")
    notes = LockNotes(view.folder)
    noted = notes.find(name)
    if noted is not None:
        kept = RemoteLock(view, name, ttl_s if keep else noted.ttl_s, notes, is_kept=True)
        try:
            kept.renew()
            return kept
        except LockLost:
            if not keep:
                raise
    return lock_remote(view, name, ttl_s=ttl_s, wait_s=wait_s, notes=notes if keep else None)


def locks(view: RemoteView) -> tuple[HeldLock, ...]:
    """The locks of a remote, sorted by name."""
    root = view.refresh()
    notes = LockNotes(view.folder)
    return () if root is None else tuple(_held(name, one, notes) for name, one in sorted(root.locks.items()))


def unlock(view: RemoteView, name: str, *, force: bool, dry_run: bool) -> HeldLock | None:
    """Let go of a lock that the store keeps; what it was, None if nobody holds it.

    Args:
        force: also of one that somebody else holds.

    Raises:
        LockHeld: somebody else holds it.
    """
    _require_writable(view)
    notes = LockNotes(view.folder)
    root = view.refresh()
    there = None if root is None else root.locks.get(name)
    found = None if there is None else _held(name, there, notes)
    if there is not None and found is not None and not found.is_kept and not force:
        raise held(view, name, there, LockWatch(view.folder, name, seconds).left_s(root))
    if dry_run:
        return found
    if found is not None and found.is_kept:
        RemoteLock(view, name, found.ttl_s, notes).release()
    elif found is not None:
        break_lock(view, name)
    notes.remove(name)
    return found


def _held(name: str, one: Lock, notes: LockNotes) -> HeldLock:
    noted = notes.find(name)
    return HeldLock(name, one.owner, one.ttl_s, noted is not None and one.token in noted.tokens)


def _require_writable(view: RemoteView) -> None:
    if view.objects.read_only:
        raise ReadOnlyStore(path=view.objects.url, problem="this remote can only be read")
