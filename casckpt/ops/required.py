"""Required paths: what a schema says that every state of its version has, looked for at commit and by fsck.

Both look at structures, which hardly ever change, so that what was found in one is kept.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from casckpt.errors import RequiredPathMissing
from casckpt.format.commit import Commit
from casckpt.format.ids import ObjectId
from casckpt.format.objects import Tree
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.plan.schema import Schema
from casckpt.state import flat
from casckpt.state.select import matched

Patterns = tuple[str, ...]

_looks: WeakKeyDictionary[flat.Schema, tuple[Patterns, frozenset[str]]] = WeakKeyDictionary()
"""The patterns that were last looked for in a component that looks like this, and those that were found."""


def require(state: flat.FlatState, schema: Schema) -> None:
    """See that a state has what its schema requires.

    Raises:
        RequiredPathMissing: names all that is missing.

    Cost: about 3 us for each node of a state that looks unlike the last ones, else nothing.
    """
    required = tuple(schema.required)
    missing = set(required)
    for component in (state.root, *state.components):
        if not missing:
            return
        look = _looks.get(component.schema)
        if look is None or look[0] != required:
            look = _looks[component.schema] = required, matched(component.name, component.node, required)
        missing -= look[1]
    if missing:
        facts = {"name": schema.name, "version": schema.version, "missing": " and no ".join(sorted(missing))}
        raise RequiredPathMissing(**facts, paths=sorted(missing))


class RequiredPaths:
    """Looks for the required paths of many commits: one walk for each structure and list of patterns."""

    def __init__(self) -> None:
        self._structures: dict[ObjectId, ObjectId] = {}
        self._found: dict[tuple[str, ObjectId, Patterns], frozenset[str]] = {}

    def learn(self, loaded: LoadedComponent) -> None:
        """Remember the structure of a component, which need not be read again then."""
        self._structures[loaded.identity] = loaded.component.structure

    def missing(self, loader: Loader, tree: Tree, commit: Commit) -> list[str]:
        """The patterns that match nothing in the tree of a commit.

        Raises:
            IntegrityError, FormatError: a component cannot be read.
        """
        missing = set(commit.required)
        for name, identity in tree.components:
            if not missing:
                break
            missing -= self._matched(loader, name, identity, commit.required)
        return sorted(missing)

    def _matched(self, loader: Loader, name: str, identity: ObjectId, required: Patterns) -> frozenset[str]:
        structure = self._structures.get(identity)
        found = None if structure is None else self._found.get((name, structure, required))
        if found is None:
            loaded = loader.component(name, identity)
            self.learn(loaded)
            found = matched(name, loaded.structure.node, required)
            self._found[name, loaded.component.structure, required] = found
        return found
