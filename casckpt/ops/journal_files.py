"""Old journal files: when they leave the store. What they say of refs, commits and packs stands in the newest snapshot.

With them go the older values of names (`reflog`, `NAME@{n}`) and what `undo` would need. So they stay for a month; and
less long where they take much room, since sealing copied every object of theirs into a pack.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from casckpt.format.entry import Entry
from casckpt.odb import locks
from casckpt.odb.journal import file_name
from casckpt.odb.repository import Repository
from casckpt.units import DAY

KEEP_NS = 30 * DAY
KEEP_BYTES = 256 << 20


class OldFiles(NamedTuple):
    """Journal files that were removed, and their bytes."""

    files: int = 0
    nbytes: int = 0


def remove_old_files(repository: Repository) -> OldFiles:
    """Remove sealed journal files that are too old or too many, the oldest first.

    Raises:
        DamagedFile: the snapshot that would stand for them is not whole; nothing was removed.
        StorageError: the disk failed. What is left is whole.

    Cost: reads the files that go, and one more.
    """
    database, storage = repository.database, repository.storage
    sealed = [number for number in database.journal.files() if number < database.tail.position.file]
    sizes = {number: storage.size(file_name(number)) or 0 for number in sealed}
    first = None  # that stays
    room = KEEP_BYTES
    for number in reversed(sealed):
        room -= sizes[number]
        if room < 0:
            break
        first = number
    before_ns = time.time_ns() - KEEP_NS
    for number in sealed:
        if first is not None and number >= first:
            frames = database.journal.read_file(number).frames
            if not frames or Entry.decode(frames[-1].frame.payload).time_ns >= before_ns:
                break
            first = number + 1
    first = database.tail.position.file if first is None else first
    if not any(number < first for number in sealed):
        return OldFiles()
    with locks.journaling(storage), database.mutex:
        database.refresh()
        numbers = database.journal.remove_before(first)
        database.packs.let_go(file_name(number) for number in numbers)
    return OldFiles(len(numbers), sum(sizes.get(number, 0) for number in numbers))
