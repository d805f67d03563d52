"""checkout: a commit becomes a live state again, every byte compared with its id before it is handed out."""

from __future__ import annotations

from typing import Any

from casckpt.errors import FormatError, UsageError
from casckpt.format.ids import CommitId
from casckpt.format.objects import Tree
from casckpt.odb.repository import Repository
from casckpt.ops.history import require_tree
from casckpt.ops.load import LoadedComponent, Loader, Target
from casckpt.ops.slabs import Slabs
from casckpt.state.unflatten import Part, unflatten


def checkout_state(repository: Repository, identity: CommitId) -> Any:
    """The state of a commit, on the CPU, in fresh memory.

    Raises:
        DamagedLeaf: stored bytes are missing or wrong; names the leaves.
        CommitDropped: the tree was given up by retention.
        UsageError: it holds files, not a live state.
        FormatError: it holds something this release does not know.

    Cost: one read and one BLAKE3 pass over the state; memory is the state plus one chunk a thread.
    """
    database = repository.database
    loader = Loader(database, identity, require_tree(database, identity))
    tree = loader.tree()
    components = loader.components(tree)
    memories = _read(loader, tree, components, repository.threads)
    try:
        parts = [_part(loader, loaded, memory) for loaded, memory in zip(components, memories, strict=True)]
        return unflatten(parts, tree.links)
    except FormatError as error:
        raise FormatError(object=f"commit {identity.hex()[:12]}", problem=error.reason) from error


def _read(loader: Loader, tree: Tree, components: list[LoadedComponent], threads: int) -> list[dict[int, memoryview]]:
    """The blobs of every component by number; of memory that components share, once."""
    shared = {(part, blob) for group in tree.links for part, blob in group[1:]}
    targets = []
    found: list[dict[int, memoryview]] = []
    for number, loaded in enumerate(components):
        sizes = loaded.structure.sizes
        wanted: dict[int, bool] = {}
        for leaf in loaded.leaves():
            if leaf.kind == "file":
                raise UsageError(problem=f"commit {loader.commit} holds files: restore it with Store.checkout_path")
            if leaf.blob is not None and leaf.blob < len(sizes) and (number, leaf.blob) not in shared:
                # Texts and packed numbers are made anew from their bytes, which must not stay behind in a slab.
                wanted[leaf.blob] = leaf.kind in ("tensor", "array")
        slabs = Slabs(sizes[blob] for blob, lasting in sorted(wanted.items()) if lasting)
        memories = {}
        for blob, lasting in sorted(wanted.items()):
            memory = slabs.slot(sizes[blob]) if lasting else memoryview(bytearray(sizes[blob]))
            targets.append(Target(loaded, blob, memory))
            memories[blob] = memory[: sizes[blob]]
        found.append(memories)
    loader.fetch(targets, threads)
    return found


def _part(loader: Loader, loaded: LoadedComponent, memories: dict[int, memoryview]) -> Part:
    def memory(blob: int) -> memoryview:
        found = memories.get(blob)
        return loader.memory(loaded, blob) if found is None else found

    return Part(loaded.name, loaded.structure.node, loaded.component.values, memory, loaded.structure.sizes)
