"""Packs whose files have a wrong name: known by their trailers, proven by their footers, given their names back.

The name of a pack file says what its trailer says, so a file that was renamed, or two that changed places, are told
from lost ones. Only files in packs/ are looked at: what lies in trash/ was taken out of the store, and may be emptied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from casckpt.errors import CasckptError
from casckpt.format.entry import PackRef
from casckpt.odb import locks
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name


def find_strays(database: Database, bad: Iterable[PackRef], unlisted: Iterable[str]) -> dict[str, PackRef]:
    """Files that are packs of the set which are not whole under their own names, by file name.

    Args:
        bad: packs of the set that are missing or damaged under their own names.
        unlisted: names of files in packs/ that are no pack of the set.

    Cost: reads the footers of the files in question. Where a damaged file stands in the place of a pack, or several
    files claim to be it, those that claim it are read wholly: a damaged file must not take the place of a better one.
    """
    wanted = {pack_name(pack.id): pack for pack in bad}
    places = {name: _identify(database, name) for name in [*wanted, *unlisted]} if wanted else {}
    found: dict[str, PackRef] = {}
    for own, pack in wanted.items():
        names = [name for name, held in places.items() if held == pack and name != own]
        stands = places[own]
        is_free = database.storage.size(own) is None or (stands is not None and stands.id != pack.id)
        if len(names) > 1 or not is_free:
            names = [name for name in names if database.packs.is_whole(name)] or (names if is_free else [])
        if names:
            found[names[0]] = pack
    return found


def _identify(database: Database, name: str) -> PackRef | None:
    try:
        return database.packs.identify(name)[0]
    except (CasckptError, FileNotFoundError):
        return None


def return_strays(database: Database, strays: dict[str, PackRef]) -> dict[str, str]:
    """Give strays their names back, durably; returns what was done, by the name that is right again.

    Two packs may have each other's name, so all leave their places before any takes one. A crash in between leaves
    files with names that the next repair finds as it found these.
    """
    if not strays:
        return {}
    storage = database.storage
    # Not in tmp/: what nobody locks there is removed.
    waiting = {name: f"{pack_name(pack.id)}-{os.urandom(4).hex()}.found" for name, pack in strays.items()}
    moved: dict[str, PackRef] = {}
    with locks.committing(storage):
        for name, pack in strays.items():
            # Absent if another repair was faster; then its place is not touched either.
            with contextlib.suppress(FileNotFoundError):
                storage.rename(name, waiting[name])
                moved[name] = pack
            database.packs.forget(name)
        storage.sync_dir("packs")
        for name, pack in moved.items():
            quarantine(database, pack_name(pack.id))
            storage.rename(waiting[name], pack_name(pack.id))
        storage.sync_dir("packs")
    return {pack_name(pack.id): f"found as {name} and given its name back" for name, pack in moved.items()}


def quarantine(database: Database, name: str) -> None:
    """Move a file of packs/ to trash/, durably; absent is fine."""
    database.packs.forget(name)
    with contextlib.suppress(FileNotFoundError):
        database.storage.rename(name, f"trash/{name.removeprefix('packs/')}")
        database.storage.sync_dir("packs")
        database.storage.sync_dir("trash")
