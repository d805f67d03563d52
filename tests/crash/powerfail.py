"""The states a power loss could leave, rebuilt from a recording.

What reaches the disk without being asked to is anybody's guess; the model allows, for a crash after any call:

- **Bytes** persist page by page (4 KiB), each page on its own, until `sync` of the file. A page persists as the page
  cache held it at some moment: with all earlier writes to that page, without later ones. The last page to reach the
  disk may be torn at a multiple of 512 bytes.
- **Sizes** change in order. By default a page brings the size it needs; a size may also be ahead of its bytes (they
  read as zeros) or, where the file was cut, behind them (the old tail is still there).
- **Names** (create, rename, unlink, make_dir) persist one by one. Model `strict`: in any order, each durable after
  `sync_dir` of its folder, a rename, which is one atomic change, after that of its target's folder. Model `ordered`:
  in the order they were made, as in a journaling file system, each `sync_dir` making all of them durable. `sync` of a
  file never persists its name.

Up to `EXHAUSTIVE` pending changes are combined in every way. Beyond that: none, all, every prefix, all but one, only
one, files and names in every way as wholes, and random subsets from a seed. Equal states are given once.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.crash.disk import (
    FOLDER,
    Change,
    Disk,
    Model,
    NameChange,
    PageChange,
    SizeChange,
    Variant,
    content_after,
    size_of,
)
from tests.crash.recorder import Ack, Operation, Snapshot

EXHAUSTIVE = 6
# With no more pending changes than these every tear of the last page is tried, else one drawn at random.
ALL_TEARS = 3
# Large writes have many pages; so many of the prefixes and single losses stand for all of them.
POSITIONS = 40


@dataclass(frozen=True, slots=True)
class CrashState:
    """What a reader finds after the power is back.

    Attributes:
        files: contents by name, None for a folder; made for `MemoryStorage`.
        acked: the facts marked before the crash, in order.
        description: when the power failed and what was lost.
    """

    files: Snapshot
    acked: tuple[Hashable, ...]
    description: str


def _groups(pending: Sequence[Change]) -> list[int]:
    """Masks of what belongs together: all bytes of one file, or one change of names."""
    by_inode: dict[int, int] = {}
    masks: list[int] = []
    for n, change in enumerate(pending):
        if isinstance(change, NameChange):
            masks.append(1 << n)
        else:
            by_inode[change.inode] = by_inode.get(change.inode, 0) | 1 << n
    return [*by_inode.values(), *masks]


def _unions(masks: Sequence[int]) -> Iterator[int]:
    for count in range(len(masks) + 1):
        for some in itertools.combinations(masks, count):
            yield sum(some)


def _subsets(pending: Sequence[Change], rng: random.Random, random_subsets: int, most: int) -> Iterator[int]:
    """Which changes persisted, as masks over `pending`; may repeat."""
    count = len(pending)
    if count <= EXHAUSTIVE:
        yield from _unions([1 << n for n in range(count)])
        return
    everything = (1 << count) - 1
    yield 0
    yield everything
    positions = range(count) if count <= most else sorted(rng.sample(range(count), most))
    for n in positions:
        yield (1 << n) - 1
        yield everything ^ (1 << n)
        yield 1 << n
    groups = _groups(pending)
    if len(groups) <= EXHAUSTIVE:
        yield from _unions(groups)
    for density in (0.2, 0.5, 0.8):
        for _ in range(random_subsets):
            yield sum(1 << n for n in range(count) if rng.random() < density)
            yield sum(group for group in groups if rng.random() < density)


def _in_order(mask: int, pending: Sequence[Change]) -> int:
    """The mask without the changes of names that follow a lost one."""
    lost = False
    for n, change in enumerate(pending):
        if isinstance(change, NameChange):
            lost = lost or not mask >> n & 1
            if lost:
                mask &= ~(1 << n)
    return mask


def _variants(mask: int, pending: Sequence[Change], rng: random.Random) -> Iterator[Variant]:
    yield Variant()
    if any(not mask >> n & 1 and size_of(change) is not None for n, change in enumerate(pending)):
        yield Variant("ahead")
    if any(isinstance(change, SizeChange) for change in pending):
        yield Variant("behind")
    for n in range(len(pending) - 1, -1, -1):
        change = pending[n]
        if mask >> n & 1 and isinstance(change, PageChange):
            tears = [(sectors, cut) for sectors in change.tears() for cut in (False, True)]
            for sectors, cut in tears if len(pending) <= ALL_TEARS else rng.sample(tears, min(1, len(tears))):
                yield Variant("with bytes", change, sectors, cut)
            return


class _Builder:
    """Puts states together at one moment; equal parts are built once, and equal contents are one object for good."""

    def __init__(self, disk: Disk, contents: dict[bytes, bytes]) -> None:
        self._disk = disk
        self.pending = disk.pending()
        self._contents = contents
        self._numbers: dict[int, list[int]] = {}
        for n, change in enumerate(self.pending):
            if not isinstance(change, NameChange):
                self._numbers.setdefault(change.inode, []).append(n)
        self._masks = {inode: sum(1 << n for n in numbers) for inode, numbers in self._numbers.items()}
        self._name_numbers = {id(change): n for n, change in enumerate(self.pending) if isinstance(change, NameChange)}
        self._name_mask = sum(1 << n for n in self._name_numbers.values())
        self._names: dict[int, list[tuple[str, int]]] = {}
        self._built: dict[tuple[object, ...], bytes] = {}

    def build(self, mask: int, variant: Variant) -> Snapshot:
        """What is on disk if the changes in `mask` persisted."""
        named = mask & self._name_mask
        names = self._names.get(named)
        if names is None:
            names = self._disk.names_after(lambda change: bool(named >> self._name_numbers[id(change)] & 1))
            self._names[named] = names
        return {name: None if inode == FOLDER else self._content(inode, mask, variant) for name, inode in names}

    def _content(self, inode: int, mask: int, variant: Variant) -> bytes:
        durable = self._disk.files[inode].durable
        own = self._masks.get(inode)
        if own is None:
            return durable
        torn = variant.torn if variant.torn is not None and variant.torn.inode == inode else None
        key = (inode, mask & own, variant.sizes, torn and (variant.sectors, variant.cut, id(torn)))
        content = self._built.get(key)
        if content is None:
            changes = [(self.pending[n], bool(mask >> n & 1)) for n in self._numbers[inode]]
            content = content_after(durable, changes, variant)
            content = self._built[key] = self._contents.setdefault(content, content)
        return content

    def describe_lost(self, mask: int) -> str:
        """The changes that did not persist, the first few by name."""
        lost = [change for n, change in enumerate(self.pending) if not mask >> n & 1]
        words = []
        for change in lost[:6]:
            if isinstance(change, NameChange):
                words.append(change.label)
            else:
                what = f"page {change.page}" if isinstance(change, PageChange) else "truncate"
                words.append(f"{what} of {self._disk.labels[change.inode]}")
        more = f" and {len(lost) - 6} more" if len(lost) > 6 else ""
        return ", ".join(words) + more or "nothing"


def crash_states(
    base: Snapshot,
    operations: Iterable[Operation],
    *,
    model: Model = "strict",
    seed: int = 0,
    random_subsets: int = 4,
    positions: int = POSITIONS,
    start: int = 0,
) -> Iterator[CrashState]:
    """The distinct states after a power loss before the first, or after any, of the recorded calls.

    Args:
        base: what was there and durable before; `RecordingStorage.base`.
        operations: `RecordingStorage.operations`.
        seed: of the random subsets and tears; the same seed gives the same states.
        random_subsets: for each of three densities, at each call with more than `EXHAUSTIVE` changes pending.
        positions: most of the pending changes whose prefix and single loss are tried there.
        start: the number of calls before the first power loss.
    """
    rng = random.Random(seed)
    disk = Disk(base, model)
    acked: tuple[Hashable, ...] = ()
    contents: dict[bytes, bytes] = {}
    seen: set[int] = set()
    moment = "before the first call"
    for number, operation in enumerate([None, *operations]):
        if operation is not None:
            moment = f"after call {number}, {disk.apply(operation)}"
        if isinstance(operation, Ack):
            acked = (*acked, operation.fact)
        if number < start:
            continue
        builder = _Builder(disk, contents)
        masks = _subsets(builder.pending, rng, random_subsets, positions)
        if model == "ordered":
            masks = (_in_order(mask, builder.pending) for mask in masks)
        for mask in dict.fromkeys(masks):
            for variant in _variants(mask, builder.pending, rng):
                files = builder.build(mask, variant)
                # 64 bits suffice: a clash would skip one state, never report a wrong one.
                key = hash((len(acked), *files.items()))
                if key not in seen:
                    seen.add(key)
                    text = f"power failed {moment}; lost: {builder.describe_lost(mask)}{variant}"
                    yield CrashState(files, acked, text)


def violations(states: Iterable[CrashState], check: Callable[[CrashState], object]) -> tuple[int, list[str]]:
    """How many states there were, and for each in which `check` raised what it said, and the state's description."""
    count = 0
    found: list[str] = []
    for state in states:
        count += 1
        try:
            check(state)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error} [{state.description}]")
    return count, found
