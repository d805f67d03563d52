"""A bundle: one file that is a whole remote, for machines without a network between them.

    member `bundle` | an object of the remote after another, each a member under its key | directory of the zip

It is a zip archive of members that are stored as they are (format-v1.md, section 13), so any unzip can look into it,
and an object is read by its range. The directory comes last and the file is built aside, so that one which is cut
short never has the name of a bundle, and could not be read as one either.

What is read is hostile: `foreign.zips` compares every place of the archive that says the same thing twice and refuses
members that overlap; here only members under keys of a remote pass, stored as they are. What they hold is for the
reader of a remote to judge, who compares every byte with its id.
"""

from __future__ import annotations

import os
import threading
import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO, NamedTuple, NoReturn, Protocol, Self

from casckpt.errors import (
    CasckptError,
    DamagedBundle,
    IntegrityError,
    MalformedFile,
    NotFoundError,
    RemoteDenied,
    RemoteUntrusted,
    TooLarge,
)
from casckpt.foreign.zips import read_members
from casckpt.format.bundle import KEY, MAX_HEAD_BYTES, BundleHead
from casckpt.format.remote import check_key
from casckpt.storage.base import read_exact
from casckpt.storage.objects import Buffer, Listed, Outcome
from casckpt.storage.posix import OsErrors, PosixReadFile, open_regular

MEMBERS_MAX = 50_000
"""Most objects of a bundle: with packs of 32 MiB as pushes write them 1.6 TB. Bounds the memory of who reads it."""
_DIRECTORY_MAX = 8 << 20
_DESCRIPTION = "casckpt.json"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class _Place(NamedTuple):
    offset: int
    nbytes: int


class _Reads(Protocol):
    def __call__(self, offset: int, count: int) -> bytes:
        """`count` bytes of the file at `offset`, fewer only where it ends."""


class _Places:
    """The reading half of `Objects` over places in a file."""

    read_only = True

    def __init__(self, url: str, time_ns: int, read: _Reads) -> None:
        self.url = url
        self._time_ns = time_ns
        self._read = read
        self._places: dict[str, _Place] = {}

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        place = self._place(key)
        stop = place.nbytes if stop is None else min(stop, place.nbytes)
        if stop - start > limit:
            raise RemoteUntrusted(remote=self.url, problem=f"{key} has more than the {limit} bytes it may have")
        return self._exactly(place, start, stop) if start < stop else b""

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        place = self._place(key)
        if any(not 0 <= start <= stop <= place.nbytes for start, stop in ranges):
            raise RemoteUntrusted(remote=self.url, problem=f"{key} is shorter than the remote's index says")
        return [self._exactly(place, start, stop) for start, stop in ranges]

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        keys = sorted(key for key in tuple(self._places) if key.startswith(prefix))
        for key in keys[bisect_right(keys, after) :]:
            yield Listed(key, self._places[key].nbytes, self._time_ns)

    def size(self, key: str) -> int | None:
        place = self._places.get(key)
        return None if place is None else place.nbytes

    def create(self, key: str, data: Buffer) -> Outcome:
        raise RemoteDenied(remote=self.url, operation=f"create {key}", problem="a bundle never changes once it is made")

    def delete(self, keys: Sequence[str]) -> NoReturn:
        raise RemoteDenied(
            remote=self.url, operation="delete objects", problem="a bundle never loses what was put into it"
        )

    def _place(self, key: str) -> _Place:
        try:
            return self._places[key]
        except KeyError:
            raise FileNotFoundError(key) from None

    def _exactly(self, place: _Place, start: int, stop: int) -> bytes:
        data = self._read(place.offset + start, stop - start)
        if len(data) != stop - start:
            raise DamagedBundle(remote=self.url, problem="the file was cut short while it was read")
        return data


class BundleReader(_Places):
    """The objects of a bundle that is there. Thread-safe; a context manager that closes the file.

    Raises:
        DamagedBundle: it is none, or not whole.
        FormatError: one of a newer version.
        NotFoundError: there is no file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        try:
            with OsErrors("open", name):
                # Where a link leads is followed here, since whoever opens regular files follows none.
                descriptor = open_regular(os.path.realpath(name), os.O_RDONLY)
                time_ns = os.fstat(descriptor.fd).st_mtime_ns
        except FileNotFoundError as error:
            raise NotFoundError(thing=name) from error
        self._file = PosixReadFile(descriptor, name)
        self.nbytes = self._file.size()
        """Length of the file."""
        super().__init__(name, time_ns, lambda offset, count: read_exact(self._file, offset, count))
        try:
            self._places = self._members()
            self.head = BundleHead.decode(self.get(KEY, limit=MAX_HEAD_BYTES))
            del self._places[KEY]
        except (IntegrityError, MalformedFile, FileNotFoundError) as error:
            self.close()
            problem = error.reason if isinstance(error, CasckptError) else "it has no head"
            raise DamagedBundle(remote=self.url, problem=problem) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; closing twice is harmless."""
        self._file.close()

    def _members(self) -> dict[str, _Place]:
        found = {}
        for member in read_members(_Bytes(self.url, self.nbytes, self._read), limit=_DIRECTORY_MAX):
            if not member.is_plain:
                raise DamagedBundle(remote=self.url, problem=f"member {member.name[:120]!r} is not stored as it is")
            if member.name != KEY:
                _check(member.name)
            found[member.name] = _Place(member.offset, member.nbytes)
        return found


class BundleWriter(_Places):
    """The objects of a bundle that is being made. Thread-safe; a context manager that completes the archive.

    What was created can be read at once. After a failure to write every further call raises it again: nobody knows
    where the file ends.

    Args:
        file: empty, for reading and writing; whoever gives it makes it durable and gives it its name.
        url: of the bundle, for messages.
    """

    read_only = False

    def __init__(self, file: BinaryIO, url: str, head: BundleHead) -> None:
        super().__init__(url, head.time_ns, self._read_back)
        self._file = file
        self._mutex = threading.Lock()
        self._failure: BaseException | None = None
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._append(KEY, head.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closed in any case, since else the archive closes itself when it is collected, perhaps into a file of others.
        with self._mutex, OsErrors("write", self.url, names_pass=False):
            try:
                self._archive.close()
            except Exception:
                if kind is None and self._failure is None:
                    raise
            if kind is None:
                self._raise_failure()

    def create(self, key: str, data: Buffer) -> Outcome:
        _check(key)
        with self._mutex:
            self._raise_failure()
            if key in self._places:
                return Outcome.EXISTS
            if len(self._places) >= MEMBERS_MAX:
                raise TooLarge(object="the bundle", size=f"{MEMBERS_MAX + 1} objects", limit=f"{MEMBERS_MAX} objects")
            try:
                with OsErrors("write", self.url, names_pass=False):
                    self._places[key] = self._append(key, data)
            except BaseException as error:
                self._failure = error
                raise
        return Outcome.CREATED

    def _append(self, key: str, data: Buffer) -> _Place:
        nbytes = memoryview(data).nbytes
        self._archive.writestr(zipfile.ZipInfo(key, _ZIP_TIME), data)
        return _Place(self._file.tell() - nbytes, nbytes)

    def _read_back(self, offset: int, count: int) -> bytes:
        with self._mutex, OsErrors("read", self.url, names_pass=False):
            self._raise_failure()
            self._file.flush()
            return os.pread(self._file.fileno(), count, offset)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class _Bytes:
    """The file as the parser of zip archives sees it."""

    def __init__(self, name: str, size: int, read: _Reads) -> None:
        self.name = name
        self.size = size
        self._read = read

    def read(self, offset: int, length: int) -> bytes:
        return self._read(offset, length)


def _check(key: str) -> None:
    """Raise IntegrityError for a key that no object of a remote has."""
    if key != _DESCRIPTION:
        check_key(key, "root", "index", "packs")
