"""The versions of one place, as groups of deltas into a pack.

    versions -> how many a group may have, by samples -> frames -> workers: encode, each against its bases -> pack

A group is encoded in decode order. The plain bytes of a version are let go of as soon as no later frame is predicted
from them: of a pyramid half of its versions are in memory at once, and what the workers hold besides.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from casckpt.format import pack as p
from casckpt.format.delta_encode import Delta, DeltaEncoder
from casckpt.format.encode import SAMPLE_BYTES
from casckpt.format.ids import Kind, ObjectId
from casckpt.odb.database import Database
from casckpt.odb.rewriting import Rewriting
from casckpt.odb.workers import Workers
from casckpt.ops.restore_costs import Costs
from casckpt.plan.group_size import Ratios, smallest_groups
from casckpt.plan.groups import EVEN, GROUP_SIZES, LONGEST_CHAIN, Frame, Version, closure_costs, groups, heights

_Data = bytes | bytearray | memoryview


WORKERS, THOROUGH_WORKERS = 4, 2
"""Most workers: each has scratch of 6 MiB, and of a group of 65 versions 33 are in memory."""


class Layout(NamedTuple):
    """How the versions of a place are cut into groups, and from what each is predicted."""

    size: int
    classed: int = 0
    """Deepest levels that are coded by classes. Archives try classes everywhere."""
    timed: bool = False
    chains: bool = False


SMALLEST = Layout(GROUP_SIZES[0])
THOROUGH = (Layout(GROUP_SIZES[-1], timed=True), Layout(LONGEST_CHAIN, chains=True))
"""What archives choose between; a chain has no second base whose weight time could say."""


class GroupEncoder:
    """Encodes groups with several threads into one rewriting. One thread feeds it; a context manager.

    Args:
        threads: workers, if memory allows; with 1 all work is done by the thread that feeds.
        costs: of restoring, which bound the groups, asked for when a place has many versions; None for archives: the
            smallest form, however long it takes.
    """

    def __init__(self, database: Database, output: Rewriting, threads: int, costs: Callable[[], Costs] | None) -> None:
        self._database = database
        self._output = output
        self._threads = min(threads, WORKERS if costs is not None else THOROUGH_WORKERS)
        self._costs = costs
        self._workers: Workers[Delta] = Workers(self._threads, "casckpt-worker")
        self._local = threading.local()
        self._chosen: tuple[object, Layout] | None = None
        self.deltas = 0
        self.plain = 0
        """Versions stored with and without bases so far."""
        self.groups: Counter[int] = Counter()
        """Groups by how many versions they have."""

    def __enter__(self) -> GroupEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__(None, None, None)

    def encode(self, leaf: object, versions: Sequence[Version]) -> None:
        """Pack the versions of a place; each chunk is compared with its id when it is read.

        Args:
            leaf: what the place belongs to: places of one leaf come one after another and are laid out alike.
            versions: oldest first, each chunk once.

        Raises:
            DamagedObject: no copy of a version can be read.
        """
        layout = self._layout(leaf, versions)
        for frames in groups(versions, layout.size, timed=layout.timed, chains=layout.chains):
            self._write(frames, layout.classed)
            self._output.end_leaf()

    # -- which layout

    def _layout(self, leaf: object, versions: Sequence[Version]) -> Layout:
        """That of the leaf, found by its first place with more versions than the smallest group has."""
        if len(versions) <= GROUP_SIZES[0] and self._costs is not None:
            return SMALLEST
        if len(versions) < 3:
            return THOROUGH[0]
        if self._chosen is None or self._chosen[0] != leaf:
            layout = self._smallest(versions) if self._costs is None else self._bounded(versions, self._costs())
            self._chosen = leaf, layout
        return self._chosen[1]

    def _bounded(self, versions: Sequence[Version], costs: Costs) -> Layout:
        """The smallest groups that are restored fast enough, by a sample from the middle of the history."""
        middle = len(versions) // 2
        before, now, after = (self._read(one) for one in versions[middle - 1 : middle + 2])
        if not len(before) == len(now) == len(after):
            return SMALLEST
        element = versions[middle].element
        plain, *near, between = self._encoder().sample(now, element, (before, after))
        *_, classed = self._encoder().sample(now, element, (before, after), classed=True)
        sampled = min(len(now), SAMPLE_BYTES)
        lengths = (plain, min(near), between, classed)
        ratios = Ratios(*(min(one, plain) / sampled for one in lengths))
        return Layout(*smallest_groups(costs, element, ratios, len(now)))

    def _smallest(self, versions: Sequence[Version]) -> Layout:
        """The layout in which the middle of the place takes the fewest bytes over its whole history."""
        middles: dict[ObjectId, _Data] = {version.chunk: _middle(self._read(version)) for version in versions}
        return min(THOROUGH, key=lambda layout: self._sampled_bytes(versions, middles, layout))

    def _sampled_bytes(self, versions: Sequence[Version], middles: dict[ObjectId, _Data], layout: Layout) -> int:
        total = 0
        for frames in groups(versions, layout.size, timed=layout.timed, chains=layout.chains):
            for frame in frames:
                bases = [middles[frames[base].version.chunk] for base in frame.bases]
                plain = middles[frame.version.chunk]
                delta = self._encoder().encode(plain, frame.version.element, bases, frame.weight or EVEN, thorough=True)
                total += len(delta.stored)
        return total

    # -- encoding

    def _write(self, frames: Sequence[Frame], classed: int) -> None:
        deep = [height < classed for height in heights(frames)]
        last_use = {base: number for number, frame in enumerate(frames) for base in frame.bases}
        plains: dict[int, _Data] = {}
        used: list[tuple[int, ...]] = []
        waiting: deque[Future[Delta]] = deque()
        plain_bytes: int | None = None
        for number, frame in enumerate(frames):
            plain = self._read(frame.version)
            bases = [plains[base] for base in frame.bases]
            work = partial(self._encode, plain, frame, bases, plain_bytes, deep[number])
            if number == 0:
                delta = work()
                self._add(frames, used, delta)
                # The others would take as many without bases, near enough: they need not be encoded so to know.
                plain_bytes = len(delta.stored)
            elif self._threads == 1:
                self._add(frames, used, work())
            else:
                waiting.append(self._workers.submit(work))
            if number in last_use:
                plains[number] = plain
            for base in set(frame.bases):
                if last_use[base] == number:
                    del plains[base]
            if len(waiting) > self._threads:
                self._add(frames, used, waiting.popleft().result())
        while waiting:
            self._add(frames, used, waiting.popleft().result())
        self.groups[len(frames)] += 1

    def _encode(self, plain: _Data, frame: Frame, bases: list[_Data], plain_bytes: int | None, classed: bool) -> Delta:
        """One version, in whichever thread."""
        return self._encoder().encode(
            plain,
            frame.version.element,
            bases,
            frame.weight or EVEN,
            plain_bytes=plain_bytes,
            classed=classed and len(bases) == 2,
            thorough=self._costs is None,
        )

    def _add(self, frames: Sequence[Frame], used: list[tuple[int, ...]], delta: Delta) -> None:
        """Append the next frame of a group to the pack."""
        number = len(used)
        frame = frames[number]
        version = frame.version
        used.append(tuple(frame.bases[base] for base in delta.bases))
        first, second = (*(number - base for base in used[-1]), 0, 0)[:2]
        row = self._database.row(version.chunk)
        flags = row.flags if row is not None and row.element == version.element else 0
        check = p.check_of(delta.codec, version.chunk, Kind.CHUNK, delta.stored)
        record = p.Record(
            version.chunk, 0, version.length, len(delta.stored), Kind.CHUNK, delta.codec, version.element, flags,
            check, first, second, closure_costs(used)[-1], delta.weight,
        )  # fmt: skip
        self._output.add(record, delta.stored)
        self.deltas += bool(delta.bases)
        self.plain += not delta.bases

    def _read(self, version: Version) -> _Data:
        return self._database.read(version.chunk, Kind.CHUNK)

    def _encoder(self) -> DeltaEncoder:
        """The encoder of this thread."""
        if not hasattr(self._local, "encoder"):
            self._local.encoder = DeltaEncoder()
        encoder: DeltaEncoder = self._local.encoder
        return encoder


def _middle(plain: _Data) -> bytes:
    start = max(len(plain) - SAMPLE_BYTES, 0) // 2 // 16 * 16
    return bytes(memoryview(plain)[start : start + SAMPLE_BYTES])
