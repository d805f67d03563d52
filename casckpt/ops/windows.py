"""What a repack takes on: windows of neighbouring commits of a run, and the packs that each of them replaces.

    commits of a run -> those that no delta pack holds yet -> windows -> objects of a window -> packs that are mostly
    the window's -> chunks in those packs, which become deltas

A pack can only go as a whole, so a window takes packs: those most of whose needed bytes are its own. What else is
needed in them is copied along. Chunks in other packs stay where they are, since a second copy would free nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from casckpt.errors import FormatError, IntegrityError
from casckpt.format.commit import Commit
from casckpt.format.entry import PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.pack import Record
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.ops.losses import held
from casckpt.ops.positions import Column, Columns

HINT = "repack"
"""Field of the hints of delta packs: PACKED, or THOROUGH if it is for archives."""
PACKED, THOROUGH = 1, 2
FEWEST = 2
"""Commits that have anything to gain from each other."""
WINDOW_COMMITS = 33
THOROUGH_COMMITS = 65
WINDOW_BYTES = 256 << 20
"""Windows of small commits are longer: packs of sealed journal files hold many of them."""
WINDOW_COLUMN_BYTES = 16 << 20
"""What the columns of a window may take in memory."""

Prefixes = np.ndarray[Any, np.dtype[np.uint64]]
"""The first 8 bytes of ids, ascending, each once. Ids that begin alike are taken for one: then a chunk stays plain or
a pack stays, and nothing is lost."""
Needed = Callable[[PackRef, Sequence[Record]], Sequence[bool]]
"""Which records of a pack somebody needs."""


class Candidate(NamedTuple):
    """A commit with chunks that no delta pack holds."""

    id: CommitId
    commit: Commit
    nbytes: int
    """Plain bytes of those that the candidate before does not have."""
    column_bytes: int


@dataclass(frozen=True, slots=True)
class Window:
    """Commits of a run that are packed together."""

    run: str
    commits: tuple[Candidate, ...]
    packs: tuple[PackRef, ...]
    """Those that are redundant afterwards."""
    stored: int
    """Stored bytes that are needed in them."""
    objects: Prefixes
    """What is the window's own but for its chunks, in these packs."""
    chunks: Prefixes
    """Those to be packed in groups."""

    @property
    def nbytes(self) -> int:
        """Plain bytes of the chunks, near enough."""
        return sum(candidate.nbytes for candidate in self.commits)


@dataclass
class Survey:
    """What a store holds for a repack to work on.

    Args:
        thorough: for archives: nothing has to stay out, and what was packed before is packed again.
    """

    database: Database
    needed: Needed
    thorough: bool
    columns: Columns = field(init=False)
    packed: Prefixes = field(init=False)
    """What delta packs hold that are as good as they will be."""
    held: dict[CommitId, tuple[str, ...]] = field(init=False)
    plain: Prefixes = field(init=False)
    """Chunks that must not depend on others."""
    damaged: int = 0
    """Commits that cannot be read."""
    commits: int = 0

    def __post_init__(self) -> None:
        self.columns = Columns(self.database)
        self.packed = _joined(self._packed())
        self.held = held(self.database)
        newest = max(self.database.commits(), key=lambda one: (one[1].time_ns, one[0]), default=None)
        if newest is not None:
            self.held.setdefault(newest[0], ("the newest",))
        self.plain = _joined(self._held_chunks())

    def _packed(self) -> Iterator[Prefixes]:
        least = THOROUGH if self.thorough else PACKED
        for pack in self.database.pack_set():
            level = self.database.hints(pack).get(HINT)
            if type(level) is int and level >= least:
                yield prefixes(b"".join(record.id for record in self.database.records(pack)))

    def _held_chunks(self) -> Iterator[Prefixes]:
        for identity in self.held:
            commit = self.database.commit(identity)
            if commit is not None:
                yield from (self._chunks(column) for column in self._columns(identity, commit) or ())

    def _columns(self, identity: CommitId, commit: Commit) -> list[Column] | None:
        """The columns of a commit; None if it is dropped, or damaged, which fsck tells."""
        drop = self.database.drop(identity)
        if drop is not None and drop.parts is None:
            return None
        try:
            return self.columns.of(identity, commit)
        except (IntegrityError, FormatError):
            self.damaged += 1
            return None

    def _chunks(self, column: Column) -> Prefixes:
        """Prefixes of the chunks of a column, those of pages that cannot be read left out."""
        if not any(entry.paged for entry in column.entries):
            return prefixes(column.ids)
        found = []
        for number in range(len(column.entries)):
            try:
                found += [chunk.id for chunk in self.columns.chunks(column, number)]
            except IntegrityError:
                continue
        return prefixes(b"".join(found))

    def candidates(self, run: str | None = None) -> dict[str, list[Candidate]]:
        """The commits of every run, or of one, that have something to pack, oldest first."""
        line: dict[str, list[tuple[CommitId, Commit]]] = {}
        for identity, commit in self.database.commits():
            if run is None or commit.run == run:
                line.setdefault(commit.run, []).append((identity, commit))
        found = {}
        for name, commits in sorted(line.items()):
            commits.sort(key=lambda one: (one[1].time_ns, one[0]))
            found[name] = list(self._undone(commits))
        return found

    def _undone(self, commits: Iterable[tuple[CommitId, Commit]]) -> Iterator[Candidate]:
        before = prefixes(b"")
        for identity, commit in commits:
            self.commits += 1
            if identity in self.held and not self.thorough:
                continue
            if _has(self.packed, prefixes(commit.tree)).any():
                continue
            columns = self._columns(identity, commit) or []
            now, nbytes = [], 0
            for column in columns:
                chunks = self._chunks(column)
                fresh = chunks[~(_has(before, chunks) | _has(self.packed, chunks))]
                if not self.thorough:
                    fresh = fresh[~_has(self.plain, fresh)]
                now.append(chunks)
                nbytes += self._plain_bytes(column, fresh) if len(fresh) else 0
            before = _joined(now)
            if nbytes:
                yield Candidate(identity, commit, nbytes, sum(len(column.ids) for column in columns))

    def _plain_bytes(self, column: Column, wanted: Prefixes) -> int:
        """Plain bytes of the chunks of a column that are wanted and that packs hold."""
        total, tables = 0, self.database
        for number, entry in enumerate(column.entries):
            try:
                chunks = self.columns.chunks(column, number) if entry.paged else ()
            except IntegrityError:
                continue
            listed = [(chunk.id, chunk.length) for chunk in chunks] or [(column.id(number), entry.length)]
            mask = _has(wanted, _unsorted(b"".join(identity for identity, _ in listed)))
            for (identity, length), is_wanted in zip(listed, mask, strict=True):
                row = tables.row(identity) if is_wanted else None
                if row is not None and not row.pack & t.IN_JOURNAL:
                    total += length
        return total

    def window(self, run: str, commits: Sequence[Candidate]) -> Window | None:
        """The packs that a window of commits replaces, and what of them is packed how; None if there is nothing."""
        own = _joined([prefixes(b"".join(self._objects(one))) for one in commits])
        chunk_ids = _joined([self._chunks(column) for one in commits for column in self._columns(*one[:2]) or ()])
        packs: list[PackRef] = []
        stored, objects, chunks = 0, [], []
        for pack in sorted(self._touched(commits)):
            records = self.database.records(pack)
            mask = np.array(self.needed(pack, records), bool)
            wanted = [record for record, is_needed in zip(records, mask, strict=True) if is_needed]
            ids = _unsorted(b"".join(record.id for record in wanted))
            sizes = np.array([record.stored for record in wanted], np.uint64)
            is_chunk = np.array([record.kind == Kind.CHUNK for record in wanted], bool)
            is_own = _has(chunk_ids, ids) & is_chunk | _has(own, ids) & ~is_chunk
            total = int(sizes.sum())
            if 2 * int(sizes[is_own].sum()) <= total:
                continue
            packs.append(pack)
            stored += total
            objects.append(ids[is_own & ~is_chunk])
            chunks.append(ids[is_own & is_chunk])
        found = _joined(chunks)
        found = found[~_has(self.packed, found)]
        if not self.thorough:
            found = found[~_has(self.plain, found)]
        if not len(found):
            return None
        return Window(run, tuple(commits), tuple(packs), stored, _joined(objects), found)

    def _objects(self, one: Candidate) -> Iterator[ObjectId]:
        """What a commit needs besides its chunks."""
        yield from (one.id, one.commit.tree)
        for meta in (one.commit.config, one.commit.environment, one.commit.code, one.commit.data):
            if meta is not None:
                yield meta
        for column in self._columns(one.id, one.commit) or ():
            yield from self.columns.objects(column)

    def _touched(self, commits: Sequence[Candidate]) -> set[PackRef]:
        """The packs that hold objects of these commits, but for delta packs that are as good as they will be."""
        found: set[PackRef] = set()
        before: set[ObjectId] = set()
        for one in commits:
            now = set(self._objects(one))
            for column in self._columns(one.id, one.commit) or ():
                for number in range(len(column.entries)):
                    try:
                        now.update(chunk.id for chunk in self.columns.chunks(column, number))
                    except IntegrityError:
                        continue
            for identity in now - before:
                row = self.database.row(identity)
                pack = None if row is None else self.database.pack_of(row)
                if pack is not None:
                    found.add(pack)
            before = now
        least = THOROUGH if self.thorough else PACKED
        return {pack for pack in found if not (self.database.hints(pack).get(HINT) or 0) >= least}


def cut(candidates: Sequence[Candidate], most: int) -> Iterator[Sequence[Candidate]]:
    """Windows of neighbouring commits; a short rest goes with the last full one, since it would cost keyframes.

    Args:
        most: commits of a window; of small commits as many as make up a pack that is worth it.
    """
    cuts, count, nbytes, column_bytes = [0], 0, 0, 0
    for number, one in enumerate(candidates, 1):
        count, nbytes, column_bytes = count + 1, nbytes + one.nbytes, column_bytes + one.column_bytes
        if (count >= most and nbytes >= WINDOW_BYTES) or (count >= FEWEST and column_bytes >= WINDOW_COLUMN_BYTES):
            cuts.append(number)
            count, nbytes, column_bytes = 0, 0, 0
    if 0 < count < (most + 1) // 2 and len(cuts) > 1:
        cuts.pop()
    if count:
        cuts.append(len(candidates))
    for start, end in zip(cuts, cuts[1:], strict=False):
        yield candidates[start:end]


def prefixes(ids: bytes) -> Prefixes:
    """Of ids one after another."""
    return np.unique(_unsorted(ids))


def _unsorted(ids: bytes) -> Prefixes:
    return np.frombuffer(ids, "<u8")[::4]


def _joined(arrays: Iterable[Prefixes]) -> Prefixes:
    found = list(arrays)
    return np.unique(np.concatenate(found)) if found else prefixes(b"")


def _has(known: Prefixes, asked: Prefixes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of these are known."""
    places = np.searchsorted(known, asked)
    found: np.ndarray[Any, np.dtype[np.bool_]] = np.zeros(len(asked), bool)
    inside = places < len(known)
    found[inside] = known[places[inside]] == asked[inside]
    return found
