"""Which packs may go, and what the commits that let go of their state free: sets of ids, millions of them, as columns.

    what commits reach -> for each object the first and last commit that lets go of it -> what must stay
    records of all packs -> packs that hold nothing that must stay, or nothing that another pack does not hold too

Ids are compared by their first 8 bytes here. Two objects that share them make one stay that could go; what is to go
since another pack holds the same must be proven by whole ids before.

After the set algebra of restic and the marks of git's gc.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import Columns, Ids, with_bases
from casckpt.plan.id_sets import Flags, Numbers, Places, among, batches, blocks, union

STAYS = (1 << 32) - 1
"""Rank of commits that keep their state."""
GENERATION, REPACKED = "generation", "repack"
"""Fields of the hints of packs."""
MOST = (1 << 32) - 1
"""The highest generation; a higher number counts as none."""
_UNKNOWN = (1 << 32) - 1
"""Stored bytes of what no pack has; no record is as long."""
Bytes = npt.NDArray[np.uint32]
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
        first, last: ranks of the first and the last commit to let go of it, shape (n,). Of what stays both are STAYS,
            whoever else lets go of it.
    """

    ids: Ids
    first: _Ranks
    last: _Ranks

    def stay(self, rank: int = STAYS) -> Flags:
        """Which objects commits of this rank and higher reach."""
        return self.last >= rank

    def needed(self, rank: int = STAYS) -> Ids:
        """The ids of what commits of this rank and higher reach, ascending."""
        stay = self.stay(rank)
        return self.ids if stay.all() else self.ids[stay]

    def of(self, chosen: Flags) -> Reached:
        """Some of the objects."""
        return Reached(self.ids[chosen], self.first[chosen], self.last[chosen])


def reached(holders: Collection[Holder]) -> Reached:
    """Gather what holders have. Cost: O(n log n), about 0.1 s for a million ids; a third if all of them stay."""
    stay = union([holder.ids for holder in holders if holder.last == STAYS])
    leaving = [holder for holder in holders if holder.last != STAYS]
    if not leaving:
        all_stay = np.broadcast_to(np.uint32(STAYS), len(stay))  # which takes no memory
        return Reached(stay, all_stay, all_stay)
    # Ranks matter only of what no commit keeps.
    own = union([holder.ids for holder in leaving])
    own = own[~among(own, stay)]
    at = np.searchsorted(stay, own) + np.arange(len(own))
    ids = np.empty(len(stay) + len(own), np.uint64)
    first, last = (np.full(len(ids), STAYS, np.uint32) for _ in range(2))
    first[at], last[at] = _ranks(leaving, own)
    ids[at] = own
    ids[last == STAYS] = stay
    return Reached(ids, first, last)


def _ranks(holders: Sequence[Holder], ids: Ids) -> tuple[_Ranks, _Ranks]:
    """The least and the greatest rank at which holders let go of each id; these ascend."""
    first, last = np.full(len(ids), STAYS, np.uint32), np.zeros(len(ids), np.uint32)
    places = Places(ids)
    for start, end in batches(len(holder.ids) for holder in holders):
        part = holders[start:end]
        counts = [len(holder.ids) for holder in part]
        at = places.find(np.concatenate([holder.ids for holder in part]))
        here = at < len(ids)
        at = at[here]
        np.minimum.at(first, at, np.repeat(np.array([holder.first for holder in part], np.uint32), counts)[here])
        np.maximum.at(last, at, np.repeat(np.array([holder.last for holder in part], np.uint32), counts)[here])
    return first, last


class PackRecords(NamedTuple):
    """The records of one pack, in file order.

    `columns` is None unless some of them have bases. `generation` is that of what was written anew: higher than of the
    packs it replaces, 0 for what commits wrote. `repacked` says how well it was packed as deltas, 0 for not at all.
    """

    pack: PackRef
    ids: Ids
    stored: npt.NDArray[np.uint32]
    length: npt.NDArray[np.uint32]
    columns: Columns | None
    generation: int = 0
    repacked: int = 0

    @classmethod
    def of(cls, pack: PackRef, columns: Columns, hints: Mapping[str, Any]) -> PackRecords:
        """From its columns and hints; shares nothing with them unless there are bases."""
        has_bases = bool(columns["base_1"].any())
        ids, stored, length = (columns[name].copy() for name in ("id", "stored", "length"))
        generation, repacked = (count_of(hints.get(name)) for name in (GENERATION, REPACKED))
        return cls(pack, ids, stored, length, columns if has_bases else None, generation, repacked)


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


class Located:
    """Where the objects of all records of packs are in a column of ids: looked up once for all that is asked then.

    Memory: 4 bytes for each record, and 4 for each id.
    """

    def __init__(self, packs: Sequence[PackRecords], ids: Ids) -> None:
        """Look up the records of all packs of a store.

        Args:
            ids: ascending, each once.

        Cost: about 0.1 s for a million records.
        """
        self.packs = packs
        counts = [len(pack.ids) for pack in packs]
        self.ends = np.cumsum([0, *counts])
        """Where the records of each pack start, and the last ones end, in the order of packs and files."""
        self.at = np.empty(self.ends[-1], np.uint32)
        """For each record the place of its id; of what is not there, the one behind the last."""
        self.count = len(ids)
        places = Places(ids)
        for first, end in batches(counts):
            at = places.find(np.concatenate([pack.ids for pack in packs[first:end]]))
            self.at[self.ends[first] : self.ends[end]] = at

    def stored_bytes(self) -> Bytes:
        """Stored bytes of the object with each id, 0 where no pack has it; of several copies the smallest."""
        found = np.full(self.count + 1, _UNKNOWN, np.uint32)
        for first, end in batches(len(pack.ids) for pack in self.packs):
            at = self.at[self.ends[first] : self.ends[end]]
            np.minimum.at(found, at, np.concatenate([pack.stored for pack in self.packs[first:end]]))
        found[found == _UNKNOWN] = 0
        return found[:-1]


def reclaim(located: Located, stay: Flags) -> Reclaim:
    """Which packs may go.

    Args:
        located: the records of all packs of the store.
        stay: for each id that these were looked up among, whether its object must stay.

    Cost: about 0.03 s for a million records.
    """
    packs, owners = located.packs, _Owners(located, stay)
    uses = [owners.use(number) for number in range(len(packs))]
    goes = {number: "dead" for number, use in enumerate(uses) if not use.needed}
    goes |= dict.fromkeys(owners.redundant(uses), "redundant")
    keepers = owners.keepers(number for number, why in goes.items() if why == "redundant")
    return Reclaim(
        tuple(replace(use, goes=goes[number]) if number in goes else use for number, use in enumerate(uses)),
        tuple(packs[number].pack for number in sorted(keepers - goes.keys())),
    )


class _Owners:
    """Which packs hold each needed object."""

    def __init__(self, located: Located, stay: Flags) -> None:
        self._packs, self._ends, at = located.packs, located.ends, located.at
        stay = np.append(stay, False)  # what nobody looked for
        self._wanted = np.empty(len(at), np.bool_)
        """For each record, in the order of packs and files: whether something needs it."""
        for block in blocks(len(at)):
            self._wanted[block] = stay[at[block]]
        # From here on only what more than one record holds: usually little or nothing.
        several = self._several(at, located.count)
        owner = np.searchsorted(self._ends, several, side="right") - 1
        pairs = np.unique(np.stack((at[several], owner), 1), axis=0)
        self._shared, group, copies = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        self._copies: Numbers = copies
        """How many of the packs that stay hold each shared object."""
        owners = pairs[:, 1]
        by_pack = np.argsort(owners, kind="stable")
        self._owners, self._groups = owners[by_pack], group.reshape(-1)[by_pack]

    def _several(self, at: npt.NDArray[np.uint32], count: int) -> Numbers:
        """Numbers of the records of which there are more with the same place, ascending."""
        taken = np.zeros(count, np.bool_)
        for block in blocks(len(at)):
            taken[at[block][self._wanted[block]]] = True
        if np.count_nonzero(taken) == np.count_nonzero(self._wanted):  # usually
            return np.empty(0, np.int64)
        parts = [np.flatnonzero(self._wanted[block]) + block.start for block in blocks(len(at))]
        # Each record signs its place, and all but the last that share it find another's name there.
        signed, crowded = np.empty(count, np.uint32), np.zeros(count, np.bool_)
        for part in parts:
            signed[at[part]] = part
        for part in parts:
            crowded[at[part[signed[at[part]] != part]]] = True
        return np.concatenate([part[crowded[at[part]]] for part in parts])

    def _own(self, number: int) -> slice:
        return slice(int(self._ends[number]), int(self._ends[number + 1]))

    def _shared_of(self, number: int) -> Numbers:
        """Numbers of the shared objects that a pack holds, each once."""
        start, stop = np.searchsorted(self._owners, [number, number + 1])
        return self._groups[start:stop]

    def use(self, number: int) -> PackUse:
        """What of a pack is needed."""
        pack, wanted = self._packs[number], self._wanted[self._own(number)]
        needed, stored = int(np.count_nonzero(wanted)), _sum(pack.stored)
        if needed == len(wanted):  # of most packs all is needed, or nothing
            return PackUse(pack.pack, needed, needed, stored, _sum(pack.length), 0)
        if not needed:
            return PackUse(pack.pack, len(wanted), 0, 0, 0, stored)
        held = wanted if pack.columns is None else with_bases(pack.columns, wanted)
        own = _sum(pack.stored[held])
        return PackUse(pack.pack, len(wanted), needed, own, _sum(pack.length[wanted]), stored - own)

    def redundant(self, uses: Sequence[PackUse]) -> Iterator[int]:
        """Packs that may go since all they hold is held by others that stay, the most expensive first.

        What was written anew replaces what is older, never the other way round: else a window of a repack that is half
        done would be undone, and of packs that replace others together those with the dear half would go first.
        """
        owners = sorted(set(self._owners.tolist()), key=lambda n: (-uses[n].price, uses[n].pack))
        by_generation = sorted(owners, key=lambda n: self._packs[n].generation)
        for _, alike in groupby(by_generation, key=lambda n: self._packs[n].generation):
            staying = []
            for number in alike:
                ids = self._packs[number].ids[self._wanted[self._own(number)]]
                shared = self._shared_of(number)
                if len(np.unique(ids)) == len(shared) and bool((self._copies[shared] > 1).all()):
                    self._copies[shared] -= 1
                    yield number
                else:
                    staying.append(shared)
            for shared in staying:  # for what is newer these are no copies
                self._copies[shared] -= 1

    def keepers(self, gone: Iterator[int]) -> set[int]:
        """The packs that hold anything which those that go hold too."""
        lost = [self._shared_of(number) for number in gone]
        if not lost:
            return set()
        return set(self._owners[np.isin(self._groups, np.concatenate(lost))].tolist())


def rescued(packs: Mapping[PackId, PackRecords], needed: Ids) -> set[PackId]:
    """Those of the packs that hold any of these ids, which ascend."""
    return {identity for identity, pack in packs.items() if bool(among(pack.ids, needed).any())}


class Freed(NamedTuple):
    """Stored bytes that a commit frees when its state goes: if only it goes, and with those that go before it."""

    alone: int
    together: int


def freed(found: Reached, stored: Bytes, count: int) -> list[Freed]:
    """What each commit frees.

    Args:
        stored: of every id of `found`.
        count: how many commits go; their ranks are 0 to count - 1. What goes together adds up to all that is freed.
    """
    going = np.flatnonzero(found.last < count)
    first, last, sizes = found.first[going], found.last[going], stored[going]
    together = np.bincount(last, sizes, count)
    alone = np.bincount(last, np.where(first == last, sizes, 0), count)
    return [Freed(int(one), int(both)) for one, both in zip(alone, together, strict=True)]


def _sum(sizes: Bytes) -> int:
    return int(np.add.reduce(sizes, dtype=np.int64))


def count_of(value: Any) -> int:
    """A hint that is a small number; 0 for anything else."""
    return value if type(value) is int and 0 <= value <= MOST else 0
