"""What a repack takes on: windows of neighbouring commits of a run, and the packs that each of them replaces.

    commits of a run -> those that no delta pack holds yet -> windows -> objects of a window -> packs that are mostly
    the window's -> chunks in those packs, which become deltas

A pack can only go as a whole, so a window takes packs: those most of whose needed bytes its commits need. What else is
needed in them is copied along, and so is what must stay plain, since the newest commit has it too: as planes, where it
lies raw. Chunks in other packs stay where they are, since a second copy would free nothing.

Ids are compared by their first 8 bytes. Of two that share them one stays plain or its pack stays; nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from casckpt.format.commit import Commit
from casckpt.format.entry import PackRef
from casckpt.format.ids import CommitId, Kind, PackId
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.odb.database import Database
from casckpt.ops.losses import held
from casckpt.ops.reach import Reach
from casckpt.plan.id_sets import among
from casckpt.plan.reclaim import MOST, PackRecords

PACKED, THOROUGH = 1, 2
"""How well a pack was repacked: as is usual, or for archives."""
FEWEST = 2
"""Commits that have anything to gain from each other."""
WINDOW_COMMITS = 33
THOROUGH_COMMITS = 65
WINDOW_BYTES = 256 << 20
"""Windows of small commits are longer: packs of sealed journal files hold many of them."""
WINDOW_OBJECTS = 1 << 18
"""Ids that a window may have, each commit's counted anew: their columns are in memory, 8 MiB."""


class Candidate(NamedTuple):
    """A commit with objects that no delta pack holds."""

    id: CommitId
    commit: Commit
    nbytes: int
    """Plain bytes of those that the candidate before does not have."""
    objects: int
    """How many objects it has."""


@dataclass(frozen=True, slots=True)
class Window:
    """Commits of a run that are packed together.

    Attributes:
        packs: those that are redundant afterwards.
        stored: stored bytes that are needed in them.
        nbytes: plain bytes of the chunks to be packed in groups, and of what is copied along.
        own: what these commits need of these packs, but for what must stay plain.
        needed: all that is needed of these packs.
        done: what of that is in new packs already, of a repack that was broken off.
        generation: of the packs that replace them.
    """

    run: str
    commits: tuple[Candidate, ...]
    packs: tuple[PackRef, ...]
    stored: int
    nbytes: int
    own: Ids
    needed: Ids
    done: Ids
    generation: int


class Stock:
    """What a store holds for a repack to work on, as one survey of it says. One thread.

    Args:
        records: of all packs.
        needed: ids of what must stay, ascending.
        thorough: for archives: no commit stays out, and what was packed before is packed again.
    """

    def __init__(
        self,
        database: Database,
        reach: Reach,
        records: Mapping[PackId, PackRecords],
        needed: Ids,
        *,
        thorough: bool,
    ) -> None:
        self._database = database
        self._reach = reach
        self._needed = needed
        self.thorough = thorough
        least = THOROUGH if thorough else PACKED
        self._records = list(records.values())
        self._packs = [pack for pack in self._records if pack.repacked < least]
        self.packed = joined(pack.ids for pack in self._records if pack.repacked >= least)
        """What is packed as well as it will be, ascending."""
        ids = [pack.ids for pack in self._packs]
        self._ids: Ids = np.concatenate(ids) if ids else np.empty(0, np.uint64)
        order = np.argsort(self._ids)
        self._ids = self._ids[order]
        self._owner = np.repeat(np.arange(len(ids)), [len(one) for one in ids])[order]
        self._length = np.concatenate([pack.length for pack in self._packs])[order] if ids else np.empty(0, np.uint32)
        self.held = _held(database)
        self.plain = joined(
            self._objects(identity, commit)
            for identity in self.held
            if (commit := database.commit(identity)) is not None
        )
        """Objects of commits that must not depend on others, ascending."""

    def candidates(self, run: str | None = None) -> dict[str, list[Candidate]]:
        """The commits of every run, or of one, that have something to pack, oldest first.

        Raises:
            UnreadableCommit: the tree or a component of one is damaged.
        """
        line: dict[str, list[tuple[CommitId, Commit]]] = {}
        for identity, commit in self._database.commits():
            if run is None or commit.run == run:
                line.setdefault(commit.run, []).append((identity, commit))
        return {
            name: list(self._undone(sorted(line[name], key=lambda one: (one[1].time_ns, one[0]))))
            for name in sorted(line)
        }

    def _undone(self, commits: Iterable[tuple[CommitId, Commit]]) -> Iterator[Candidate]:
        before = prefixes(b"")
        for identity, commit in commits:
            if identity in self.held and not self.thorough:
                continue
            if among(prefixes(commit.tree), self.packed).any():
                continue
            now = self._objects(identity, commit)
            if not len(now):
                continue
            fresh = now[~(among(now, before) | among(now, self.packed))]
            if not self.thorough:
                fresh = fresh[~among(fresh, self.plain)]
            places = np.searchsorted(self._ids, fresh)
            places = places[places < len(self._ids)]
            nbytes = int(self._length[places][self._ids[places] == fresh[: len(places)]].sum(dtype=np.int64))
            before = now
            if nbytes:
                yield Candidate(identity, commit, nbytes, len(now))

    def _objects(self, identity: CommitId, commit: Commit) -> Ids:
        """The ids of all objects of a commit's components, ascending; none if it is dropped."""
        drop = self._database.drop(identity)
        if drop is not None and drop.parts is None:
            return prefixes(b"")
        lost = () if drop is None or drop.parts is None else drop.parts
        tree = self._reach.tree(identity, commit)
        return joined(self._reach.component(identity, part) for name, part in tree.components if name not in lost)

    def window(self, run: str, commits: Sequence[Candidate]) -> Window | None:
        """The packs that commits of a run replace, and what of them is packed; None if that is nothing."""
        own = joined([self._objects(one.id, one.commit) for one in commits] + [_metadata(one) for one in commits])
        claimed = own
        if not self.thorough:
            own = own[~among(own, self.plain)]
        taken: list[PackRecords] = []
        needed: list[Ids] = []
        stored = nbytes = 0
        has_chunks = False
        for number in self._touched(claimed):
            pack = self._packs[number]
            is_needed = among(pack.ids, self._needed)
            is_own = is_needed & among(pack.ids, own)
            # What lies as a commit wrote it is taken too for what must stay plain: it may lie raw.
            is_claimed = is_own if pack.generation else is_needed & among(pack.ids, claimed)
            total = int(pack.stored[is_needed].sum(dtype=np.int64))
            if 2 * int(pack.stored[is_claimed].sum(dtype=np.int64)) <= total:
                continue
            taken.append(pack)
            needed.append(pack.ids[is_needed])
            stored += total
            nbytes += int(pack.length[is_needed].sum(dtype=np.int64))
            has_chunks = has_chunks or self._holds_chunks(pack, np.unique(pack.ids[is_own]))
        if not has_chunks:
            return None
        generation = min(1 + max(pack.generation for pack in taken), MOST)
        everything = joined(needed)
        done = joined(pack.ids for pack in self._records if pack.generation >= generation)
        return Window(
            run,
            tuple(commits),
            tuple(pack.pack for pack in taken),
            stored,
            nbytes,
            everything[among(everything, own)],
            everything,
            everything[among(everything, done)],
            generation,
        )

    def _touched(self, own: Ids) -> list[int]:
        """Numbers of the packs that hold any of these objects."""
        first, last = (np.searchsorted(self._ids, own, side) for side in ("left", "right"))
        counts = last - first
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        return [int(number) for number in np.unique(self._owner[places])]

    def _holds_chunks(self, pack: PackRecords, ids: Ids) -> bool:
        try:
            columns, _ = self._database.packs.columns(pack.pack)
        except FileNotFoundError:  # a collection came first; whoever writes the window finds that out
            return False
        return bool(among(columns["id"][columns["kind"] == Kind.CHUNK], ids).any())


def cut(candidates: Sequence[Candidate], most: int) -> Iterator[Sequence[Candidate]]:
    """Windows of neighbouring commits; a short rest goes with the window before, since it would cost keyframes.

    Args:
        most: commits of a window; of small commits as many as make up a pack that is worth it.
    """
    cuts, count, nbytes, objects = [0], 0, 0, 0
    for number, one in enumerate(candidates, 1):
        count, nbytes, objects = count + 1, nbytes + one.nbytes, objects + one.objects
        if (count >= most and nbytes >= WINDOW_BYTES) or (count >= FEWEST and objects >= WINDOW_OBJECTS):
            cuts.append(number)
            count, nbytes, objects = 0, 0, 0
    if 0 < count <= most // 2 and len(cuts) > 1:
        cuts.pop()
    if cuts[-1] < len(candidates):
        cuts.append(len(candidates))
    for start, end in pairwise(cuts):
        yield candidates[start:end]


def joined(arrays: Iterable[Ids]) -> Ids:
    """All ids of these, ascending, each once."""
    found = list(arrays)
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def _held(database: Database) -> set[CommitId]:
    """The commits that must not depend on others: the newest, heads of runs, what is tagged or pinned."""
    newest = max(((commit.time_ns, identity) for identity, commit in database.commits()), default=None)
    return set(held(database)) | ({newest[1]} if newest else set())


def _metadata(one: Candidate) -> Ids:
    """The tree of a commit, the commit itself, and what it shares with others of its run."""
    commit = one.commit
    others = (commit.config, commit.environment, commit.code, commit.data)
    return prefixes(b"".join((one.id, commit.tree, *(identity for identity in others if identity is not None))))
