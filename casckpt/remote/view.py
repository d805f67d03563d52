"""What a remote is at this moment: its newest root, proven to follow the last one seen, and where its objects lie.

    LIST root/ from the last number seen on -> GET what is newer, link by link -> `seen` durable -> act on it

Whatever a remote sends is taken for hostile: sizes are capped before anything is fetched, hashes and links compared,
and nothing of a root is used before all of it was checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from casckpt.errors import FormatError, IntegrityError, RemoteUnavailable, RemoteUntrusted, RolledBack
from casckpt.format.ids import ObjectId, checksum
from casckpt.format.remote import MAX_ROOT_BYTES, RemoteRoot, SegmentRef, root_key, root_seq
from casckpt.format.remote_about import ABOUT_KEY, MAX_ABOUT_BYTES, RemoteAbout
from casckpt.format.remote_index import Row, Segment, SegmentPack
from casckpt.remote.folder import RemoteFolder
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.objects import Objects

LINKS_MAX = 64
"""Newer roots that are followed link by link. Behind more than these, the last one seen is as if it had been removed:
a collector removes old roots, so that whoever was away for long cannot be told of them in any case."""
WALK_MAX = 4096
"""Roots that are read to tell what was condemned; an upload during which there were more is made again."""
_TRIES = 20
_MAX_ROOT_FILE = MAX_ROOT_BYTES + 64
_MAX_SEEN_BYTES = 256
T = TypeVar("T")
Place = tuple[int, bytes]
"""Number and hash of a root; (0, empty) is before the first."""


class Found(NamedTuple):
    """Where an object lies: `row` is in a segment that lists `pack`."""

    pack: SegmentPack
    row: Row


class RemoteView:
    """The newest root of a remote that this store has seen, and its segments. One thread at a time.

    Invariant: no root comes here before its number and hash are durable in the folder, so that a remote which was set
    back later is told from one that was always so.

    Args:
        objects: the remote.
        folder: what the store remembers of it; None to remember nothing.
    """

    def __init__(self, objects: Objects, folder: RemoteFolder | None = None) -> None:
        self.objects = objects
        self.folder = RemoteFolder(MemoryStorage(), "memory") if folder is None else folder
        self.root: RemoteRoot | None = None
        self.root_hash: bytes | None = None
        self.breaks = 0
        """How often a root was taken in without proof that the one before leads to it: those between had been removed.
        What was true of the one before, by its epoch say, is then not known of the new one."""
        self._root_bytes = 0
        self._about: RemoteAbout | None = None
        self._segments: dict[str, Segment] = {}

    # -- roots

    def refresh(self, *, accept_rollback: bool = False) -> RemoteRoot | None:
        """Take in what was pushed since the last look; the newest root, None of an empty remote.

        Args:
            accept_rollback: take a remote as it is, even if it is older than it was.

        Raises:
            RolledBack: the last root seen is gone without a newer one, or the newer ones do not follow it.
            RemoteUntrusted: a root is not what a root can be.
            RemoteUnavailable: the newest is listed, and not there, however often it is asked for.
            FormatError: the remote is of a newer format.

        Cost: one listing, and one request for each newer root; one more for a root that was not kept, and one where
        roots between are gone.
        """
        is_alarmed = False
        for _ in range(_TRIES):
            seen = None if accept_rollback else self._seen()
            listed = self.numbers(0 if seen is None else seen[0] - 1)
            try:
                if seen is not None:
                    self._follow(*seen, listed)
                elif listed:
                    self._read_about()
                    self.adopt(*self.read_root(max(listed)), accept_rollback=accept_rollback)
                elif accept_rollback:
                    self.folder.remove("seen")
                    self.root = self.root_hash = None
                return self.root
            except FileNotFoundError:  # removed since it was listed, which happens only where there is a newer one
                continue
            except RolledBack:
                # A folder is not listed in one moment: the old may be gone before the new is seen. Then look again.
                if is_alarmed:
                    raise
                is_alarmed = True
        raise self._unavailable(root_key(max(listed)), "it is listed, and not there")

    def adopt(self, root: RemoteRoot, data: bytes, *, accept_rollback: bool = False) -> None:
        """Take a root in whose file this is, unless a newer one is known."""
        identity = checksum(data)
        with self.folder.locked():
            seen = remembered(self.folder)
            if seen is None or accept_rollback or seen[0] < root.seq:
                self.folder.write("seen", f"{root.seq} {identity.hex()}\n".encode(), durable=True)
                self.folder.write("root", data)
        self.root, self.root_hash, self._root_bytes = root, identity, len(data)
        live = {one.key for one in root.segments}
        self._segments = {key: segment for key, segment in self._segments.items() if key in live}
        for name in self.folder.list("index"):
            if f"index/{name}" not in live:
                self.folder.remove(f"index/{name}")

    def read_root(self, seq: int) -> tuple[RemoteRoot, bytes]:
        """A root by its number, and its file. FileNotFoundError if it is not there."""
        key = root_key(seq)
        data = self.objects.get(key, limit=_MAX_ROOT_FILE)
        root = self._checked(key, lambda: RemoteRoot.decode(data))
        if root.seq != seq:
            raise self._untrusted(key, f"it says that it is number {root.seq}")
        return root, data

    def numbers(self, after: int) -> dict[int, int]:
        """The lengths of the roots above a number, by their numbers, as one listing tells."""
        found: dict[int, int] = {}
        for listed in self.objects.list("root/", root_key(after) if after > 0 else ""):
            try:
                seq = root_seq(listed.key)
            except IntegrityError:  # of no root: a file that some tool left there, say
                continue
            if seq > after:
                found[seq] = listed.nbytes
        return found

    @property
    def place(self) -> Place:
        """Where the newest root is in the chain; of an empty remote where the first comes after."""
        return (0, b"") if self.root is None or self.root_hash is None else (self.root.seq, self.root_hash)

    def condemned_since(self, place: Place) -> set[str] | None:
        """The keys that roots after one condemned, the newest root among them; None if that cannot be told.

        A key that was removed is condemned no more, so that it is not enough to ask the newest root: a late request
        may bring the file back, and one as late remove it again.

        Cost: a request for each root between.
        """
        root, condemned = self.root, set[str]()
        while root is not None and place[0] < root.seq <= place[0] + WALK_MAX:
            condemned.update(root.condemned)
            if root.seq == place[0] + 1:
                return condemned if (root.prev or b"") == place[1] else None
            try:
                before, data = self.read_root(root.seq - 1)
            except FileNotFoundError:
                return None
            root = before if checksum(data) == root.prev else None
        return condemned if self.place == place else None

    def _seen(self) -> tuple[int, bytes] | None:
        """Number and hash of the newest root seen; takes the root itself in if it was kept, and nothing newer is."""
        seen = remembered(self.folder)
        if seen is not None and (self.root is None or self.root.seq < seen[0]):
            data = _kept(self.folder, seen)
            if data is not None:
                self.breaks += self.root is not None  # another process has seen it follow, and perhaps not by links
                self.root = self._checked("the root that was kept", lambda: RemoteRoot.decode(data))
                self.root_hash, self._root_bytes = seen[1], len(data)
        if self.root is not None and self.root_hash is not None and (seen is None or seen[0] < self.root.seq):
            return self.root.seq, self.root_hash
        return seen

    def _follow(self, seq: int, identity: bytes, listed: Mapping[int, int]) -> None:
        """Go from the root seen to the newest one, along the links as far as the roots between are there."""
        if not listed:
            raise self._rolled_back(f"it had root {seq}, and there is none of this number or above")
        newest = max(listed)
        if newest == seq:
            self._stay(seq, identity, listed[seq])
            return
        links: dict[int, tuple[bytes | None, bytes]] = {}
        follows = range(seq + 1, newest) if newest - seq <= LINKS_MAX else ()
        for number in [*(number for number in follows if number in listed), newest]:
            try:
                root, data = self.read_root(number)
            except FileNotFoundError:
                if number == newest:
                    raise
                continue  # removed meanwhile, with those before it
            links[number] = root.prev, checksum(data)
        number = newest
        # From the newest back: where a link breaks is a number that was used and removed before, and that somebody who
        # had slept created once more. It is no part of the chain, and the real one is gone as if it were not listed.
        while number - 1 in links and links[number][0] == links[number - 1][1]:
            number -= 1
        if number == seq + 1 and links[number][0] != identity:
            raise self._rolled_back(f"its root {number} does not follow the root {seq} that it had")
        if number != seq + 1 and self.numbers(newest):
            # Nothing proves what was read: its number may have been used again since it was listed.
            raise FileNotFoundError(root_key(newest))
        self.breaks += number != seq + 1 or identity != self.root_hash
        self.adopt(root, data)

    def _stay(self, seq: int, identity: bytes, nbytes: int) -> None:
        """See that the root seen is still the newest, and is the same."""
        if self.root is not None and self.root.seq == seq:
            if nbytes != self._root_bytes:
                raise self._rolled_back(f"its root {seq} has another length than it had")
            return
        root, data = self.read_root(seq)
        if checksum(data) != identity:
            raise self._rolled_back(f"its root {seq} is another one than it was")
        self.adopt(root, data)

    def _read_about(self) -> None:
        """See that the remote is of a format that this release knows; once for each store."""
        kept = self.folder.read("about", MAX_ABOUT_BYTES)
        if kept is not None:
            with contextlib.suppress(IntegrityError):  # a power loss may have torn what is kept
                self._about = RemoteAbout.decode(kept)
                return
        try:
            data = self.objects.get(ABOUT_KEY, limit=MAX_ABOUT_BYTES)
        except FileNotFoundError:
            raise self._untrusted(ABOUT_KEY, "it is not there, though there are roots") from None
        self._about = self._checked(ABOUT_KEY, lambda: RemoteAbout.decode(data))
        self.folder.write("about", data)

    # -- segments

    def segments(self) -> list[Segment]:
        """The live segments, those that are not kept fetched.

        Raises:
            RemoteUntrusted: one is not what the root says.
            RemoteUnavailable: one is not there, though the newest root names it.

        Memory: 52 bytes for each object of the remote.
        """
        for _ in range(_TRIES):
            root = self.root
            try:
                return [] if root is None else [self._segment(one) for one in root.segments]
            except FileNotFoundError as error:
                if self.refresh() is root:
                    raise self._unavailable(error.args[0], "the newest root names it, and it is not there") from None
        raise self._unavailable("its segments", "they go faster than they can be read")

    def find(self, identity: ObjectId) -> Found | None:
        """A place of an object, None if the remote has it not. What is condemned counts as gone."""
        condemned = () if self.root is None else self.root.condemned
        for segment in self.segments():
            row = segment.find(identity)
            if row is not None and segment.packs[row.pack].key not in condemned:
                return Found(segment.packs[row.pack], row)
        return None

    def _segment(self, one: SegmentRef) -> Segment:
        known = self._segments.get(one.key)
        if known is None:
            data = self.folder.read(one.key, one.nbytes)
            if data is not None and _is(one, data):
                kept = data
                known = self._checked(one.key, lambda: Segment.decode(kept, is_known=True))
            else:
                known = self._fetch_segment(one)
            self._segments[one.key] = known
        return known

    def _fetch_segment(self, one: SegmentRef) -> Segment:
        try:
            data = self.objects.get(one.key, limit=one.nbytes)
        except FileNotFoundError:
            raise FileNotFoundError(one.key) from None
        if not _is(one, data):
            raise self._untrusted(one.key, "its bytes are not those that its key names")
        segment = self._checked(one.key, lambda: Segment.decode(data))
        if (len(segment.packs), len(segment)) != (one.packs, one.rows):
            raise self._untrusted(one.key, "it has other counts than its root says")
        self.folder.write(one.key, data)
        return segment

    def keep_segment(self, key: str, data: bytes) -> None:
        """Remember a segment that this store has made, so that nobody fetches it."""
        self.folder.write(key, data)

    # -- errors

    def _checked(self, key: str, decode: Callable[[], T]) -> T:
        try:
            return decode()
        except FormatError:
            raise
        except IntegrityError as error:
            raise self._untrusted(key, str(error)) from error

    def _untrusted(self, key: str, problem: str) -> RemoteUntrusted:
        return RemoteUntrusted(remote=self.objects.url, problem=f"{key}: {problem}")

    def _unavailable(self, key: str, problem: str) -> RemoteUnavailable:
        return RemoteUnavailable(remote=self.objects.url, operation=f"read {key}", problem=problem)

    def _rolled_back(self, problem: str) -> RolledBack:
        return RolledBack(remote=self.objects.url, problem=problem)


def kept_root(folder: RemoteFolder) -> RemoteRoot | None:
    """The newest root of a remote that this store has seen, without a request; None if it was not kept."""
    seen = remembered(folder)
    data = None if seen is None else _kept(folder, seen)
    try:
        return None if data is None else RemoteRoot.decode(data)
    except (IntegrityError, FormatError):
        return None


def remembered(folder: RemoteFolder) -> tuple[int, bytes] | None:
    """Number and hash of the newest root of a remote that this store has seen."""
    data = folder.read("seen", _MAX_SEEN_BYTES)
    words = [] if data is None else data.decode("ascii", "replace").split()
    try:
        seq, identity = int(words[0]), bytes.fromhex(words[1])
    except (ValueError, IndexError):
        return None
    return (seq, identity) if seq > 0 and len(identity) == 32 else None


def _kept(folder: RemoteFolder, seen: tuple[int, bytes]) -> bytes | None:
    data = folder.read("root", _MAX_ROOT_FILE)
    return data if data is not None and checksum(data) == seen[1] else None


def _is(one: SegmentRef, data: bytes) -> bool:
    return len(data) == one.nbytes and checksum(data).hex() == one.key[6:70]
