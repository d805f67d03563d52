"""Remotes put together by hand, the wrong ones too, and places that count or fail what is asked of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from casckpt.errors import RemoteUnavailable
from casckpt.format.canonical import encode
from casckpt.format.ids import CommitId, Kind, ObjectId, PackId, checksum
from casckpt.format.pack import Record
from casckpt.format.remote import Push, RemoteRef, RemoteRoot, SegmentRef, root_key, segment_key
from casckpt.format.remote_about import ABOUT_KEY, RemoteAbout
from casckpt.format.remote_index import Row, Segment, SegmentPack
from casckpt.odb import tables as t
from casckpt.odb.repository import Repository
from casckpt.remote.view import RemoteView
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Listed, Objects, Outcome
from tests.support.build import Pack

HOST = "far-away"


class HandMade:
    """A remote in memory that is written file by file."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.objects.create(ABOUT_KEY, RemoteAbout(bytes(16), 1).encode())
        self.root: RemoteRoot | None = None
        self._file = b""

    def add_pack(self, pack: Pack, data: bytes | None = None) -> SegmentPack:
        """Upload a pack, or other bytes in its place."""
        file = pack.finish()
        one = SegmentPack(PackId(pack.id), os.urandom(4), len(file))
        self.objects.create(one.key, file if data is None else data)
        return one

    def add_segment(self, packs: Mapping[SegmentPack, Sequence[Record]]) -> SegmentRef:
        """Upload a segment that lists these packs with these records of each."""
        rows = {
            record.id: Row(record.id, number, record.offset, record.stored, record.length, *record[4:8])
            for number, records in enumerate(packs.values())
            for record in records
        }
        segment = Segment.build(list(packs), rows.values())
        data = segment.encode()
        key = segment_key(data, os.urandom(4))
        self.objects.create(key, data)
        return SegmentRef(key, len(segment.packs), len(segment), len(data))

    def append(self, *segments: SegmentRef, **fields: Any) -> RemoteRoot:
        """The next root, with these segments and other fields than the one before."""
        push = Push(os.urandom(16), HOST, "somebody", "test", 1)
        root = RemoteRoot(0, None, 0, push) if self.root is None else replace(self.root, push=push)
        root = replace(root, seq=root.seq + 1, prev=checksum(self._file) if self.root is not None else None, **fields)
        self.root = replace(root, segments=tuple(sorted(segments)))
        self._file = self.root.encode()
        self.objects.create(root_key(root.seq), self._file)
        return self.root

    def publish(self, *packs: Pack, **fields: Any) -> RemoteRoot:
        """Upload packs, a segment of them, and a root that has all segments until now and this one."""
        listed = {self.add_pack(pack): pack.records for pack in packs}
        before = () if self.root is None else self.root.segments
        return self.append(*before, self.add_segment(listed), **fields)

    def view(self, objects: Objects | None = None) -> RemoteView:
        """A view of it, up to date, segments and all."""
        view = RemoteView(self.objects if objects is None else objects)
        view.refresh()
        view.segments()
        return view


class Watched:
    """A place that notes every request, and may fail or answer in another way.

    Args:
        inner: the place itself.
        before: called with the number of a request and its verb and key; what it raises the request raises.
        changed: called with the key and the bytes of every answer of `get` and `get_ranges`; gives the bytes instead.
    """

    def __init__(
        self,
        inner: Objects,
        before: Callable[[int, str, str], None] = lambda *_: None,
        changed: Callable[[str, bytes], bytes] = lambda _, data: data,
    ) -> None:
        self.inner = inner
        self.url = inner.url
        self.read_only = inner.read_only
        self.before = before
        self.changed = changed
        self.requests: list[tuple[str, str, int]] = []
        """Verb, key and bytes of each; the ranges of one `get_ranges` count each for themselves."""

    @property
    def down(self) -> int:
        """Bytes that were read."""
        return sum(nbytes for _, _, nbytes in self.requests)

    def count(self, verb: str, prefix: str = "") -> int:
        """How many requests of a kind there were."""
        return sum(one == verb and key.startswith(prefix) for one, key, _ in self.requests)

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        self._note("get", key)
        data = self.changed(key, self.inner.get(key, start, stop, limit=limit))
        self.requests[-1] = ("get", key, len(data))
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        for start, stop in ranges:
            self._note("get", key, stop - start)
        return [self.changed(key, data) for data in self.inner.get_ranges(key, ranges)]

    def create(self, key: str, data: Buffer) -> Outcome:
        self._note("create", key)
        return self.inner.create(key, data)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self._note("list", prefix)
        return self.inner.list(prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        self._note("delete", keys[0])
        self.inner.delete(keys)

    def size(self, key: str) -> int | None:
        self._note("size", key)
        return self.inner.size(key)

    def _note(self, verb: str, key: str, nbytes: int = 0) -> None:
        self.before(len(self.requests), verb, key)
        self.requests.append((verb, key, nbytes))


def failing_at(number: int) -> Callable[[int, str, str], None]:
    """For `Watched`: every request from this number on fails."""

    def before(count: int, verb: str, key: str) -> None:
        if count >= number:
            raise RemoteUnavailable(remote="memory:", operation=f"{verb} {key}", problem="the line is cut")

    return before


def upload(repository: Repository, remote: HandMade, refs: Mapping[str, str] | None = None, **fields: Any) -> None:
    """What a push of all that a store has would leave on a remote that has nothing of it.

    Args:
        refs: those of the remote and what they name, as hex digits; those of the store if None.
    """
    database = repository.database
    database.refresh()
    chunks, metadata = Pack(), Pack()
    for identity, _ in sorted(database.tables.scan(t.ROWS)):
        row = database.row(identity)
        if row is not None:
            pack = metadata if row.kind else chunks
            pack.add(bytes(database.read(ObjectId(identity), Kind(row.kind))), kind=row.kind, element=row.element)
    named = {name: commit.hex() for name, commit in database.refs().items()} if refs is None else refs
    made = {name: RemoteRef(CommitId(ObjectId(bytes.fromhex(one))), 1, "test") for name, one in named.items()}
    drops = tuple(sorted(database.drops().values(), key=lambda drop: encode(drop[:4])))
    said = {"refs": made, "drops": drops, "runs": dict(database.all_run_settings()), **fields}
    remote.publish(*(pack for pack in (chunks, metadata) if pack.records), **said)
