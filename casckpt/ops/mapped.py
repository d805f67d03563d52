"""checkout without reading: large leaves are mappings of the packs, whose pages come when they are touched.

What is touched later is not compared with its id before it is handed out; that is the price. The leaves are private:
writing to them copies their pages and never reaches a pack. What cannot be mapped (encoded, small, in the journal) is
read and verified as always.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from casckpt.format.ids import CommitId
from casckpt.format.layout import Large
from casckpt.odb.fetch import Want
from casckpt.odb.locator import Locator
from casckpt.odb.mapped import map_chunks
from casckpt.odb.repository import Repository
from casckpt.ops.checkout import build, fresh_memory, read_targets
from casckpt.ops.consent import AllowPickle, agreed
from casckpt.ops.load import GroupTarget, Target
from casckpt.ops.selection import Patterns, select_state
from casckpt.ops.values import Progress
from casckpt.storage.mapping import Mapping, can_map

MAPPED_FROM = 1 << 20


def mapped_state(
    repository: Repository,
    identity: CommitId,
    select: Patterns | None = None,
    progress: Progress | None = None,
    *,
    strict: bool = False,
    allow_pickle: AllowPickle = False,
) -> tuple[Any, Callable[[Callable[[], bool]], None]]:
    """The state of a commit, or what is selected of it, with its large leaves mapped; and what verifies these.

    The second result compares every mapped chunk with its id, on the disk and not in the caller's memory, which he
    may have changed; it asks its argument whether to stop, and raises DamagedLeaf.

    Raises:
        DamagedLeaf: what had to be read is missing or wrong.

    Cost: a look-up per chunk; memory is that of what is read, and later of the pages that are touched.
    """
    database = repository.database
    selection = select_state(database, identity, select)
    loader, locator = selection.loader, Locator(database)
    trust = agreed(selection.chosen, loader.commit, strict=strict, allow_pickle=allow_pickle)
    targets: list[Target | GroupTarget] = []
    laid: list[Want] = []
    left: list[Want] = []
    memories = []
    for chosen, blobs in selection.own_blobs():
        mapped: dict[int, memoryview] = {}
        for blob in blobs if can_map() else ():
            size = chosen.size(blob)
            if size >= MAPPED_FROM and blob not in chosen.packed and isinstance(chosen.loaded.places[blob], Large):
                mapping = Mapping(size)
                mapped[blob] = mapping.memory
                wants = loader.wants(Target(chosen.loaded, blob, mapped[blob]))
                ours, others = map_chunks(database, locator, mapping, wants)
                laid += ours
                left += others
        memories.append(mapped | fresh_memory(targets, chosen, [blob for blob in blobs if blob not in mapped]))
    loader.read(left, repository.threads)
    read_targets(selection, targets, repository.threads, progress)

    def verify(stopped: Callable[[], bool]) -> None:
        wants = (want._replace(memory=None) for want in laid)
        loader.read(itertools.takewhile(lambda _: not stopped(), wants), 1)

    return build(selection, memories, trust), verify
