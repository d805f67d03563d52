"""One window of commits, written anew: versions of chunks as groups of deltas, everything else copied along.

    chunks and trees in the old packs that only others need -> copied along, to packs of their own
    columns of the commits -> the versions of each place -> groups -> delta packs
    metadata -> the last delta pack

Only delta packs count as repacked: what is in the others may be packed again, with commits of its own. The metadata
comes last, since the tree of a commit in a delta pack says that all of the commit is done.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from casckpt.format import pack as p
from casckpt.format.codec import Codec, compress
from casckpt.format.encode import Encoder
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind
from casckpt.format.pack_columns import prefixes
from casckpt.odb.database import Database
from casckpt.odb.fold import ADDED, added_hints
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.odb.rewriting import Rewriting
from casckpt.ops.delta_groups import GroupEncoder
from casckpt.ops.positions import Held, histories
from casckpt.ops.restore_costs import Costs
from casckpt.ops.windows import PACKED, THOROUGH, Stock, Window
from casckpt.plan.groups import Version
from casckpt.plan.id_sets import among
from casckpt.plan.reclaim import GENERATION, REPACKED
from casckpt.storage.base import read_exact

OP = "repack"


@dataclass
class Done:
    """What was written."""

    packs: list[PackRef] = field(default_factory=list)
    deltas: int = 0
    plain: int = 0
    """Versions of chunks stored with and without bases."""
    groups: Counter[int] = field(default_factory=Counter)
    """Groups by how many versions they have."""
    is_whole: bool = False
    """Whether all of the window is written: else the time was over, or packs of it went meanwhile."""


class _Went(Exception):
    """A pack of the window left the store."""


class WindowPacker:
    """Writes one window. One thread, whose workers encode.

    Args:
        costs: of restoring, which bound the groups, asked for when they are needed; None for archives.
        deadline: on the monotonic clock; the window is left between two places when it has passed.
        advance: called with the plain bytes of versions that were written.
    """

    def __init__(
        self,
        repository: Repository,
        stock: Stock,
        window: Window,
        costs: Callable[[], Costs] | None,
        deadline: float,
        advance: Callable[[int], None],
    ) -> None:
        self._repository = repository
        self._database: Database = repository.database
        self._stock = stock
        self._window = window
        self._costs = costs
        self._deadline = deadline
        self._advance = advance
        self._encoder = Encoder()
        # For every needed object of the packs that go: whether it is the window's own, and whether a new pack has it.
        self._is_own = among(window.needed, window.own)
        self._is_done = among(window.needed, window.done)
        self.done = Done()

    def pack(self) -> Done:
        """Write the window; what is listed when it raises stays.

        Raises:
            DamagedObject: no copy of an object can be read.
            NotReadBack: what was written is not what is read.
            StorageError: the disk failed or is full.
        """
        with contextlib.suppress(_Went):
            self.done.is_whole = self._pack()
        return self.done

    def _pack(self) -> bool:
        """Whether all of it was written."""
        generation = {GENERATION: self._window.generation}
        with self._output(generation) as output:
            if not self._others(output):
                return False
        level = {REPACKED: THOROUGH if self._stock.thorough else PACKED}
        with self._output(generation | level, deltas=True) as output:
            return self._groups(output) and self._metadata(output)

    @contextlib.contextmanager
    def _output(self, hints: dict[str, Any], *, deltas: bool = False) -> Iterator[Rewriting]:
        """A rewriting whose packs are counted, also after an error."""
        with Rewriting(self._repository, OP, hints, deltas=deltas) as output:
            try:
                yield output
            finally:
                self.done.packs += output.packs

    def _begin(self, output: Rewriting) -> bool:
        """Hold on to the packs of the window; False if some went while nobody did."""
        return not output.begin() or all(self._database.has_pack(pack.id) for pack in self._window.packs)

    # -- versions

    def _groups(self, output: Rewriting) -> bool:
        """Write all groups; False if that was broken off. What is in a full group by then is listed."""
        if not self._begin(output):
            return False
        with GroupEncoder(self._database, output, self._repository.threads, self._costs) as encoder:
            try:
                for leaf, versions in self._places():
                    if not self._begin(output):
                        return False
                    encoder.encode(leaf, versions)
                    self._advance(sum(version.length for version in versions))
                    if self._is_over():
                        output.publish()
                        return False
            finally:
                self.done.deltas, self.done.plain, self.done.groups = encoder.deltas, encoder.plain, encoder.groups
        return True

    def _places(self) -> Iterator[tuple[object, list[Version]]]:
        """(leaf, versions) of every place that has any to be packed; each chunk in the first place that has it."""
        commits = [(one.id, one.commit) for one in self._window.commits]
        by_time = any(commit.step is None for _, commit in commits)
        whens = [commit.time_ns if by_time else commit.step or 0 for _, commit in commits]
        for leaf, held in histories(self._database, commits):
            ids = prefixes(b"".join(one.chunk for one in held))
            versions = []
            for number in np.flatnonzero(among(ids, self._window.own)).tolist():
                one = held[number]
                if self._is_new(one):
                    is_plain = bool(among(ids[number : number + 1], self._stock.plain)[0])
                    versions.append(Version(one.chunk, one.length, one.element, whens[one.commit], is_plain))
            if versions:
                yield leaf, versions

    def _is_new(self, one: Held) -> bool:
        """Whether a chunk is to be packed and was not yet; it counts as packed from then on."""
        place = int(np.searchsorted(self._window.needed, prefixes(one.chunk)[0]))
        row = None if self._is_done[place] else self._database.row(one.chunk)
        if row is None or row.kind != Kind.CHUNK or row.length != one.length:
            return False
        self._is_done[place] = True
        return True

    # -- what is copied along

    def _others(self, output: Rewriting) -> bool:
        """Copy what of others may be packed one day; False if that was broken off. What is in a pack then is listed."""
        for pack, record in self._left(output):
            if record.kind not in (Kind.CHUNK, Kind.TREE) or self._is_own[self._place(record)]:
                continue
            if not self._begin(output):
                return False
            self._copy(pack, record, output)
            if self._is_over():
                output.publish()
                return False
        output.publish()
        return True

    def _metadata(self, output: Rewriting) -> bool:
        """Copy what is left: metadata, and chunks that no place has."""
        if not self._begin(output):
            return False
        added = [pair for pack in self._window.packs for pair in added_hints(self._database.hints(pack)).items()]
        if added:  # sealed packs know this of the commits in them, and nobody else
            output.hints[ADDED] = [list(pair) for pair in added]
        for pack, record in self._left(output):
            if not self._begin(output):
                return False
            self._copy(pack, record, output)
        output.publish()
        return True

    def _is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def _left(self, output: Rewriting) -> Iterator[tuple[PackRef, p.Record]]:
        """(pack, record) of everything that no new pack has yet."""
        for pack in self._window.packs:
            if not self._begin(output):
                raise _Went
            records = self._database.records(pack)
            ids = prefixes(b"".join(record.id for record in records))
            is_needed = among(ids, self._window.needed)
            for record, wanted in zip(records, is_needed, strict=True):
                if wanted and not self._is_done[self._place(record)]:
                    yield pack, record

    def _place(self, record: p.Record) -> int:
        """Number of an object among those that are needed."""
        return int(np.searchsorted(self._window.needed, prefixes(record.id)[0]))

    def _copy(self, pack: PackRef, record: p.Record, output: Rewriting) -> None:
        """Append an object as it is stored, if it does not depend on others; raw chunks as planes where that pays."""
        codec, stored = self._stored(pack, record)
        check = p.check_of(codec, record.id, record.kind, stored)
        fresh = p.Record(
            record.id, 0, record.length, len(stored), record.kind, codec, record.element, record.flags, check
        )
        output.add(fresh, stored)
        self._is_done[self._place(record)] = True
        output.end_leaf()

    def _stored(self, pack: PackRef, record: p.Record) -> tuple[int, bytes | bytearray | memoryview]:
        """Codec and stored bytes of an object without bases."""
        if not record.base_1:
            stored = read_exact(self._database.packs.open(pack_name(pack.id)), record.offset, record.stored)
            is_whole = p.check_of(record.codec, record.id, record.kind, stored) == record.check
            if is_whole and (record.codec != Codec.RAW or record.kind != Kind.CHUNK):
                return record.codec, stored
        plain = self._database.read(record.id, Kind(record.kind))
        return compress(plain) if record.kind != Kind.CHUNK else self._encoder.encode(plain, record.element)
