"""Objects from a remote: where they lie, in few requests, and not one byte of them believed before it matches its id.

    wanted ids -> rows of the segments -> pieces of packs -> ranges -> decode -> compare with the id -> hand out

Several ranges are on their way at a time, of as many pieces of 34 MiB at most, whatever is wanted in all. Packs never
change, but a collection may remove one that was planned for: then the newest root says where its objects lie now.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from casckpt.errors import FormatError, IntegrityError, NotOnRemote, RemoteUntrusted
from casckpt.format import limits
from casckpt.format import pack as p
from casckpt.format.codec import Codec, compress
from casckpt.format.decode import decode
from casckpt.format.encode import Encoder
from casckpt.format.ids import Kind, ObjectId, object_id, short_id
from casckpt.format.remote_index import Row, SegmentPack
from casckpt.odb.pack_reader import bases_of
from casckpt.odb.workers import Workers
from casckpt.remote.ranges import Piece, pieces

if TYPE_CHECKING:
    from casckpt.remote.view import RemoteView

CONCURRENCY = 4
BATCH = 1 << 16
"""Objects that are looked up and ordered by their packs at a time; what that takes is a few dozen MB."""
TAIL_BYTES = 256 << 10
"""Read from the end of a pack in the hope that its footer is in there: 4 000 records."""
COPIED_BELOW = 64 << 10
_FIRST_DELTA = Codec.DELTA_PLANES
_KINDS = {int(kind): kind.name.lower() for kind in Kind}
_Data = bytes | bytearray | memoryview
_Footers = Workers[list[p.Record]]


class Fetched(NamedTuple):
    """An object that matches its id: its record, of no place and without bases, and its stored bytes."""

    record: p.Record
    stored: _Data

    def plain(self) -> bytes:
        """Its plain bytes."""
        return bytes(decode(self.record, self.stored))


class Cost(NamedTuple):
    """What it takes to read objects."""

    objects: int
    nbytes: int
    """Bytes that are transferred."""
    requests: int


class RemoteReader:
    """Reads objects of one remote. One thread uses it; its own threads wait for the remote.

    Args:
        view: says where objects lie; refreshed where a pack has gone.
        concurrency: requests at a time, of no more pieces than that.
    """

    def __init__(self, view: RemoteView, *, concurrency: int = CONCURRENCY) -> None:
        self._view = view
        self._objects = view.objects
        self._concurrency = concurrency
        self._mutex, self._local = threading.Lock(), threading.local()

    def read(self, ids: Iterable[ObjectId], planned: Callable[[int], object] = int) -> Generator[Fetched, None, None]:
        """The objects with these ids, each once, in the order in which they lie on the remote.

        Who stops before the end closes the generator: then no request is left on its way.

        Args:
            planned: called with the plain bytes of objects before they are read, some ten thousand at a time.

        Raises:
            NotOnRemote: one is not there, or went while it was read.
            RemoteUntrusted: what came is not what the id says; names the key.
            FormatError: it is of a kind or coding that this release does not know.
            RemoteUnavailable, RemoteDenied: the remote could not be read.

        Memory: the pieces on their way, and one more that the caller is given.
        """
        for batch in _batches(ids):
            yield from self._read(batch, planned)

    def plain(self, identity: ObjectId, kind: Kind) -> bytes:
        """Plain bytes of one object; errors as of `read`."""
        (found,) = self.read([identity])
        if found.record.kind != kind:
            raise self._untrusted(f"{_name(found.record)} is not a {kind.name.lower()}")
        return found.plain()

    def cost(self, ids: Iterable[ObjectId]) -> Cost:
        """What reading these would take, without a request; what deltas are decoded from comes on top.

        Raises:
            NotOnRemote: one is not there.
        """
        objects = nbytes = requests = 0
        for batch in _batches(ids):
            for pack, rows in self._by_pack(batch).items():
                for piece in pieces(pack, dict(enumerate(map(_record, rows)))):
                    objects += len(piece.wanted)
                    nbytes += piece.nbytes
                    requests += len(piece.ranges)
        return Cost(objects, nbytes, requests)

    def _read(self, ids: Iterable[ObjectId], planned: Callable[[int], object]) -> Iterator[Fetched]:
        places = self._by_pack(ids)
        planned(sum(row.length for rows in places.values() for row in rows))
        waiting: deque[Iterator[tuple[Piece, int]]] = deque()
        running: deque[tuple[Piece, int, list[Future[list[Fetched]]]]] = deque()
        with (
            Workers[list[p.Record]](self._concurrency, "casckpt-footers") as footers,
            Workers[list[Fetched]](self._concurrency, "casckpt-remote") as workers,
        ):
            waiting.append(self._plan(places, footers))
            while waiting or running:
                while waiting and len(running) < self._concurrency:
                    following = next(waiting[0], None)
                    if following is None:
                        waiting.popleft()
                    else:
                        piece, seq = following
                        running.append((piece, seq, self._begin(workers, piece)))
                if running:
                    piece, seq, futures = running.popleft()
                    try:
                        found = [one for future in futures for one in future.result()]
                    except FileNotFoundError:
                        waiting.append(self._replan(piece, seq, footers))
                        continue
                    del futures  # the piece is the caller's now, and nobody else's
                    yield from found
                    del found  # before the next piece is asked for, not after it has come

    def _plan(self, places: dict[SegmentPack, list[Row]], footers: _Footers) -> Iterator[tuple[Piece, int]]:
        """The pieces that bring these objects, each with the number of the root by which it was planned.

        The footers of packs that hold deltas are read some packs ahead, at a time.
        """
        left = iter(places.items())
        ahead: deque[tuple[SegmentPack, list[Row], int, Future[list[p.Record]] | None]] = deque()
        while True:
            for pack, rows in islice(left, self._concurrency - len(ahead)):
                has_deltas = any(row.codec >= _FIRST_DELTA for row in rows)
                footer = footers.submit(partial(self._footer, pack)) if has_deltas else None
                ahead.append((pack, rows, self._seq(), footer))
            if not ahead:
                return
            pack, rows, seq, footer = ahead.popleft()
            try:
                found = self._pieces(pack, rows, footer)
            except FileNotFoundError:
                self._look_again([row.id for row in rows], pack, seq)
                yield from self._plan(self._by_pack(row.id for row in rows), footers)
                continue
            yield from ((piece, seq) for piece in found)

    def _replan(self, piece: Piece, seq: int, footers: _Footers) -> Iterator[tuple[Piece, int]]:
        """Pieces for what was wanted of a pack that is not there."""
        ids = [piece.needed[number].id for number in sorted(piece.wanted)]
        self._look_again(ids, piece.pack, seq)
        return self._plan(self._by_pack(ids), footers)

    def _look_again(self, ids: Sequence[ObjectId], pack: SegmentPack, seq: int) -> None:
        """Take in a root newer than the one by which a pack was to be there.

        Raises:
            NotOnRemote: there is none, or it still says that the objects are in that pack, or that they are gone.
        """
        if self._seq() == seq:
            self._view.refresh()
        root = self._view.root
        problem = f"pack {short_id(pack.id)} is not there, though the newest root lists it"
        if root is not None and root.seq != seq:
            problem = f"removed by gc of root {root.seq} by {root.push.host!a}"
        for identity in ids:
            found = self._view.find(identity)
            if found is None or found.pack == pack:
                raise NotOnRemote(remote=self._objects.url, object=f"object {short_id(identity)}", problem=problem)

    def _seq(self) -> int:
        return 0 if self._view.root is None else self._view.root.seq

    def _by_pack(self, ids: Iterable[ObjectId]) -> dict[SegmentPack, list[Row]]:
        """Where objects lie: rows by their packs, ascending by their offsets."""
        from casckpt.remote.locating import find_all  # and numpy, which who reads nothing does without

        wanted = dict.fromkeys(ids)
        known = find_all(self._view, wanted)
        places: dict[SegmentPack, list[Row]] = {}
        for identity in wanted:
            found = known.get(identity)
            if found is None:
                problem = f"no segment of root {self._seq()} lists it"
                raise NotOnRemote(remote=self._objects.url, object=f"object {short_id(identity)}", problem=problem)
            if found.row.kind not in limits.MAX_OBJECT_BYTES:
                raise FormatError(object=f"object {short_id(identity)}", problem=f"unknown kind {found.row.kind}")
            places.setdefault(found.pack, []).append(found.row)
        for rows in places.values():
            rows.sort(key=lambda row: row.offset)
        return places

    def _pieces(self, pack: SegmentPack, rows: Sequence[Row], reading: Future[list[p.Record]] | None) -> list[Piece]:
        """The pieces that bring these rows of a pack; its footer is being read if any of them is a delta."""
        if reading is None:
            return list(pieces(pack, dict(enumerate(map(_record, rows)))))
        try:
            footer = reading.result()
            numbers = {record.offset: number for number, record in enumerate(footer)}
            wanted: dict[int, p.Record] = {}
            for row in rows:
                number = numbers.get(row.offset, -1)
                if number < 0 or _record(footer[number]) != _record(row):
                    raise IntegrityError(object=f"object {short_id(row.id)}", problem="the footer does not list it")
                wanted[number] = footer[number]
            return list(pieces(pack, wanted, footer))
        except IntegrityError as error:
            raise self._untrusted(f"{pack.key}: {error}") from error

    def _footer(self, pack: SegmentPack) -> list[p.Record]:
        """All records of a pack."""
        start = max(pack.nbytes - TAIL_BYTES, 0)
        header, tail = map(bytes, self._objects.get_ranges(pack.key, [(0, p.BLOCK), (start, pack.nbytes)]))
        identity, offset, size = p.decode_trailer(tail[-p.TRAILER_BYTES :], pack.nbytes)
        if identity != pack.id:
            raise IntegrityError(object="a pack trailer", problem="it names another pack than its key")
        if offset < start:
            tail = bytes(self._objects.get_ranges(pack.key, [(offset, start)])[0]) + tail
            start = offset
        return p.decode_footer(header, tail[offset - start : offset - start + size], offset, identity).records

    def _begin(self, workers: Workers[list[Fetched]], piece: Piece) -> list[Future[list[Fetched]]]:
        """Ask for the ranges of a piece, each in a request that waits for no other."""
        arrived: dict[int, _Data] = {}
        numbers = range(len(piece.ranges))
        return [workers.submit(partial(self._fetch, piece, number, arrived)) for number in numbers]

    def _fetch(self, piece: Piece, number: int, arrived: dict[int, _Data]) -> list[Fetched]:
        """The objects of a piece, verified, if this range of it came last, else none; in a thread of the reader."""
        start, stop = piece.ranges[number]
        found = self._objects.get_ranges(piece.pack.key, [(start, stop)])
        if [len(data) for data in found] != [stop - start]:
            raise self._untrusted(f"{piece.pack.key} is shorter than the remote's index says")
        with self._mutex:
            arrived[number] = found[0]
            if len(arrived) < len(piece.ranges):
                return []
        try:
            return list(self._decoded(piece, [memoryview(arrived[one]) for one in sorted(arrived)]))
        except IntegrityError as error:
            raise self._untrusted(f"{piece.pack.key}: {error}") from error
        finally:
            arrived.clear()  # the task that holds it outlives what the caller is given

    def _decoded(self, piece: Piece, found: Sequence[memoryview]) -> Iterator[Fetched]:
        bases = {number: bases_of(piece.needed, number) for number in piece.needed}
        last_use = {base: number for number, own in bases.items() for base in own}
        plains: dict[int, _Data] = {}
        at = 0
        for number, record in piece.needed.items():
            while record.offset >= piece.ranges[at][1]:
                at += 1
            start = record.offset - piece.ranges[at][0]
            stored = found[at][start : start + record.stored]
            plain = decode(record, stored, tuple(plains[base] for base in bases[number]))
            if object_id(record.kind, plain) != record.id:
                raise IntegrityError(object=_name(record), problem="its bytes do not match its id")
            if number in piece.wanted:
                yield self._alone(record, stored, plain)
            if number in last_use:
                plains[number] = plain
            for base in set(bases[number]):
                if last_use[base] == number:
                    del plains[base]

    def _alone(self, record: p.Record, stored: _Data, plain: _Data) -> Fetched:
        """An object as a store takes it in: a delta is encoded anew, since its bases need not come along."""
        codec, flags = record.codec, 0
        if record.base_1:
            codec, stored = self._encoder().encode(plain, record.element) if not record.kind else compress(plain)
        if record.kind == Kind.CHUNK:
            # What the remote says of its numbers is not believed either.
            from casckpt.format.finite import FINITE, NON_FINITE, UNSCANNED, is_finite

            finite = is_finite(plain, record.element)
            flags = UNSCANNED if finite is None else FINITE if finite else NON_FINITE
        if len(stored) < COPIED_BELOW:
            stored = bytes(stored)  # else a small object keeps the whole range in memory that it came with
        check = p.check_of(codec, record.id, record.kind, stored)
        alone = p.Record(record.id, 0, record.length, len(stored), record.kind, codec, record.element, flags, check)
        return Fetched(alone, stored)

    def _encoder(self) -> Encoder:
        if not hasattr(self._local, "encoder"):
            self._local.encoder = Encoder()
        encoder: Encoder = self._local.encoder
        return encoder

    def _untrusted(self, problem: str) -> RemoteUntrusted:
        return RemoteUntrusted(remote=self._objects.url, problem=problem)


def _batches(ids: Iterable[ObjectId]) -> Iterator[list[ObjectId]]:
    left = iter(ids)
    while batch := list(islice(left, BATCH)):
        yield batch


def _record(row: Row | p.Record) -> p.Record:
    """A record as a segment knows it."""
    return p.Record(row.id, row.offset, row.length, row.stored, row.kind, row.codec, row.element, row.flags)


def _name(record: p.Record) -> str:
    return f"{_KINDS.get(record.kind, 'object')} {short_id(record.id)}"
