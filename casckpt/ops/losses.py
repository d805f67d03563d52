"""What commits lose, as one entry of the journal; and which may not lose anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from casckpt.errors import CommitProtected, IntegrityError
from casckpt.format.canonical import encode
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, ObjectId
from casckpt.format.limits import MAX_FRAME_BYTES
from casckpt.odb.database import Database
from casckpt.ops.load import Loader
from casckpt.ops.lookup import pinned
from casckpt.plan.names import run_of

ENTRY_BYTES = MAX_FRAME_BYTES // 2
"""Encoded drops in one entry: some 200 000 commits. Half a frame, as the entry that takes it back is longer."""


class Loss(NamedTuple):
    """That a commit is to lose its state, or some components of it, and by which rule."""

    commit: CommitId
    parts: tuple[str, ...] | None
    rule: str


class Records(NamedTuple):
    """The drops of one entry, the commits that lose something by it, and how many more would have."""

    drops: tuple[Drop, ...]
    commits: tuple[CommitId, ...]
    left: int


def records_of(database: Database, losses: Iterable[Loss], time_ns: int) -> Records:
    """The records of what commits lose, of as many as one entry takes.

    What is lost already stays out. A record that is replaced is taken back first, so that the inverse puts it there
    again.
    """
    commits: list[CommitId] = []
    drops: list[Drop] = []
    nbytes = left = 0
    for loss in losses:
        own = list(_records(database.drop(loss.commit), loss, time_ns))
        nbytes += sum(len(encode(drop)) for drop in own)
        if own and nbytes > ENTRY_BYTES:
            left += 1
        elif own:
            commits.append(loss.commit)
            drops += own
    return Records(tuple(drops), tuple(commits), left)


def is_lost(before: Drop | None, parts: tuple[str, ...] | None) -> bool:
    """Whether a commit has lost that already."""
    return before is not None and (before.parts is None or (parts is not None and set(parts) <= set(before.parts)))


def _records(before: Drop | None, loss: Loss, time_ns: int) -> Iterator[Drop]:
    if is_lost(before, loss.parts):
        return
    parts = loss.parts
    if before is not None:
        yield before._replace(cancelled=True)
        if parts is not None:
            parts = tuple(sorted({*parts, *(before.parts or ())}))
    yield Drop(loss.commit, parts, loss.rule, time_ns)


def held(database: Database) -> dict[CommitId, tuple[str, ...]]:
    """The commits that may not lose anything, with what holds each in words: heads of runs, tags, pins."""
    found: dict[CommitId, list[str]] = {}
    for name, identity in database.own_refs().items():
        head = run_of(name)
        words = f"tag {name.removeprefix('tags/')}" if head is None else f"{head[1]} of {head[0]}"
        found.setdefault(identity, []).append(words)
    for identity in pinned(database):
        found.setdefault(identity, []).append("pinned")
    return {identity: tuple(words) for identity, words in found.items()}


def refuse_held(database: Database, drops: Sequence[Drop]) -> None:
    """Raise CommitProtected if records would take something from a commit that a name or a pin holds."""
    settled = {drop.commit: drop for drop in drops}.values()
    losing = [
        drop.commit for drop in settled if not (drop.cancelled or is_lost(database.drop(drop.commit), drop.parts))
    ]
    holding = held(database)
    protected = {identity: holding[identity] for identity in losing if identity in holding}
    if protected:
        raise protection(protected)


def protection(
    protected: Mapping[CommitId, Sequence[str]], kind: type[CommitProtected] = CommitProtected
) -> CommitProtected:
    """The error that names commits, and what holds each."""
    listed = ", ".join(f"{identity.hex()[:12]} ({', '.join(why)})" for identity, why in protected.items())
    return kind(count=len(protected), commits=listed)


class Components:
    """The names of the components of commits, without the root; trees that several commits share are read once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[ObjectId, tuple[str, ...]] = {}

    def of(self, identity: CommitId, commit: Commit) -> tuple[str, ...]:
        """Of one commit.

        Raises:
            DamagedLeaf: its tree is lost.
        """
        if commit.tree not in self._known:
            tree = Loader(self._database, identity, commit).tree()
            self._known[commit.tree] = tuple(name for name, _ in tree.parts)
        return self._known[commit.tree]

    def left(self, identity: CommitId, commit: Commit) -> tuple[str, ...]:
        """Those that one commit still has as far as that is known: none where its tree is lost."""
        drop = self._database.drop(identity)
        if drop is not None and drop.parts is None:
            return ()
        gone = () if drop is None else drop.parts or ()
        with suppress(IntegrityError):
            return tuple(name for name in self.of(identity, commit) if name not in gone)
        return ()
