"""checkout: a commit becomes a live state again, every byte compared with its id before it is handed out."""

from __future__ import annotations

from typing import Any

from casckpt.errors import FormatError, UsageError
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import require_tree
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.state.unflatten import Part, unflatten


def checkout_state(database: Database, identity: CommitId) -> Any:
    """The state of a commit, on the CPU, in fresh memory.

    Raises:
        DamagedLeaf: stored bytes are missing or wrong; names the leaves.
        CommitDropped: the tree was given up by retention.
        UsageError: it holds files, not a live state.
        FormatError: it holds something this release does not know.

    Cost: one read and one BLAKE3 pass over the state; memory is the state plus one chunk.
    """
    loader = Loader(database, identity, require_tree(database, identity))
    tree = loader.tree()
    components = loader.components(tree)
    try:
        return unflatten([_part(loader, loaded) for loaded in components], tree.links)
    except FormatError as error:
        if any(leaf.kind == "file" for loaded in components for leaf in loaded.leaves()):
            problem = f"commit {identity.hex()[:12]} holds files: restore it with Store.checkout_path"
            raise UsageError(problem=problem) from error
        raise FormatError(object=f"commit {identity.hex()[:12]}", problem=error.reason) from error


def _part(loader: Loader, loaded: LoadedComponent) -> Part:
    return Part(
        loaded.name,
        loaded.structure.node,
        loaded.component.values,
        lambda blob: loader.memory(loaded, blob),
        loaded.structure.sizes,
    )
