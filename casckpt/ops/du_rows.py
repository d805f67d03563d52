"""Rows and totals of du: who reaches which records, by run, commit, component or dtype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from casckpt.format.codec import Codec
from casckpt.format.commit import Commit
from casckpt.format.elements import ELEMENTS
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.ops import du_reports as r
from casckpt.ops.du_look import Look, Owner
from casckpt.plan.usage import NOBODY, Catalog, Coded, Tally, by_codec, going, tally
from casckpt.storage.base import Storage

_CODECS = {
    int(Codec.RAW): "raw",
    int(Codec.ZSTD): "zstd",
    int(Codec.PLANES): "planes",
    int(Codec.ALIGNED_PLANES): "planes",
    int(Codec.DELTA_PLANES): "delta",
    int(Codec.RESIDUAL_2BIT): "delta",
    int(Codec.RESIDUAL_4BIT): "delta",
    int(Codec.CLASSED_PLANES): "delta",
}


class Table:
    """Who has what, by rows."""

    def __init__(self, look: Look, chosen: Mapping[CommitId, Commit] | None, by: str) -> None:
        self._look = look
        self._by = by
        self._unreadable = look.known.read_packs()  # first, since they say where trees and components are
        self._owners = look.owners()
        self._chosen = [owner for owner in self._owners if chosen is None or owner.id in chosen]
        self._units: list[Ids] = [prefixes(owner.own) for owner in self._owners]
        """What comes and goes together: first of every owner what is its own, then trees that wait and components."""
        self._numbers: dict[ObjectId, int] = {}
        """Of these trees and components."""
        for owner in self._owners:
            self._add(owner)
        packs = list(look.known.packs.values())
        files = [*packs, look.journal()]
        catalog = Catalog(files)
        self._records = int(catalog.stored.sum(dtype=np.int64))
        if catalog.has_copies:
            # Of several copies, those in packs that the next collection removes are dead.
            gone = going(packs, np.unique(np.concatenate(self._units)))
            catalog = Catalog([file for file in files if file.records.pack.id not in gone])
        self._catalog = catalog
        self._placed = catalog.place(self._units)

    def _add(self, owner: Owner) -> None:
        if owner.tree is not None and owner.tree not in self._numbers:
            self._numbers[owner.tree] = len(self._units)
            self._units.append(prefixes(owner.tree))
        for _, component in owner.components:
            if component not in self._numbers:
                self._numbers[component] = len(self._units)
                self._units.append(self._look.known.reach.component(owner.id, component))

    def report(self) -> r.UsageReport:
        """The rows, the largest first, and the totals."""
        chosen = {owner.id for owner in self._chosen}
        # The first group is what was not chosen: what it reaches too is not unique to any row.
        others: dict[int, None] = {}
        groups: dict[str | None, dict[int, None]] = {}
        for number, owner in enumerate(self._owners):
            for key, unit in self._keys(number, owner):
                (groups.setdefault(key, {}) if owner.id in chosen else others)[unit] = None
        found = tally(self._catalog, ([self._placed[unit] for unit in units] for units in (others, *groups.values())))
        rows = self._by_dtype(found) if self._by == "dtype" else self._by_group(found, list(groups))
        needed = self._catalog.nbytes(found.owner != NOBODY)
        unique, stored = sum(row.unique for row in rows), self._stored(needed)
        return r.UsageReport(
            by=self._by,
            rows=tuple(sorted(rows, key=_place)),
            commits=len(chosen),
            all_commits=len(self._owners),
            logical=sum(map(self._logical, self._chosen)),
            unique=unique,
            shared=needed - unique - found.unique[0],
            stored=stored,
            waiting=needed - stored,
            dead=self._records - needed,
            packs=len(self._look.known.packs) + self._unreadable,
            unreadable=self._unreadable,
            files=_files(self._look.database),
        )

    def _keys(self, number: int, owner: Owner) -> Iterator[tuple[str | None, int]]:
        """(row, unit) for everything that a commit has."""
        whole = {"run": owner.commit.run, "commit": owner.id.hex()}.get(self._by)
        yield whole, number
        if owner.tree is not None:
            yield whole, self._numbers[owner.tree]
        for name, component in owner.components:
            yield (name if self._by == "component" else whole), self._numbers[component]

    def _stored(self, needed: int) -> int:
        """Of the stored bytes that are needed, those of what does not wait for its grace to end."""
        if not any(owner.waits or owner.tree is not None for owner in self._owners):
            return needed
        flags = np.zeros(len(self._catalog), np.bool_)
        parts = {component for owner in self._owners for component in owner.stays.values()}
        for unit in (*range(len(self._owners)), *(self._numbers[component] for component in parts)):
            flags[self._placed[unit]] = True
        return self._catalog.nbytes(self._catalog.with_bases(flags))

    def _logical(self, owner: Owner) -> int:
        """Plain bytes of what is here of a commit."""
        if owner.state == r.KEPT:
            return owner.commit.nbytes
        # Of a commit that lost components nothing says which memory they share with others.
        return min(owner.commit.nbytes, sum(map(self._plain, (component for _, component in owner.components))))

    def _plain(self, component: ObjectId) -> int:
        return sum(self._look.known.reach.plain_bytes(component))

    def _by_group(self, found: Tally, names: Sequence[str | None]) -> list[r.UsageRow]:
        """Rows by run, commit or component."""
        commits, logical = Counter[str | None](), Counter[str | None]()
        for owner in self._chosen:
            if self._by == "component":
                commits.update([None, *(name for name, _ in owner.components)])
                logical.update({name: self._plain(component) for name, component in owner.components})
            else:
                key = owner.commit.run if self._by == "run" else owner.id.hex()
                commits[key] += 1
                logical[key] += self._logical(owner)
        sums = zip(names, found.reached[1:], found.unique[1:], strict=True)
        rows = [
            r.UsageRow(name, commits[name], logical[name], unique, reached - unique) for name, reached, unique in sums
        ]
        if self._by != "commit":
            return rows
        known = {owner.id.hex(): owner for owner in self._chosen}
        return [_of_commit(row, known[row.name]) for row in rows if row.name is not None]

    def _by_dtype(self, found: Tally) -> list[r.UsageRow]:
        """Rows by element type: a record has one, so these share nothing but with what was not chosen."""
        alike = Counter(
            self._look.known.reach.plain_bytes(component) for owner in self._chosen for _, component in owner.components
        )
        logical = np.zeros(len(ELEMENTS) + 1, np.int64)
        for plain, times in alike.items():
            logical += np.array(plain, np.int64) * times
        catalog = self._catalog
        element = np.where(catalog.element < len(ELEMENTS), catalog.element, 0)
        dtype = np.where(catalog.kind == Kind.CHUNK, element, len(ELEMENTS))
        alone, both = (found.owner == 1) & ~found.several, (found.owner == 1) & found.several
        rows = []
        for code in np.unique(dtype[alone | both]).tolist():
            own = dtype == code
            rows.append(
                r.UsageRow(
                    name=ELEMENTS[code][0] if code < len(ELEMENTS) else None,
                    commits=self._having(code),
                    logical=int(logical[code]),
                    unique=catalog.nbytes(own & alone),
                    shared=catalog.nbytes(own & both),
                    codecs=_codecs(by_codec(catalog, own & (alone | both))),
                )
            )
        return rows

    def _having(self, code: int) -> int:
        """How many commits have leaves of an element type, or anything that describes them."""
        plain = self._look.known.reach.plain_bytes
        if code == len(ELEMENTS):
            return len(self._chosen)
        return sum(any(plain(component)[code] for _, component in owner.components) for owner in self._chosen)


def _place(row: r.UsageRow) -> tuple[int, int, int, bool, str]:
    """Where a row stands: the largest first, then the newest commit."""
    return -row.unique, -row.shared, -(row.time_ns or 0), row.name is None, row.name or ""


def _of_commit(row: r.UsageRow, owner: Owner) -> r.UsageRow:
    commit = owner.commit
    return replace(row, run=commit.run, step=commit.step, time_ns=commit.time_ns, state=owner.state)


def _codecs(found: Iterable[Coded]) -> tuple[r.CodecUse, ...]:
    """Codecs under the names that people know, those of one name together."""
    named: dict[str, r.CodecUse] = {}
    for one in found:
        name = _CODECS.get(one.codec, "unknown")
        before = named.get(name, r.CodecUse(name, 0, 0, 0))
        named[name] = r.CodecUse(
            name, before.records + one.records, before.plain + one.plain, before.stored + one.stored
        )
    return tuple(named.values())


def _files(database: Database) -> r.FileUse:
    """Lengths of all files of the store."""
    sizes = dict(_sizes(database.storage, ""))
    packs = sum(sizes.pop(pack_name(pack.id), 0) for pack in database.pack_set())
    journal = sum(sizes.pop(name) for name in list(sizes) if name.startswith("journal/"))
    index = sum(sizes.pop(name) for name in list(sizes) if name.startswith("index/"))
    return r.FileUse(packs, journal, index, sum(sizes.values()))


def _sizes(storage: Storage, folder: str) -> Iterator[tuple[str, int]]:
    """(name, length) of all files in a folder and below."""
    for name in storage.list(folder):
        path = f"{folder}/{name}" if folder else name
        size = storage.size(path)
        if size is None:
            yield from _sizes(storage, path)
        else:
            yield path, size
