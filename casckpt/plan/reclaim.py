"""Which packs may go, and what the commits that let go of their state free: sets of ids, millions of them, as columns.

    what commits reach -> for each object the first and last commit that lets go of it -> what must stay
    records of all packs -> packs that hold nothing that must stay, or nothing that another pack does not hold too

Ids are compared by their first 8 bytes here. Two objects that share them make one stay that could go; what is to go
since another pack holds the same must be proven by whole ids before.

After the set algebra of restic and the marks of git's gc; sorting beats hashing for this in numpy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import Columns, Ids, with_bases

STAYS = (1 << 32) - 1
"""Rank of commits that keep their state."""
_Numbers = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_Ranks = npt.NDArray[np.uint32]


class Holder(NamedTuple):
    """Objects that come and go together, such as a component of a state, and who has them.

    `first` and `last` are the least and the greatest rank among the commits that have it. Commits that let go of their
    state have ranks from 0 on, in the order in which they go; all others have STAYS.
    """

    ids: Ids
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Reached:
    """Every object that commits reach, once.

    Attributes:
        ids: ascending, shape (n,).
        first, last: ranks of the first and the last commit to let go of it, shape (n,).
    """

    ids: Ids
    first: _Ranks
    last: _Ranks

    def needed(self, rank: int = STAYS) -> Ids:
        """The ids of what commits of this rank and higher reach, ascending."""
        return self.ids[self.last >= rank]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Reached:
        """Some of the objects."""
        return Reached(self.ids[chosen], self.first[chosen], self.last[chosen])


def reached(holders: Collection[Holder]) -> Reached:
    """Gather what holders have. Cost: O(n log n), about 0.15 s for a million ids."""
    if not holders:
        return Reached(np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint32))
    ids = np.concatenate([holder.ids for holder in holders])
    counts = [len(holder.ids) for holder in holders]
    first = np.repeat(np.array([holder.first for holder in holders], np.uint32), counts)
    last = np.repeat(np.array([holder.last for holder in holders], np.uint32), counts)
    order = np.argsort(ids)
    ids = ids[order]
    starts = _starts(ids)
    if not len(starts):
        return Reached(ids, first, last)
    return Reached(ids[starts], np.minimum.reduceat(first[order], starts), np.maximum.reduceat(last[order], starts))


class PackRecords(NamedTuple):
    """The records of one pack, in file order.

    `columns` is None unless some of them have bases.
    """

    pack: PackRef
    ids: Ids
    stored: npt.NDArray[np.uint32]
    length: npt.NDArray[np.uint32]
    columns: Columns | None

    @classmethod
    def of(cls, pack: PackRef, columns: Columns) -> PackRecords:
        """From its columns; shares nothing with them unless there are bases."""
        has_bases = bool(columns["base_1"].any())
        ids, stored, length = (columns[name].copy() for name in ("id", "stored", "length"))
        return cls(pack, ids, stored, length, columns if has_bases else None)


@dataclass(frozen=True, slots=True)
class PackUse:
    """What of a pack must stay.

    Attributes:
        records: how many it has.
        needed: how many of them something needs.
        stored: stored bytes of these, and of the bases that they are decoded from.
        plain: plain bytes of the needed ones.
        dead: stored bytes of the others.
        goes: `dead` if none is needed, `redundant` if other packs that stay hold all of them too, else empty.
    """

    pack: PackRef
    records: int
    needed: int
    stored: int
    plain: int
    dead: int
    goes: str = ""

    @property
    def price(self) -> float:
        """Bytes of the file for each plain byte that is needed: of several copies the cheapest stays."""
        return self.pack.nbytes / self.plain if self.plain else float("inf")


@dataclass(frozen=True, slots=True)
class Reclaim:
    """What becomes of the packs of a store."""

    uses: tuple[PackUse, ...]
    copies: tuple[PackRef, ...]
    """Packs that stay and hold what redundant ones held."""

    @property
    def going(self) -> tuple[PackUse, ...]:
        """The packs that may go."""
        return tuple(use for use in self.uses if use.goes)


def reclaim(packs: Sequence[PackRecords], needed: Ids) -> Reclaim:
    """Which packs may go.

    Args:
        packs: all packs of the store.
        needed: ids that must stay, ascending.

    Cost: O(n log n) for n records, about 0.3 s for a million.
    """
    owners = _Owners(packs, needed)
    uses = [owners.use(number) for number in range(len(packs))]
    goes = {number: "dead" for number, use in enumerate(uses) if not use.needed}
    goes |= dict.fromkeys(owners.redundant(uses), "redundant")
    keepers = owners.keepers(number for number, why in goes.items() if why == "redundant")
    return Reclaim(
        tuple(replace(use, goes=goes.get(number, "")) for number, use in enumerate(uses)),
        tuple(packs[number].pack for number in sorted(keepers - goes.keys())),
    )


class _Owners:
    """Which packs hold each needed object."""

    def __init__(self, packs: Sequence[PackRecords], needed: Ids) -> None:
        self._packs = packs
        counts = [len(pack.ids) for pack in packs]
        self._ends = np.cumsum([0, *counts])
        ids = np.concatenate([pack.ids for pack in packs]) if packs else np.empty(0, np.uint64)
        order = np.argsort(ids)
        ids = ids[order]
        wanted = _among(ids, needed)
        self._wanted = np.zeros(len(ids), np.bool_)
        """For each record, in the order of packs and files: whether something needs it."""
        self._wanted[order] = wanted
        order, ids = order[wanted], ids[wanted]
        starts = _starts(ids)
        lengths = np.diff(np.append(starts, len(ids)))
        several = np.repeat(lengths > 1, lengths)
        # From here on only what more than one record holds: usually little or nothing.
        owner = np.searchsorted(self._ends, order[several], side="right") - 1
        pairs = np.unique(np.stack((ids[several], owner.astype(np.uint64)), 1), axis=0)
        self._shared, group, copies = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        self._copies: _Numbers = copies
        """How many of the packs that stay hold each shared object."""
        owners = pairs[:, 1].astype(np.int64)
        by_pack = np.argsort(owners, kind="stable")
        self._owners, self._groups = owners[by_pack], group.reshape(-1)[by_pack]

    def _own(self, number: int) -> slice:
        return slice(int(self._ends[number]), int(self._ends[number + 1]))

    def _shared_of(self, number: int) -> _Numbers:
        """Numbers of the shared objects that a pack holds, each once."""
        start, stop = np.searchsorted(self._owners, [number, number + 1])
        return self._groups[start:stop]

    def use(self, number: int) -> PackUse:
        """What of a pack is needed."""
        pack, wanted = self._packs[number], self._wanted[self._own(number)]
        held = wanted if pack.columns is None else with_bases(pack.columns, wanted)
        stored, plain = int(pack.stored[held].sum(dtype=np.int64)), int(pack.length[wanted].sum(dtype=np.int64))
        dead = int(pack.stored.sum(dtype=np.int64)) - stored
        return PackUse(pack.pack, len(wanted), int(wanted.sum()), stored, plain, dead)

    def redundant(self, uses: Sequence[PackUse]) -> Iterator[int]:
        """Packs that may go since all they hold is held by others that stay, the most expensive first."""
        dear = sorted((n for n in set(self._owners.tolist())), key=lambda n: (-uses[n].price, uses[n].pack))
        for number in dear:
            ids = self._packs[number].ids[self._wanted[self._own(number)]]
            shared = self._shared_of(number)
            if len(np.unique(ids)) == len(shared) and bool((self._copies[shared] > 1).all()):
                self._copies[shared] -= 1
                yield number

    def keepers(self, gone: Iterator[int]) -> set[int]:
        """The packs that hold anything which those that go hold too."""
        lost = [self._shared_of(number) for number in gone]
        if not lost:
            return set()
        return set(self._owners[np.isin(self._groups, np.concatenate(lost))].tolist())


def rescued(packs: Mapping[PackId, PackRecords], needed: Ids) -> set[PackId]:
    """Those of the packs that hold any of these ids."""
    return {identity for identity, pack in packs.items() if bool(_among(np.sort(needed), np.sort(pack.ids)).any())}


def stored_bytes(packs: Sequence[PackRecords], ids: Ids) -> _Numbers:
    """Stored bytes of the objects with these ids in packs, 0 where none has it; of several copies the smallest.

    Args:
        ids: ascending, each once.
    """
    found = np.full(len(ids), np.iinfo(np.int64).max)
    for pack in packs:
        at = np.searchsorted(ids, pack.ids)
        at[at == len(ids)] = 0
        hits = np.flatnonzero(ids[at] == pack.ids) if len(ids) else np.empty(0, np.int64)
        np.minimum.at(found, at[hits], pack.stored[hits])
    found[found == np.iinfo(np.int64).max] = 0
    return found


class Freed(NamedTuple):
    """Stored bytes that a commit frees when its state goes: if only it goes, and with those that go before it."""

    alone: int
    together: int


def freed(found: Reached, stored: _Numbers, count: int) -> list[Freed]:
    """What each commit frees.

    Args:
        stored: of every id of `found`.
        count: how many commits go; their ranks are 0 to count - 1. What goes together adds up to all that is freed.
    """
    going = found.last < count
    together = np.bincount(found.last[going], stored[going], count)
    single = going & (found.first == found.last)
    alone = np.bincount(found.last[single], stored[single], count)
    return [Freed(int(one), int(both)) for one, both in zip(alone, together, strict=True)]


def _starts(ascending: Ids) -> _Numbers:
    """Where runs of equal ids begin."""
    if not len(ascending):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1])))


def _among(ids: Ids, ascending: Ids) -> _Flags:
    """For each id whether it is among others."""
    if not len(ascending):
        return np.zeros(len(ids), np.bool_)
    at = np.searchsorted(ascending, ids)
    at[at == len(ascending)] = 0
    found: _Flags = ascending[at] == ids
    return found
