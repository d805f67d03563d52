"""A stored state, looked at without reading it: leaves by path, and slices that read only the chunks they touch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from casckpt.errors import NotFoundError
from casckpt.format.ids import CommitId
from casckpt.format.layout import Large
from casckpt.odb.fetch import Want
from casckpt.odb.repository import Repository
from casckpt.ops.checkout import build, fresh_memory, read_targets
from casckpt.ops.consent import agreed
from casckpt.ops.load import GroupTarget, Target
from casckpt.ops.selection import Selection, select_state
from casckpt.ops.slabs import Slabs
from casckpt.state.checks import default_strides
from casckpt.state.nodes import ArrayNode, TensorNode, parse
from casckpt.state.unflatten import Part, unflatten
from casckpt.state.walk import LeafInfo


class StoredState:
    """The leaves of a commit by path, read when they are asked for. Every byte handed out is verified. Thread-safe."""

    def __init__(self, repository: Repository, identity: CommitId) -> None:
        self._repository = repository
        self._selection = select_state(repository.database, identity)

    def __iter__(self) -> Iterator[str]:
        """The paths of all leaves."""
        for chosen in self._selection.chosen:
            for leaf in chosen.leaves():
                if leaf.kind != "part":
                    yield leaf.path

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._selection.at(path) is not None

    def __getitem__(self, path: str) -> StoredValue:
        """What lies at a path: a leaf, or a container with all below it.

        Raises:
            NotFoundError: nothing does.
        """
        found = self._selection.at(path)
        if found is None:
            raise NotFoundError(thing=f"{path!r} in commit {self._selection.loader.commit}")
        return StoredValue(self._repository, Selection(self._selection.loader, [found], ()), path)


class StoredValue:
    """One leaf of a stored state, or a container of leaves. Made by `StoredState`."""

    def __init__(self, repository: Repository, selection: Selection, path: str) -> None:
        self._repository = repository
        self._selection = selection
        self._chosen = selection.chosen[0]
        self.path = path

    def __repr__(self) -> str:
        what = f"{self.dtype} {list(self.shape)}" if self.shape is not None else "value"
        return f"<casckpt.StoredValue {self.path} {what}>"

    @property
    def _leaf(self) -> LeafInfo | None:
        leaves = list(self._chosen.leaves_at(self.path))
        return leaves[0] if len(leaves) == 1 and leaves[0].path == self.path else None

    @property
    def dtype(self) -> str | None:
        """dtype of a tensor or array as text, None for everything else."""
        leaf = self._leaf
        return None if leaf is None or leaf.kind not in ("tensor", "array") else leaf.dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of a tensor or array, None for everything else."""
        leaf = self._leaf
        return None if leaf is None or leaf.kind not in ("tensor", "array") else leaf.shape

    def read(self) -> Any:
        """The whole value, in fresh memory.

        Raises:
            PickleBlocked: there is a pickle in it; `Store.checkout` asks whether it may run.
        """
        trust = agreed([self._chosen], self._selection.loader.commit, strict=False, allow_pickle=False)
        targets: list[Target | GroupTarget] = []
        memory = fresh_memory(targets, self._chosen, self._chosen.blobs())
        read_targets(self._selection, targets, self._repository.threads, None)
        return build(self._selection, [memory], trust)

    def __getitem__(self, index: Any) -> Any:
        """Elements of a tensor or array, indexed as by its library.

        An int or a slice of the first dimension reads only the chunks that hold those rows; other indices read all.
        """
        node = None if self._chosen.node is None else parse(self._chosen.node, 1)
        if not isinstance(node, TensorNode | ArrayNode):
            return self.read()[index]
        first, *rest = index if isinstance(index, tuple) and index else (index,)
        if type(first) is int and node.shape and not -node.shape[0] <= first < node.shape[0]:
            raise IndexError(f"index {first} is out of bounds for dimension 0 with size {node.shape[0]}")
        rows = _rows(first, node)
        if rows is None or node.blob is None:
            whole = self.read()
            # Rows are plain tensors, also of a parameter; so are other elements.
            return (whole.detach() if isinstance(node, TensorNode) else whole)[index]
        start, stop, inner = rows
        return self._read_rows(node, start, stop)[(inner, *rest)]

    def _read_rows(self, node: TensorNode | ArrayNode, start: int, stop: int) -> Any:
        """Rows [start, stop) of a leaf that lies row by row."""
        assert node.blob is not None
        loaded, total = self._chosen.loaded, node.shape[0]
        row = _plain_bytes(node) // total
        low, high = node.offset + start * row, node.offset + stop * row
        memory = Slabs([high - low]).slot(high - low)
        if isinstance(loaded.places[node.blob], Large):
            target = Target(loaded, node.blob, memory)
            self._selection.loader.read(
                _wants(self._selection.loader.wants(target), low, high, memory), self._repository.threads
            )
        else:
            memory[: high - low] = self._selection.loader.memory(loaded, node.blob)[low:high]
        raw = list(self._chosen.node or ())
        raw[2], raw[4], raw[5] = [stop - start, *node.shape[1:]], 0, 0
        if isinstance(node, TensorNode):
            raw[3], raw[6] = None, 0  # rows are a plain tensor, as they are of a parameter
        part = Part("", raw, [], lambda _: memory[: high - low], [high - low])
        return unflatten([part], ())


def _rows(first: Any, node: TensorNode | ArrayNode) -> tuple[int, int, Any] | None:
    """Rows [start, stop) that an index of the first dimension needs and the index into these; None for all rows."""
    plain = node.strides is None or tuple(node.strides) == default_strides(node.shape)
    if not node.shape or not plain or (isinstance(node, ArrayNode) and (node.order != "C" or node.strides is not None)):
        return None
    total = node.shape[0]
    if isinstance(first, int) and not isinstance(first, bool) and -total <= first < total:
        return first % total, first % total + 1, 0
    if not isinstance(first, slice) or (first.step is not None and (not isinstance(first.step, int) or first.step < 1)):
        return None
    start, stop, step = first.indices(total)
    return (start, stop, slice(None, None, step)) if start < stop else None


def _plain_bytes(node: TensorNode | ArrayNode) -> int:
    if isinstance(node, TensorNode):
        from casckpt.state import tensors

        return tensors.plain_bytes(node)
    from casckpt.state import arrays

    return arrays.plain_bytes(node)


def _wants(wants: Iterator[Want], low: int, high: int, memory: memoryview) -> Iterator[Want]:
    """Of the chunks of a blob those that hold bytes [low, high), which go to the start of `memory`."""
    for want in wants:
        start, stop = max(want.at, low), min(want.at + want.length, high)
        if start >= stop:
            continue
        if stop - start == want.length:
            yield want._replace(at=want.at - low, slack=False)
        else:
            part = memory[start - low : stop - low]
            yield want._replace(memory=None, slack=False, parts=[(start - want.at, part)])
