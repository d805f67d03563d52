"""checkout: a commit becomes a live state again, every byte compared with its id before it is handed out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from casckpt.errors import FormatError
from casckpt.format.elements import element_bytes, element_name
from casckpt.format.ids import CommitId
from casckpt.format.layout import Grouped, Tiny
from casckpt.odb.repository import Repository
from casckpt.ops.consent import AllowPickle, agreed
from casckpt.ops.load import GroupTarget, LoadedComponent, Target
from casckpt.ops.selection import Chosen, Patterns, Selection, select_state
from casckpt.ops.slabs import Slabs
from casckpt.ops.values import Progress, counted
from casckpt.state.collector import paused
from casckpt.state.unflatten import Trust, unflatten


def checkout_state(
    repository: Repository,
    identity: CommitId,
    select: Patterns | None = None,
    progress: Progress | None = None,
    *,
    strict: bool = False,
    allow_pickle: AllowPickle = False,
) -> Any:
    """The state of a commit, or what is selected of it, on the CPU, in fresh memory.

    Raises:
        DamagedLeaf: stored bytes are missing or wrong; names the leaves.
        CommitDropped: the tree was given up by retention.
        NotFoundError: nothing is selected.
        UsageError: it holds files, not a live state.
        FormatError: it holds something this release does not know.
        UnknownType: it names a class that is not here, with `strict`.
        PickleBlocked: it holds a pickle that `allow_pickle` does not cover; nothing was read.

    Cost: one read and one BLAKE3 pass over what is asked for; memory is that plus one chunk a thread.
    """
    selection = select_state(repository.database, identity, select)
    trust = agreed(selection.chosen, selection.loader.commit, strict=strict, allow_pickle=allow_pickle)
    return read_state(repository, selection, trust, progress)


def read_state(repository: Repository, selection: Selection, trust: Trust, progress: Progress | None = None) -> Any:
    """What is selected, in fresh memory; errors and cost as of `checkout_state`."""
    targets: list[Target | GroupTarget] = []
    with paused():
        memories = [fresh_memory(targets, *own) for own in selection.own_blobs()]
    read_targets(selection, targets, repository.threads, progress)
    return build(selection, memories, trust)


def build(selection: Selection, memories: list[dict[int, memoryview]], trust: Trust) -> Any:
    """The state of a selection in memory that is filled."""
    try:
        return unflatten(selection.parts(memories), selection.links, trust)
    except FormatError as error:
        raise FormatError(object=f"commit {selection.loader.commit}", problem=error.reason) from error


def read_targets(
    selection: Selection,
    targets: list[Target | GroupTarget],
    threads: int,
    progress: Progress | None,
    begin: Callable[[Target], None] | None = None,
) -> None:
    """Fill targets, with progress; `begin` as of `Loader.fetch`."""
    total = sum(target.nbytes for target in targets)
    selection.loader.fetch(targets, threads, counted(progress, total), begin=begin)


def fresh_memory(targets: list[Target | GroupTarget], chosen: Chosen, blobs: Collection[int]) -> dict[int, memoryview]:
    """Fresh memory for some blobs of one component; what is to be read into it joins the targets.

    Small blobs are slices of their group and tiny ones of one buffer, as they lie in the store, where that suits
    their elements; so 20 000 of them are read and checked by a few hundred calls.
    """
    loaded, sizes = chosen.loaded, chosen.loaded.structure.sizes
    views: dict[int, memoryview] = {}
    groups = _whole_groups(loaded, blobs)
    tiny = memoryview(bytearray(loaded.component.tiny))
    rest: list[int] = []
    for blob in blobs:
        place = loaded.places[blob]
        if isinstance(place, Grouped) and place.entry in groups:
            continue
        if isinstance(place, Tiny) and place.offset % _alignment(loaded, blob) == 0:
            views[blob] = tiny[place.offset : place.offset + sizes[blob]]
        else:
            rest.append(blob)
    lengths = [sum(sizes[member] for member in loaded.structure.groups[entry]) for entry in groups]
    slabs = Slabs([*lengths, *(sizes[blob] for blob in rest if blob not in chosen.packed)])
    for entry, length in zip(groups, lengths, strict=True):
        memory, at = slabs.slot(length)[:length], 0
        targets.append(GroupTarget(loaded, entry, memory))
        for member in loaded.structure.groups[entry]:
            views[member] = memory[at : at + sizes[member]]
            at += sizes[member]
    for blob in rest:
        # Texts and packed numbers are made anew from their bytes, which must not stay behind in a slab.
        memory = memoryview(bytearray(sizes[blob])) if blob in chosen.packed else slabs.slot(sizes[blob])
        targets.append(Target(loaded, blob, memory))
        views[blob] = memory[: sizes[blob]]
    return views


def _whole_groups(loaded: LoadedComponent, blobs: Collection[int]) -> dict[int, None]:
    """Groups of which all blobs are wanted and lie where their elements may."""
    sizes = loaded.structure.sizes
    found: dict[int, None] = {}
    wanted = None if len(blobs) == len(sizes) else set(blobs)
    for entry, members in enumerate(loaded.structure.groups):
        unit = _alignment(loaded, members[0])
        if (wanted is None or wanted.issuperset(members)) and not any(sizes[member] % unit for member in members):
            found[entry] = None
    return found


def _alignment(loaded: LoadedComponent, blob: int) -> int:
    """What the start of a blob must be a multiple of; 8 where several element types may lie in it."""
    code = loaded.structure.elements[blob]
    return 8 if element_name(code) == "bytes" else element_bytes(code)
