"""The journal on disk: `journal/<n>.log`, append-only files of frames; the highest number is the active one.

Ordering law: packs durable, then the frame that names them durable, then the acknowledgement. A frame is durable
when `append` returns. Appending and sealing happen under the journal lock; reading needs no lock.

A file is sealed when it holds 1 000 frames or 16 MiB: file n + 1 starts with a snapshot (an entry with `reset`, and
ordinary entries behind it if it is long) and gets its name only when it is durable, so file n stays the active one
until then.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from casckpt.errors import CasckptError, DamagedFile, IntegrityError, TooLarge
from casckpt.format.entry import Entry
from casckpt.format.frame import HEADER_BYTES, NO_HASH, OVERHEAD, Frame, Scan, encode_frame, scan
from casckpt.format.limits import MAX_FRAME_BYTES
from casckpt.odb.temporary import create_temporary
from casckpt.storage.base import Storage, WriteFile, read_exact, write_all

FOLDER = "journal"
SEAL_FRAMES = 1000
SEAL_BYTES = 16 << 20


class Rewound(Exception):
    """The frame before a position is not there any more: its writer failed to make it durable and cut it off."""


class Position(NamedTuple):
    """A place between two frames: everything before it is known. `hash` is that of the frame before."""

    file: int
    offset: int
    seq: int
    hash: bytes
    after_damage: bool = False
    """Whether bytes that hold no frame lie between that frame and this place."""


class Placed(NamedTuple):
    """A frame and the number of the file it is in."""

    file: int
    frame: Frame

    @property
    def payload_offset(self) -> int:
        return self.frame.offset + HEADER_BYTES


class Tail(NamedTuple):
    """What was found behind a position: frames, the new position, and what lies behind that (see format.frame)."""

    frames: list[Placed]
    position: Position
    gaps: list[tuple[int, int, int]]
    """(file, start, end) of bytes that hold no valid frame though frames or damage follow."""
    kind: str


def file_name(number: int) -> str:
    """Name of a journal file."""
    return f"{FOLDER}/{number}.log"


class Journal:
    """Reads and extends the journal. Not thread-safe; `append` and `seal` only under the journal lock."""

    def __init__(self, storage: Storage, uuid: bytes) -> None:
        self._storage = storage
        self._uuid = uuid
        self._writer: tuple[int, WriteFile] | None = None
        self._first = (-1, 0)
        self._named: set[int] = set()
        """Files whose name this process made durable."""
        self._durable: Position | None = None
        """The end of the last frame that this process made durable."""
        self._cut_back = False
        """Whether the last append failed: what it left behind must be durably gone before the next frame."""

    def close(self) -> None:
        """Let go of the file that was appended to."""
        if self._writer is not None:
            self._writer[1].close()
            self._writer = None

    def files(self) -> list[int]:
        """Numbers of the journal files, ascending."""
        names = (name.removesuffix(".log") for name in self._storage.list(FOLDER) if name.endswith(".log"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def holds(self, position: Position) -> bool:
        """Whether the journal still has the frame before `position`."""
        try:
            return position.offset >= OVERHEAD and self._scan(position) is not None
        except Rewound:
            return False

    def read_all(self) -> Tail:
        """Everything from the newest snapshot on.

        Raises:
            DamagedFile: if there is no journal file, or no frame in any.
        """
        numbers = self.files()
        if not numbers:
            raise DamagedFile(file="journal/", problem="there is no journal file")
        for start in reversed(numbers):
            tail = self.read(Position(start, 0, -1, NO_HASH))
            # A file whose snapshot is damaged is read together with the one before it.
            if start == numbers[0] or _has_whole_snapshot(tail, start):
                if not tail.frames:
                    raise DamagedFile(file=file_name(start), problem="it holds no valid frame")
                return tail
        raise AssertionError("unreachable: the loop returns for the first number")

    def read(self, position: Position) -> Tail:
        """What was appended after `position`, through all later files."""
        frames: list[Placed] = []
        gaps: list[tuple[int, int, int]] = []
        kind = "clean"
        while True:
            # Look for the next file first: once it exists, this one is complete.
            later = self._storage.size(file_name(position.file + 1)) is not None
            found = self._scan(position)
            if found is not None:
                if position.offset == 0 <= position.seq and found.frames and found.frames[0].seq != position.seq:
                    gaps.append((position.file, 0, 0))
                frames += (Placed(position.file, frame) for frame in found.frames)
                gaps += ((position.file, start, end) for start, end in found.gaps)
                kind = found.tail
                last = found.frames[-1] if found.frames else None
                position = Position(
                    position.file,
                    found.end,
                    last.seq + 1 if last else position.seq,
                    last.hash if last else position.hash,
                    found.end != last.end if last else position.after_damage or found.tail == "damage",
                )
            if not later:
                return Tail(frames, position, gaps, kind)
            if kind == "torn":
                gaps.append((position.file, position.offset, position.offset))
            position = Position(position.file + 1, 0, position.seq, position.hash)

    def read_file(self, number: int) -> Tail:
        """Everything in one file."""
        start = Position(number, 0, -1, NO_HASH)
        found = self._scan(start)
        if found is None:
            return Tail([], start, [], "clean")
        frames = [Placed(number, frame) for frame in found.frames]
        gaps = [(number, start, end) for start, end in found.gaps]
        return Tail(frames, start._replace(offset=found.end), gaps, found.tail)

    def _scan(self, position: Position) -> Scan | None:
        """Frames from `position` to the end of its file, None if the file is absent.

        Raises:
            Rewound: the bytes before the position are not what they were.
        """
        try:
            file = self._storage.open_read(file_name(position.file))
        except FileNotFoundError:
            if position.offset:
                raise Rewound from None
            return None
        try:
            known = min(position.offset, 32) if position.seq >= 0 else 0
            data = read_exact(file, position.offset - known, max(file.size() - position.offset, 0) + known)
        finally:
            file.close()
        # Behind damage the bytes before a position are no hash, so only a frame's end can be compared.
        if known and data[:known] != position.hash and not position.after_damage:
            raise Rewound
        # A file may start with a higher seq than expected, since the end of the one before it can be lost.
        seq = position.seq if position.seq >= 0 else None
        previous = position.hash if position.offset else None
        return scan(memoryview(data)[known:], self._uuid, offset=position.offset, seq=seq, previous=previous)

    def append(self, tail: Tail, payload: bytes) -> Placed:
        """Make one more frame durable behind `tail`, which must be the result of a read under the same lock.

        On failure the file is cut back to where it was, so that the frame is absent.

        Raises:
            StorageError: the disk failed or is full.
        """
        at = tail.position
        _check_size(payload)
        writer = self._open(at.file)
        frame = encode_frame(self._uuid, at.seq, at.hash, payload)
        try:
            self._make_way(writer, tail)
            self._write(writer, frame, at)
        except BaseException:
            # An error of sync is final for this descriptor: the next append opens the file again.
            self.close()
            raise
        self._durable = Position(at.file, at.offset + len(frame), at.seq + 1, frame[-32:])
        body = memoryview(frame)[HEADER_BYTES:-32]
        return Placed(at.file, Frame(at.seq, at.offset, body, frame[-32:]))

    def make_durable(self, at: Position) -> None:
        """See that everything before a place is durable: who wrote it may have been killed before it was.

        Raises:
            StorageError: the disk failed.
        """
        writer = self._open(at.file)
        if self._durable != at:
            try:
                writer.sync()
            except BaseException:
                self.close()  # an error of sync is final for this descriptor
                raise
            self._durable = at

    def _make_way(self, writer: WriteFile, tail: Tail) -> None:
        """Make what is before the next frame durable, and what is in its place blank."""
        at = tail.position
        if tail.kind == "torn" or self._cut_back:
            self._cut(writer, at)
        elif writer.size() > at.offset:
            self._check_blank(at)
        if self._durable != at:
            # The frame before is another's, who may have been killed before it was durable. A power loss must not
            # take that one and leave this one, which can rely on it.
            writer.sync()

    def _write(self, writer: WriteFile, frame: bytes, at: Position) -> None:
        try:
            write_all(writer, frame, at.offset)
            writer.sync()
        except BaseException:
            self._cut_back = True
            with contextlib.suppress(CasckptError):
                writer.truncate(at.offset)
            raise

    def _open(self, number: int) -> WriteFile:
        if self._writer is None or self._writer[0] != number:
            self.close()
            if number not in self._named:
                # Whoever made the file may have been killed before its name was durable.
                self._storage.sync_dir(FOLDER)
                self._named.add(number)
            self._writer = (number, self._storage.open_write(file_name(number)))
        return self._writer[1]

    def _check_blank(self, at: Position) -> None:
        """Refuse to write over anything but zeros: a frame there would mean that `at` is not the end."""
        if any(self._rest(at)):
            raise DamagedFile(file=file_name(at.file), problem=f"bytes appeared behind the end at {at.offset}")

    def _rest(self, at: Position) -> bytes:
        file = self._storage.open_read(file_name(at.file))
        try:
            return read_exact(file, at.offset, max(file.size() - at.offset, 0))
        finally:
            file.close()

    def _cut(self, writer: WriteFile, at: Position) -> None:
        """Cut off a torn tail; a copy goes to trash/, since it could be a damaged frame that looks torn.

        The cut is durable before anything is written behind it: else a second power loss could mix the old tail with
        the new frame.
        """
        rest = self._rest(at)
        if len(rest) > OVERHEAD:
            with contextlib.suppress(CasckptError, FileExistsError, FileNotFoundError):
                copy = self._storage.create(f"trash/journal-{at.file}-{at.offset}-{os.urandom(4).hex()}.torn")
                write_all(copy, rest, 0)
                copy.close()
        writer.truncate(at.offset)
        writer.sync()
        self._cut_back = False

    def is_full(self, position: Position) -> bool:
        """Whether the file of `position` is due to be sealed."""
        if position.offset >= SEAL_BYTES:
            return True
        if self._first[0] != position.file:
            file = self._storage.open_read(file_name(position.file))
            try:
                self._first = (position.file, int.from_bytes(read_exact(file, 8, 8), "little"))
            finally:
                file.close()
        return position.seq - self._first[1] >= SEAL_FRAMES

    def end_file(self, tail: Tail) -> None:
        """Leave nothing torn behind the last frame of a file that another is to follow.

        Once one follows, a torn tail tells of a lost frame, and nothing is freed any more.

        Raises:
            StorageError: the disk failed.
        """
        if tail.kind == "torn" or self._cut_back:
            self._cut(self._open(tail.position.file), tail.position)

    def start_file(self, at: Position, payloads: Sequence[bytes]) -> Tail:
        """Begin the file behind that of `at` with these payloads, durable and complete before it gets its name."""
        name = file_name(at.file + 1)
        frames: list[Placed] = []
        offset, seq, previous = 0, at.seq, at.hash
        temporary, file = create_temporary(self._storage, "journal")
        try:
            for payload in payloads:
                _check_size(payload)
                frame = encode_frame(self._uuid, seq, previous, payload)
                write_all(file, frame, offset)
                body = memoryview(frame)[HEADER_BYTES:-32]
                frames.append(Placed(at.file + 1, Frame(seq, offset, body, frame[-32:])))
                offset, seq, previous = offset + len(frame), seq + 1, frame[-32:]
            file.sync()
            self._storage.rename(temporary, name)
        except BaseException:
            with contextlib.suppress(CasckptError, FileNotFoundError):
                self._storage.unlink(temporary)
            raise
        finally:
            file.close()
        # From here on the new file is the active one for everybody. Taking its name back after a failure could come
        # undone in a power loss, when frames had gone to the old file again; so the next writer makes it durable.
        self._storage.sync_dir(FOLDER)
        self._named.add(at.file + 1)
        self._durable = Position(at.file + 1, offset, seq, previous)
        return Tail(frames, self._durable, [], "clean")

    def remove_before(self, number: int) -> list[int]:
        """Remove the files before one, the oldest first, durably; the numbers of those that are gone.

        Only under the journal lock. What they say is then known from that file's snapshot alone, so it is read first.

        Raises:
            DamagedFile: a part of that snapshot cannot be read; nothing was removed.
            StorageError: the disk failed. What is left is whole, and removing again goes on.
        """
        older = [one for one in self.files() if one < number]
        if not older:
            return []
        if not _has_whole_snapshot(self.read_file(number), number):
            raise DamagedFile(file=file_name(number), problem="its snapshot is not whole, so older files must stay")
        # Its name may be that of a writer who was killed before it was durable.
        self._storage.sync_dir(FOLDER)
        for one in older:
            with contextlib.suppress(FileNotFoundError):
                self._storage.unlink(file_name(one))
        self._storage.sync_dir(FOLDER)
        return older


def _check_size(payload: bytes) -> None:
    """No frame may be written that a reader refuses."""
    if len(payload) > MAX_FRAME_BYTES:
        raise TooLarge(object="a journal entry", size=f"{len(payload)} bytes", limit=f"{MAX_FRAME_BYTES} bytes")


def _has_whole_snapshot(tail: Tail, file: int) -> bool:
    """Whether all entries of the snapshot that opens a file can be read: none before the first ordinary one is lost."""
    if not tail.frames or tail.frames[0].frame.offset:
        return False
    ordinary = (
        placed.frame.offset
        for placed in tail.frames[1:]
        if placed.file == file and not _is_of_snapshot(placed.frame.payload)
    )
    first = next(ordinary, tail.position.offset)
    return not any(number == file and start < first for number, start, _ in tail.gaps)


def _is_of_snapshot(payload: bytes | memoryview) -> bool:
    try:
        return Entry.decode(payload).op == "snapshot"
    except IntegrityError:
        return False
