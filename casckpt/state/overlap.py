"""Live leaves that share memory in another way than the stored ones: no order of writing could fill them all.

Leaves that lie to each other as they do in their stored blob may share whatever they like. All others must not have a
byte in common, nor may two elements of one leaf that are two in the commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casckpt.state.checks import default_strides
from casckpt.state.leaves import Form, InMemory
from casckpt.state.memory import window
from casckpt.state.nodes import ArrayNode, TensorNode

if TYPE_CHECKING:
    from casckpt.state.pairing import Pair

_WORK_MAX = 1_000
"""Candidate solutions `np.shares_memory` may try for one pair, as for flattening."""

Blob = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Placed(InMemory):
    """Where a live leaf lies, and the stored one that goes there.

    Args:
        path: of the leaf.
        node: the stored one.
        form: what the live one looks like.
        space: whose addresses these are: the CPU's or a device's.
        address: of the live one's first element.
        blob: component and number of the stored one's blob, of linked ones the first.
    """

    path: str
    node: TensorNode | ArrayNode
    form: Form
    space: str
    address: int
    blob: Blob

    @property
    def is_as_stored(self) -> bool:
        """Whether its elements lie to each other as the stored ones do in their blob."""
        node, size = self.node, self.form.itemsize
        if isinstance(node, ArrayNode) and node.strides is not None:
            steps = node.strides
        elif isinstance(node, ArrayNode) and node.order == "F":
            steps = tuple(step * size for step in reversed(default_strides(node.shape[::-1])))
        else:
            given = node.strides if isinstance(node, TensorNode) else None
            steps = tuple(step * size for step in (default_strides(node.shape) if given is None else given))
        here = zip(node.shape, steps, self.form.strides, strict=True)
        return all(count == 1 or stored == live for count, stored, live in here)

    def view(self) -> tuple[object, ...]:
        """Equal for leaves that are the same elements, here and in the commit."""
        node = self.node
        order = node.order if isinstance(node, ArrayNode) else ""
        stored = (self.blob, node.offset, node.strides, order)
        return self.address, self.form.shape, self.form.strides, self.form.itemsize, *stored


def place_pairs(pairs: Sequence[Pair], first: dict[Blob, Blob]) -> list[Placed]:
    """Where the live leaves of some pairs lie; those without a byte lie nowhere.

    Args:
        first: of blobs that are linked to an earlier one, that one.
    """
    found = []
    held = [pair for pair in pairs if pair.node.blob is not None]
    forms = iter(_tensor_forms([pair.live for pair in held if isinstance(pair.node, TensorNode)]))
    for pair in held:
        number = pair.node.blob
        assert number is not None
        if isinstance(pair.node, TensorNode):
            form, space, address = next(forms), str(pair.live.device), pair.live.data_ptr()
        else:
            from casckpt.state import arrays

            form, space, address = arrays.form(pair.live), "cpu", arrays.address(pair.live)
        blob = first.get((pair.part, number), (pair.part, number))
        if form.high > form.low:
            found.append(Placed(pair.path, pair.node, form, space, address, blob))
    return found


def conflicts(placed: Sequence[Placed]) -> Iterator[tuple[str, str]]:
    """(path, problem) of leaves that cannot all get their stored values.

    Cost: O(n log n) unless many ranges overlap.
    """
    before: list[Placed] = []
    for leaf in sorted(placed, key=lambda leaf: (leaf.space, leaf.low, leaf.path)):
        twice = leaf.form.overlaps_itself or leaf.form.core != leaf.form.shape
        if twice and not leaf.is_as_stored:
            yield leaf.path, "its elements share memory here, but not in the commit"
        before = [other for other in before if other.space == leaf.space and other.high > leaf.low]
        for other in before:
            if not _agree(leaf, other) and _shares(leaf, other):
                yield leaf.path, f"it shares memory with {other.path} here, but not in the same way in the commit"
                break
        before.append(leaf)


def _agree(one: Placed, other: Placed) -> bool:
    """Whether filling both is filling each."""
    if one.form.lazy != other.form.lazy or (one.form.lazy and one.form.space != other.form.space):
        return True  # a lazy conjugate and its base are stored apart, each with what it shows
    if one.blob != other.blob:
        return False
    if one.view() == other.view():
        return True
    alike = one.address - one.node.offset == other.address - other.node.offset
    return alike and one.is_as_stored and other.is_as_stored


def _shares(one: Placed, other: Placed) -> bool:
    """Whether two leaves whose ranges overlap have a byte in common; True where that is too hard to say."""
    if not (one.form.gappy or other.form.gappy):
        return True
    import numpy as np

    try:
        return bool(np.shares_memory(_window(one), _window(other), max_work=_WORK_MAX))  # type: ignore[arg-type]  # its stub knows 0 and -1 only
    except np.exceptions.TooHardError:
        return True


def _window(leaf: Placed) -> object:
    form = leaf.form
    return window(None, leaf.address, form.shape, form.strides, f"|V{form.itemsize}")


def _tensor_forms(live: list[object]) -> list[Form]:
    if not live:
        return []
    from casckpt.state import tensors

    return tensors.forms(live)
