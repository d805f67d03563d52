"""A store with thousands of commits and millions of chunks, made in a minute: for what looks at all of them at once.

Every commit has one component that lists so many chunks of 1 MiB, some of them new. Packs, components, trees, commits,
footers, journal and index are as `commit` would leave them; only the bytes of the chunks are holes in sparse files.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

import casckpt
from casckpt.format import pack as p
from casckpt.format.canonical import encode
from casckpt.format.chunking import CHUNK, INLINE_CHUNKS
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop, Entry, PackRef, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id, pack_id
from casckpt.format.objects import Component, Structure, Tree
from casckpt.odb import tables as t
from casckpt.odb.fold import fold
from casckpt.odb.index import Index
from casckpt.odb.journal import Journal, Position, Tail
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.positions import write_position
from casckpt.storage.local import LocalStorage

RUN = "train"
STARTED_NS = 1_700_000_000 * 10**9
INTERVAL_NS = 60 * 10**9
A_FRAME = 500
"""Commits in one frame."""
F32 = 11
_RECORD = np.dtype(
    {
        "names": ["id", "unit", "length", "stored", "check", "cost"],
        "formats": ["V32", "<u4", "<u4", "<u4", "V8", "u1"],
        "offsets": [0, 32, 36, 40, 48, 60],
        "itemsize": p.RECORD_BYTES,
    }
)
_FOOTER = struct.Struct("<8sIIQ")
_TRAILER = struct.Struct("<32sQQQ8s")
_ROW = struct.Struct("<IQIIBBBB")
Digests = npt.NDArray[np.void]
"""Shape (n,), 32 bytes each: ids."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What to make: commits, the chunks each lists, and how many of these are its own."""

    commits: int
    chunks: int
    fresh: int


@dataclass
class _Made:
    """What was made so far."""

    packs: list[PackRef]
    commits: list[tuple[CommitId, bytes]]
    records: list[bytes]
    """Of each pack."""


def make_store(path: Path, shape: Shape) -> list[CommitId]:
    """Make a store; the ids of its commits, the oldest first."""
    casckpt.init(path).close()
    made = _Made([], [], [])
    random = np.random.default_rng(0)
    structure = _structure(shape.chunks).encode()
    listed = _ids(random, shape.chunks)
    for number in range(shape.commits):
        fresh = listed if number == 0 else _ids(random, shape.fresh)
        places = (np.arange(len(fresh)) + number * shape.fresh) % shape.chunks
        listed[places] = fresh
        _add(path, made, structure, listed.tobytes(), fresh)
    _write_journal(path, made)
    return [identity for identity, _ in made.commits]


def drop_all(path: Path, commits: list[CommitId]) -> None:
    """Drop commits so long ago that nobody can take it back."""
    with casckpt.open(path) as store, store._repository.session() as session:
        drops = tuple(Drop(identity, None, "keep_last=1", STARTED_NS) for identity in commits)
        session.publish(lambda: (Entry("retain", STARTED_NS, drops=drops), []))


def _ids(random: np.random.Generator, count: int) -> Digests:
    return np.frombuffer(random.bytes(32 * count), "V32").copy()


def _structure(chunks: int) -> Structure:
    """Blobs of so many chunks of 1 MiB in all, none of which needs pages."""
    sizes = [min(INLINE_CHUNKS, chunks - start) * CHUNK for start in range(0, chunks, INLINE_CHUNKS)]
    return Structure(None, tuple(sizes), bytes([F32]) * len(sizes), ())


def _add(path: Path, made: _Made, structure: bytes, digests: bytes, fresh: Digests) -> None:
    """One more commit: a pack with its objects, and the commit object."""
    shape = object_id(Kind.STRUCTURE, structure)
    component = Component(shape, [], b"", digests).encode()
    tree = Tree(object_id(Kind.COMPONENT, component), ()).encode()
    number = len(made.commits)
    objects = [(Kind.COMPONENT, component), (Kind.TREE, tree)]
    _write_pack(path, made, [(Kind.STRUCTURE, structure), *objects] if number == 0 else objects, fresh)
    commit = Commit(
        tree=TreeId(object_id(Kind.TREE, tree)),
        parents=tuple(identity for identity, _ in made.commits[-1:]),
        run=RUN,
        time_ns=STARTED_NS + number * INTERVAL_NS,
        step=number,
        metrics={"val/loss": 2 / (number + 1)},
        nbytes=len(digests) // 32 * CHUNK,
    ).encode()
    made.commits.append((CommitId(object_id(Kind.COMMIT, commit)), commit))


def _write_pack(path: Path, made: _Made, objects: list[tuple[Kind, bytes]], fresh: Digests) -> None:
    """A pack with these objects and chunks that are holes."""
    header = p.encode_header()
    head, rows = bytearray(header), bytearray()
    for kind, data in objects:
        head += bytes(p.pad(len(head), p.UNIT))
        identity = object_id(kind, data)
        check = p.check_of(0, identity, kind, data)
        rows += p.Record(identity, len(head), len(data), len(data), kind, check=check).pack()
        head += data
    start = len(head) + p.pad(len(head))
    chunks = np.zeros(len(fresh), _RECORD)
    chunks["id"] = fresh
    chunks["unit"] = (start + np.arange(len(fresh)) * CHUNK) // p.UNIT
    chunks["length"] = chunks["stored"] = CHUNK
    chunks["check"] = fresh.view("V8")[::4]
    chunks["cost"] = 1
    rows += chunks.tobytes()
    hints = encode({})
    footer = _FOOTER.pack(p.FOOTER_MAGIC, len(rows) // p.RECORD_BYTES, len(hints), 0) + rows + hints
    identity, end = pack_id(header, footer), start + len(fresh) * CHUNK
    padding = bytes(p.pad(len(footer) + p.TRAILER_BYTES))
    nbytes = end + len(footer) + len(padding) + p.TRAILER_BYTES
    with open(os.open(path / pack_name(identity), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(head)
        file.seek(end)
        file.write(footer + padding + _TRAILER.pack(identity, end, len(footer), nbytes, p.TRAILER_MAGIC))
    made.packs.append(PackRef(identity, nbytes))
    made.records.append(bytes(rows))


def _write_journal(path: Path, made: _Made) -> None:
    """The frames that name it all, and an index that has taken them in."""
    storage = LocalStorage(path)
    with casckpt.open(path) as store:
        uuid = store._repository.format.uuid
    journal = Journal(storage, uuid)
    tail = journal.read_all()
    for entry in _entries(made):
        placed = journal.append(tail, entry.encode())
        end = Position(placed.file, placed.frame.end, placed.frame.seq + 1, placed.frame.hash)
        tail = Tail([], end, [], "clean")

    def fill(tables: t.WritableTables) -> None:
        found = journal.read_all()
        packs = {pack.id for pack in made.packs}
        for placed in found.frames:
            # As if the packs were to leave, since their rows come below, in the order of their keys: that is faster.
            entry = Entry.decode(placed.frame.payload)
            fold(tables, entry, placed.file, placed.payload_offset, cast(Any, None), packs)
        write_position(tables, found.position)
        for key, value in _rows(made):
            tables.put(t.ROWS, key, value)

    Index.build(str(path / "index"), fill)
    journal.close()


def _entries(made: _Made) -> Iterator[Entry]:
    yield Entry("commit", STARTED_NS, packs=tuple(made.packs))
    for start in range(0, len(made.commits), A_FRAME):
        part = made.commits[start : start + A_FRAME]
        objects = tuple(
            (p.Record(one, 0, len(data), len(data), Kind.COMMIT, check=p.check_of(0, one, Kind.COMMIT, data)), data)
            for one, data in part
        )
        old = made.commits[start - 1][0] if start else None
        yield Entry("commit", STARTED_NS, refs=(RefMove(f"runs/{RUN}/last", old, part[-1][0]),), objects=objects)


def _rows(made: _Made) -> Iterator[tuple[ObjectId, bytes]]:
    """The rows of all objects in packs, ascending."""
    counts = [len(rows) // p.RECORD_BYTES for rows in made.records]
    records = np.frombuffer(b"".join(made.records), np.dtype((np.void, p.RECORD_BYTES)))
    firsts = records.view(np.dtype((np.void, 8)))[:: p.RECORD_BYTES // 8].view(">u8")
    owners = np.repeat(np.arange(len(counts)), counts)
    for at in np.argsort(firsts).tolist():
        record = bytes(records[at])
        unit, length, stored = struct.unpack_from("<III", record, 32)
        bare = _ROW.pack(owners[at], unit * p.UNIT, stored, length, *record[56:60])
        key = ObjectId(record[:32])
        yield key, bare + zlib.crc32(bare, zlib.crc32(key)).to_bytes(4, "little")
