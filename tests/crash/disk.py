"""A replayed disk: what is durable after some recorded calls, what is pending, and what a choice of it would show.

The rules of the model are in `powerfail`, which makes the choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.crash.recorder import (
    Ack,
    Begin,
    Create,
    Link,
    Lose,
    MakeDir,
    Operation,
    Rename,
    Snapshot,
    Sync,
    SyncDir,
    Truncate,
    Unlink,
    Write,
    base_inodes,
)

PAGE = 4096
SECTOR = 512

Model = Literal["strict", "ordered"]
SizeRule = Literal["with bytes", "ahead", "behind"]

FOLDER = 0
"""Stands for the inode of every folder."""


@dataclass(slots=True)
class PageChange:
    """One write's part of one page: the page as the cache held it then, up to the end of the file."""

    inode: int
    page: int
    content: bytes
    first: int  # the written range, within the page
    end: int
    size: int | None  # of the file, if this made it longer

    def tears(self) -> range:
        """The counts of whole sectors after which the written range may be torn."""
        return range(self.first // SECTOR + 1, -(-self.end // SECTOR))


@dataclass(slots=True)
class SizeChange:
    """One truncate."""

    inode: int
    size: int


@dataclass(slots=True)
class NameChange:
    """One atomic change of names: each gets an inode, `FOLDER` or, if removed, None."""

    names: dict[str, int | None]
    folder: str
    label: str
    durable: bool = False


Change = PageChange | SizeChange | NameChange


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    cache: bytearray = field(default_factory=bytearray)
    lost: set[int] = field(default_factory=set)
    """Pages that a failed sync left clean though the disk does not have them; written again, they are safe."""

    def flush(self) -> None:
        """Make the cache durable, but for the pages that are lost."""
        content = bytearray(self.cache)
        for page in self.lost:
            start = page * PAGE
            old = self.durable[start : start + PAGE]
            size = len(content[start : start + PAGE])
            content[start : start + PAGE] = (old + bytes(PAGE))[:size]
        self.durable = bytes(content)


@dataclass(slots=True)
class Variant:
    """How the persisted changes show: the size rule, and the page that was torn."""

    sizes: SizeRule = "with bytes"
    torn: PageChange | None = None
    sectors: int = 0
    cut: bool = False  # the file ends at the tear

    def __str__(self) -> str:
        tear = f"; page {self.torn.page} torn after sector {self.sectors}" if self.torn else ""
        return (f"; sizes {self.sizes}" if self.sizes != "with bytes" else "") + tear


def _pages(inode: int, cache: bytearray, offset: int, data: bytes) -> list[PageChange]:
    """Write to the cache; what that changes, page by page."""
    changes = []
    left = memoryview(data)
    cache.extend(bytes(max(0, offset - len(cache))))
    while left:
        page, first = divmod(offset, PAGE)
        part = left[: PAGE - first]
        longer = offset + len(part) > len(cache)
        cache[offset : offset + len(part)] = part
        content = bytes(cache[page * PAGE : (page + 1) * PAGE])
        changes.append(PageChange(inode, page, content, first, first + len(part), len(cache) if longer else None))
        left, offset = left[len(part) :], offset + len(part)
    return changes


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _lay_page(content: bytearray, change: PageChange, variant: Variant) -> None:
    """Put a persisted page where it belongs; a cached page is zero after the end of file."""
    start = change.page * PAGE
    new = change.content
    if change is variant.torn:
        cut = variant.sectors * SECTOR
        old = bytes(content[start + cut : start + len(new)])
        new = new[:cut] + old + bytes(len(new) - cut - len(old))
        if variant.cut and change.size is not None:
            new = new[: max(cut, len(content) - start)]
    content.extend(bytes(max(0, start - len(content))))
    rest = min(len(content), start + PAGE) - start - len(new)
    content[start : start + len(new) + max(0, rest)] = new + bytes(max(0, rest))


def content_after(durable: bytes, pending: Sequence[tuple[Change, bool]], variant: Variant) -> bytes:
    """A file after some of its changes persisted (those with True), in order."""
    content = bytearray(durable)
    # Sizes persist in order, so a persisted one brings the truncates before it along.
    sized = [n for n, (change, kept) in enumerate(pending) if kept and size_of(change) is not None]
    last_sized = sized[-1] if sized else -1
    for n, (change, kept) in enumerate(pending):
        if isinstance(change, SizeChange):
            if variant.sizes == "ahead" or (variant.sizes == "with bytes" and n <= last_sized):
                _resize(content, change.size)
        elif isinstance(change, PageChange) and kept:
            _lay_page(content, change, variant)
        elif variant.sizes == "ahead":
            content.extend(bytes(max(0, (size_of(change) or 0) - len(content))))
    if variant.sizes == "behind":
        del content[len(durable) :]
    return bytes(content)


def size_of(change: Change) -> int | None:
    return None if isinstance(change, NameChange) else change.size


class Disk:
    """What is durable and what is pending after the calls replayed so far."""

    def __init__(self, base: Snapshot, model: Model) -> None:
        self._model = model
        inodes = base_inodes(base)
        parts = {inodes[name]: content for name, content in base.items() if content is not None}
        self.files = {inode: _File(content, bytearray(content)) for inode, content in parts.items()}
        self.names: dict[str, int | None] = {name: inodes.get(name, FOLDER) for name in base}
        self._live = dict(self.names)
        self.labels = {inode: name for name, inode in inodes.items()}
        # In order; durable changes of names stay while a pending one before them touches the same name.
        self.changes: list[Change] = []

    def apply(self, operation: Operation) -> str:
        """Replay one call; what to call it in a description."""
        match operation:
            case Create(name, inode):
                self.files[inode] = _File()
                return self._rename({name: inode}, name, f"create {name}")
            case Begin(inode):
                self.files[inode] = _File()
                self.labels[inode] = "a new file"
                return "begin a file"
            case Link(inode, name):
                return self._rename({name: inode}, name, f"link {name}")
            case MakeDir(name):
                return self._rename({name: FOLDER}, name, f"make_dir {name}")
            case Unlink(name):
                return self._rename({name: None}, name, f"unlink {name}")
            case Rename(source, target):
                return self._rename({source: None, target: self._live[source]}, target, f"rename {source} to {target}")
            case SyncDir(name):
                self._sync_dir(name)
                return f"sync_dir {name or '/'}"
            case Write(inode, offset, data):
                changes = _pages(inode, self.files[inode].cache, offset, data)
                self.files[inode].lost.difference_update(change.page for change in changes)
                self.changes += changes
                return f"write of {len(data)} at {offset} to {self.labels[inode]}"
            case Truncate(inode, size):
                file = self.files[inode]
                _resize(file.cache, size)
                file.lost = {page for page in file.lost if (page + 1) * PAGE <= size}
                self.changes.append(SizeChange(inode, size))
                return f"truncate {self.labels[inode]} to {size}"
            case Sync(inode):
                self.files[inode].flush()
                self.changes = [c for c in self.changes if isinstance(c, NameChange) or c.inode != inode]
                return f"sync {self.labels[inode]}"
            case Lose(inode):
                self.files[inode].lost |= {
                    c.page for c in self.changes if isinstance(c, PageChange) and c.inode == inode
                }
                self.changes = [c for c in self.changes if not isinstance(c, PageChange) or c.inode != inode]
                return f"failed sync of {self.labels[inode]}"
            case Ack(fact):
                return f"ack {fact!r}"

    def _rename(self, names: dict[str, int | None], name: str, label: str) -> str:
        self._live |= names
        self.labels |= {inode: changed for changed, inode in names.items() if inode}
        self.changes.append(NameChange(names, name.rpartition("/")[0], label))
        return label

    def _sync_dir(self, folder: str) -> None:
        names = [change for change in self.changes if isinstance(change, NameChange)]
        meant = [n for n, change in enumerate(names) if change.folder == folder]
        for n, change in enumerate(names):
            if n in meant or (self._model == "ordered" and meant and n < meant[-1]):
                change.durable = True
        self._drop_overruled()
        self._settle()

    def _drop_overruled(self) -> None:
        """Forget changes of which every name was changed again by a later, durable one."""
        overruled: set[str] = set()
        left: list[Change] = []
        for change in reversed(self.changes):
            if isinstance(change, NameChange):
                if change.names.keys() <= overruled:
                    continue
                if change.durable:
                    overruled |= change.names.keys()
            left.append(change)
        self.changes = left[::-1]

    def _settle(self) -> None:
        """Move durable changes of names into `names`, unless one left before them touches the same name."""
        touched: set[str] = set()
        left: list[Change] = []
        for change in self.changes:
            if isinstance(change, NameChange):
                if change.durable and touched.isdisjoint(change.names):
                    self.names |= change.names
                    continue
                touched |= change.names.keys()
            left.append(change)
        self.changes = left

    def pending(self) -> list[Change]:
        """What may or may not persist, without the bytes of files that no name can lead to any more."""
        reachable = set(self.names.values())
        for change in self.changes:
            if isinstance(change, NameChange):
                reachable |= set(change.names.values())
        return [
            change
            for change in self.changes
            if (not change.durable if isinstance(change, NameChange) else change.inode in reachable)
        ]

    def names_after(self, kept: Callable[[NameChange], bool]) -> list[tuple[str, int]]:
        """The names on disk, sorted, if these pending changes persisted; a name needs all its folders."""
        names = dict(self.names)
        for change in self.changes:
            if isinstance(change, NameChange) and (change.durable or kept(change)):
                names |= change.names
        found: list[tuple[str, int]] = []
        folders = {""}
        for name in sorted(names, key=lambda name: name.split("/")):
            inode = names[name]
            if inode is not None and name.rpartition("/")[0] in folders:
                found.append((name, inode))
                if inode == FOLDER:
                    folders.add(name)
        return found
