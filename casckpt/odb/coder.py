"""How new chunks are stored: raw, or encoded where that costs no time; and whether their numbers are finite.

    off      raw
    always   encoded wherever it saves 2 %
    auto     encoded if a sample of the content says that it pays on this machine: at all, where the workers encode
             twice as fast as the disk writes (`Speeds`, measured once per store and machine, never while committing);
             else only what shrinks to a quarter, which is encoded faster than any disk writes it raw

Nothing here changes an id or what is read back; repack may encode anew what lies raw.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from casckpt.errors import CasckptError, UsageError
from casckpt.format.codec import Codec
from casckpt.format.elements import element_code
from casckpt.format.encode import Encoder
from casckpt.format.finite import FINITE, NON_FINITE, UNSCANNED, is_finite
from casckpt.format.ids import Kind, object_id
from casckpt.odb.temporary import create_temporary
from casckpt.storage.base import Storage, read_exact, write_all
from casckpt.storage.pages import pages

Compress = Literal["auto", "always", "off"]
"""Policy for encoding new chunks."""

MEASURED_FROM = 64 << 20
"""States below are never worth a measurement of the disk."""
PAYS = 0.9
"""A sample that shrinks less than this is stored raw: the reader would pay more than the disk saves."""
ALWAYS_PAYS = 0.25
AHEAD = 2.0
"""How much faster than the disk the workers must encode: they copy and look up too, and others want the cores."""
_GLANCE_BYTES = 4 << 10
_NAME = "speeds"
_MAX_FILE_BYTES = 4096
_DISK_BYTES = 64 << 20
_DISK_S = 0.25


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one machine does with one store, in plain bytes a second.

    Args:
        machine: host name, since a store may move.
        write: to the disk, durable.
        encode: by one worker, hashing included, float32 of a normal distribution.
    """

    machine: str
    write: float
    encode: float


class ChunkCoder:
    """Codes the new chunks of one worker. Not thread-safe.

    Args:
        policy: of the commit.
        keeps_up: whether the workers together encode faster than the disk writes.
    """

    def __init__(self, policy: Compress, *, keeps_up: bool) -> None:
        self._policy = policy
        self._keeps_up = keeps_up
        self._encoder = Encoder()

    def pays(self, plain: memoryview, element: int) -> bool:
        """Whether a leaf of which this is a chunk should be encoded; a sample decides."""
        if self._policy != "auto":
            return self._policy == "always"
        if self._keeps_up:
            return self._encoder.sample_ratio(plain, element) <= PAYS
        middle = len(plain) // 2 // 16 * 16
        glance = plain[middle : middle + _GLANCE_BYTES]
        return len(self._encoder.encode(glance, element)[1]) <= len(glance) * ALWAYS_PAYS

    def code(self, plain: memoryview, element: int, *, encoded: bool) -> tuple[int, memoryview | bytes, int]:
        """(codec, stored bytes, flags) of a chunk; the stored bytes are `plain` itself if it stays raw."""
        finite = is_finite(plain, element)
        flags = UNSCANNED if finite is None else FINITE if finite else NON_FINITE
        if not encoded:
            return Codec.RAW, plain, flags
        codec, stored = self._encoder.encode(plain, element)
        return codec, memoryview(stored), flags


def check_policy(policy: str) -> Compress:
    """A policy by its name."""
    for known in get_args(Compress):
        if policy == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(problem=f"compress is one of {', '.join(get_args(Compress))}, not {policy!r}")


def keeps_up(storage: Storage, threads: int) -> bool:
    """Whether so many workers encode clearly faster than the disk of a store writes. Measures, the first time."""
    if storage.path is None or storage.read_only:
        return False
    speeds = _read(storage)
    if speeds is None or speeds.machine != os.uname().nodename:
        try:
            speeds = Speeds(os.uname().nodename, _measure_disk(storage), _measure_encoding())
            _write(storage, speeds)
        except CasckptError:  # a full disk is for the commit to report
            return False
    return speeds.encode * threads >= AHEAD * speeds.write


def _read(storage: Storage) -> Speeds | None:
    try:
        file = storage.open_read(_NAME)
    except FileNotFoundError:
        return None
    try:
        found = json.loads(read_exact(file, 0, min(file.size(), _MAX_FILE_BYTES)))
        return Speeds(str(found["machine"]), float(found["write"]), float(found["encode"]))
    except (ValueError, KeyError, TypeError):
        return None
    finally:
        file.close()


def _write(storage: Storage, speeds: Speeds) -> None:
    """Note what was measured. Not flushed: it can be measured again."""
    name, file = create_temporary(storage, _NAME)
    try:
        write_all(file, json.dumps(asdict(speeds)).encode(), 0)
    finally:
        file.close()
    storage.rename(name, _NAME)


def _measure_disk(storage: Storage) -> float:
    block = memoryview(pages(8 << 20))
    block[:] = os.urandom(1 << 20) * 8
    name, file = create_temporary(storage, _NAME, direct=True)
    try:
        start, done = time.perf_counter(), 0
        while done < _DISK_BYTES and time.perf_counter() - start < _DISK_S:
            write_all(file, block, done)
            done += len(block)
        file.sync()
        return done / (time.perf_counter() - start)
    finally:
        storage.unlink(name)
        file.close()


def _measure_encoding() -> float:
    import numpy as np

    plain = np.random.default_rng(0).standard_normal(1 << 18, np.float32).view(np.uint8).data
    encoder, best = Encoder(), float("inf")
    for _ in range(4):  # the first one makes the tables
        start = time.perf_counter()
        object_id(Kind.CHUNK, plain)
        encoder.encode(plain, element_code("float32"))
        best = min(best, time.perf_counter() - start)
    return len(plain) / best
