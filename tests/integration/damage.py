"""A store with a bit of everything, what each of its commits needs, and flips of single bits in its files.

    python -m tests.integration.damage STORE EXPECTED     flips bits of the index as its input says, one answer a line

The process is the judge of flips in files that are mapped into memory: if one kills it, its parent sees that.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import casckpt
from casckpt.errors import CasckptError
from casckpt.format import pack as p
from casckpt.format.entry import Entry
from casckpt.format.ids import ObjectId
from casckpt.odb import journal
from casckpt.odb.journal import file_name
from casckpt.odb.repository import Repository
from casckpt.ops.load import Loader
from casckpt.storage.local import LocalStorage

SEAL_FRAMES = 8


def state_of(seed: int, size: int) -> dict[str, Any]:
    """Nothing in it is zero for long, so that a damaged frame never looks like a page that was not written."""
    rng = np.random.default_rng([7, seed])

    def noise(count: int) -> Any:
        return rng.integers(1, 256, count, np.uint8)

    return {
        "model": {"large": noise(size), "small": [noise(900 + number) for number in range(4)], "tiny": noise(9)},
        "optimizer": {"moments": noise(300).view(np.uint16), "step": seed, "text": "x" * 40},
        "epoch": seed / 7,
    }


@dataclass
class Sample:
    """A store on disk, its states by commit, and which objects each commit needs for which leaves."""

    path: Path
    states: dict[str, Any] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    needs: dict[str, dict[ObjectId, set[str]]] = field(default_factory=dict)

    def learn(self) -> None:
        """Fill in `refs` and `needs` from the store, while it is whole."""
        with opened(self.path) as store:
            database = store._repository.database
            self.refs = {name: identity.hex() for name, identity in database.refs().items()}
            for text in self.states:
                identity = ObjectId(bytes.fromhex(text))
                commit = database.commit(identity)
                loader = Loader(database, identity, commit)
                needs: dict[ObjectId, set[str]] = {commit.tree: {"the whole state"}}
                for loaded in loader.components(loader.tree()):
                    where = {loaded.name or "the root of the state"}
                    needs.setdefault(loaded.identity, set()).update(where)
                    needs.setdefault(loaded.component.structure, set()).update(where)
                    for blob in range(len(loaded.structure.sizes)):
                        for span in loader.spans(loaded, blob):
                            needs.setdefault(span.chunk, set()).update(loaded.paths_of({blob}))
                self.needs[text] = needs


def build(path: Path) -> Sample:
    """Two runs, tiny commits and packs in turn, what is shared and what is not, sealed files, a tag, an index."""
    sample = Sample(path)
    seal_frames, journal.SEAL_FRAMES = journal.SEAL_FRAMES, SEAL_FRAMES
    try:
        with casckpt.init(path) as store:
            for number in range(14):
                size = (70_000, 600, 280_000, 1000, 1200)[number % 5]
                state = state_of(number - (number % 4 == 3), size)
                run = ("alpha", "beta")[number % 3 == 2]
                info = store.commit(state, run=run, step=number, metrics={"loss": 1 / (number + 1)}, best="loss:min")
                sample.states[info.id] = state
                if number == 2:
                    store.tag("kept", info.id)
    finally:
        journal.SEAL_FRAMES = seal_frames
    sample.learn()
    return sample


@contextlib.contextmanager
def opened(path: Path, *, indexed: bool = True, read_only: bool = True) -> Iterator[casckpt.Store]:
    """The store, which by default is not changed by being opened."""
    storage = LocalStorage(path, read_only=read_only)
    if not indexed:
        storage.path = None
    store = casckpt.Store(Repository(storage))
    try:
        yield store
    finally:
        store.close()


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal in type and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(a == b)


class Flip(NamedTuple):
    """One bit of one file; `where` says what the byte is for."""

    file: str
    offset: int
    bit: int
    keeps_time: bool
    where: str = ""
    object: ObjectId | None = None


@contextlib.contextmanager
def flipped(path: Path, flip: Flip) -> Iterator[None]:
    """The store with that bit flipped; back as it was afterwards, wherever the file is then."""
    target = path / flip.file
    times = target.stat()
    toggle(target, flip, times if flip.keeps_time else None)
    try:
        yield
    finally:
        toggle(target, flip, times)


def toggle(target: Path, flip: Flip, times: os.stat_result | None = None) -> None:
    """Flip the bit, and give the file back its times."""
    descriptor = os.open(target, os.O_RDWR)
    try:
        byte = os.pread(descriptor, 1, flip.offset)[0]
        os.pwrite(descriptor, bytes([byte ^ 1 << flip.bit]), flip.offset)
    finally:
        os.close(descriptor)
    if times is not None:
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


class Region(NamedTuple):
    """Bytes [start, end) of a file, and what they are for; `object` if they are its stored bytes."""

    start: int
    end: int
    where: str
    object: ObjectId | None = None


def regions_of_pack(data: bytes) -> list[Region]:
    """What every byte of a whole pack is for; what no region covers is padding."""
    identity, offset, size = p.decode_trailer(data[-p.TRAILER_BYTES :], len(data))
    contents = p.decode_footer(data[: p.BLOCK], data[offset : offset + size], offset, identity)
    found = [Region(0, p.BLOCK, "header"), Region(offset, offset + size, "footer")]
    found.append(Region(len(data) - p.TRAILER_BYTES, len(data), "trailer"))
    found += [Region(r.offset, r.offset + r.stored, "payload", r.id) for r in contents.records]
    for at in range(p.BLOCK, offset, p.BLOCK):
        length = p.extent_bytes(data[at : at + 64])
        if length:
            found.append(Region(at, at + length, "extent"))
    return padded(sorted(found), len(data))


def padded(regions: list[Region], size: int) -> list[Region]:
    """The regions, and one called padding for every hole between them."""
    found, position = [], 0
    for region in [*regions, Region(size, size, "")]:
        if region.start > position:
            found.append(Region(position, region.start, "padding"))
        if region.where:
            found.append(region)
        position = max(position, region.end)
    return found


class Part(NamedTuple):
    """A part of a journal frame, what the frame is there for, and all objects it holds, itself or in packs it adds."""

    region: Region
    op: str
    held: frozenset[ObjectId]


def parts_of_journal(sample: Sample) -> dict[str, list[Part]]:
    """Every frame of every journal file as header, head, objects and hash."""
    found: dict[str, list[Part]] = {}
    with opened(sample.path) as store:
        database = store._repository.database
        for number in database.journal.files():
            parts = found[file_name(number)] = []
            for placed in database.journal.read_file(number).frames:
                frame, start = placed.frame, placed.payload_offset
                entry = Entry.decode(frame.payload)
                objects = [(record.offset, record.stored, record.id) for record, _ in entry.objects]
                packed = (record.id for pack in entry.packs for record in database.packs.records(pack))
                held = frozenset((*(identity for _, _, identity in objects), *packed))
                first = min((offset for offset, _, _ in objects), default=len(frame.payload))
                regions = [Region(frame.offset, start, "frame header"), Region(start, start + first, "head")]
                for offset, length, identity in objects:
                    regions.append(Region(start + offset, start + offset + length, "object", identity))
                regions.append(Region(frame.end - 32, frame.end, "hash"))
                parts += [Part(region, entry.op, held) for region in regions]
    return found


def lost_commits(held: frozenset[ObjectId], sample: Sample) -> set[str]:
    """Commits whose own object is among these."""
    return {identity.hex() for identity in held} & set(sample.states)


def verdict(store: casckpt.Store, revision: str, state: Any) -> str:
    """`right`, `wrong`, or the name of the error of a checkout."""
    try:
        found = store.checkout(revision)
    except CasckptError as error:
        return type(error).__name__
    return "right" if same(found, state) else "wrong"


def _judge(path: Path, expected: dict[str, Any], flip: Flip) -> str:
    pristine = path.parent / "index"
    if not pristine.exists():
        shutil.copytree(path / "index", pristine)
    toggle(path / flip.file, flip, os.stat(path / flip.file) if flip.keeps_time else None)
    with casckpt.open(path) as store:
        bad = {verdict(store, identity, state) for identity, state in expected.items()} - {"right"}
        problems = [finding.what for finding in store.fsck("full").findings]
    shutil.rmtree(path / "index")
    shutil.copytree(pristine, path / "index")
    return "ok" if not bad and not problems else f"{sorted(bad)} {problems}"


def main(path: Path, expected: Path) -> None:
    states = pickle.loads(expected.read_bytes())
    for line in sys.stdin:
        file, offset, bit, keeps_time = line.split()
        print(_judge(path, states, Flip(file, int(offset), int(bit), keeps_time == "True")), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
