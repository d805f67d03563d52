"""checkout: a commit becomes a live state again, every byte compared with its id before it is handed out."""

from __future__ import annotations

from typing import Any

from casckpt.errors import FormatError
from casckpt.format.ids import CommitId
from casckpt.odb.repository import Repository
from casckpt.ops.load import Target
from casckpt.ops.selection import Chosen, Patterns, Selection, select_state
from casckpt.ops.slabs import Slabs
from casckpt.ops.values import Progress
from casckpt.state.unflatten import unflatten


def checkout_state(
    repository: Repository, identity: CommitId, select: Patterns | None = None, progress: Progress | None = None
) -> Any:
    """The state of a commit, or what is selected of it, on the CPU, in fresh memory.

    Raises:
        DamagedLeaf: stored bytes are missing or wrong; names the leaves.
        CommitDropped: the tree was given up by retention.
        NotFoundError: nothing is selected.
        UsageError: it holds files, not a live state.
        FormatError: it holds something this release does not know.

    Cost: one read and one BLAKE3 pass over what is asked for; memory is that plus one chunk a thread.
    """
    selection = select_state(repository.database, identity, select)
    targets: list[Target] = []
    memories = [_memory(targets, *own) for own in selection.own_blobs()]
    read_targets(selection, targets, repository.threads, progress)
    return build(selection, memories)


def build(selection: Selection, memories: list[dict[int, memoryview]]) -> Any:
    """The state of a selection in memory that is filled."""
    try:
        return unflatten(selection.parts(memories), selection.links)
    except FormatError as error:
        raise FormatError(object=f"commit {selection.loader.commit}", problem=error.reason) from error


def read_targets(selection: Selection, targets: list[Target], threads: int, progress: Progress | None) -> None:
    """Fill targets, with progress."""
    total = sum(target.loaded.structure.sizes[target.blob] for target in targets)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    selection.loader.fetch(targets, threads, advance)


def _memory(targets: list[Target], _number: int, chosen: Chosen, blobs: dict[int, bool]) -> dict[int, memoryview]:
    """Fresh memory for the blobs of one component, which joins the targets."""
    slabs = Slabs(chosen.size(blob) for blob, lasting in blobs.items() if lasting)
    memories = {}
    for blob, lasting in blobs.items():
        size = chosen.size(blob)
        # Texts and packed numbers are made anew from their bytes, which must not stay behind in a slab.
        memory = slabs.slot(size) if lasting else memoryview(bytearray(size))
        targets.append(Target(chosen.loaded, blob, memory))
        memories[blob] = memory[:size]
    return memories
