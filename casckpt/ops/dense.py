"""Tensors and arrays of a commit as elements in C order, piece by piece, whatever strides they are stored with.

What lies in order is read as it is, chunk by chunk. What does not (channels last, transposed, expanded) is gathered
from the range of its blob that it touches; a range that is too large for memory is put into an unnamed file first.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from casckpt.errors import IntegrityError
from casckpt.format.elements import element_bytes, element_code
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.state.branches import Leaf
from casckpt.state.checks import check_extent, check_size, default_strides
from casckpt.state.nodes import ArrayNode, TensorNode

PIECE_BYTES = 4 << 20
IN_MEMORY_BYTES = 16 << 20
"""Longest range that is gathered from memory."""


@dataclass(frozen=True, slots=True)
class Dense:
    """One tensor or array, checked to lie inside its blob.

    Args:
        strides: in bytes; None if the elements lie in C order.
    """

    leaf: Leaf
    dtype: str
    shape: tuple[int, ...]
    itemsize: int
    strides: tuple[int, ...] | None

    @property
    def is_tensor(self) -> bool:
        return isinstance(self.leaf.node, TensorNode)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * self.itemsize


def dense(leaf: Leaf, sizes: Sequence[int]) -> Dense | None:
    """A leaf as a tensor or array; None if it is none, or of a dtype of which the width is not known.

    Args:
        sizes: lengths of the blobs of its component.
    """
    node = leaf.node
    if isinstance(node, TensorNode):
        code = element_code(node.dtype)
        if not code:
            return None
        itemsize, steps = element_bytes(code), node.strides
        strides = None if steps is None else tuple(step * itemsize for step in steps)
    elif isinstance(node, ArrayNode):
        itemsize = _item_bytes(node.dtype)
        strides = node.strides if node.strides is not None or node.order == "C" else _columns(node.shape, itemsize)
    else:
        return None
    nbytes = check_size(node.shape, itemsize)
    plain = tuple(step * itemsize for step in default_strides(node.shape))
    if nbytes:
        size = sizes[node.blob] if node.blob is not None and node.blob < len(sizes) else 0
        check_extent(node.shape, plain if strides is None else strides, node.offset, itemsize, size)
    return Dense(leaf, node.dtype, node.shape, itemsize, None if strides == plain or not nbytes else strides)


def _item_bytes(dtype: str) -> int:
    from casckpt.state import arrays

    return arrays.item_bytes(dtype)


def _columns(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(step * itemsize for step in default_strides(shape[::-1]))[::-1]


def elements(loader: Loader, loaded: LoadedComponent, one: Dense, folder: Path) -> Iterator[memoryview]:
    """The elements in C order, in pieces of at most 4 MiB, every byte compared with its id before.

    Args:
        folder: where a large range is put for a while.

    Raises:
        DamagedLeaf: stored bytes are missing or wrong.
    """
    node = one.leaf.node
    assert isinstance(node, TensorNode | ArrayNode)
    if not one.nbytes or node.blob is None:
        return
    if one.strides is None:
        done = 0
        for piece in loader.pieces(loaded, node.blob, node.offset, node.offset + one.nbytes):
            done += len(piece)
            yield memoryview(piece)
        if done != one.nbytes:
            raise IntegrityError(object=one.leaf.path, problem=f"{done} bytes are stored of {one.nbytes}")
        return
    yield from _gathered(loader, loaded, one, node, folder)


def _gathered(
    loader: Loader, loaded: LoadedComponent, one: Dense, node: TensorNode | ArrayNode, folder: Path
) -> Iterator[memoryview]:
    import numpy as np

    from casckpt.state.memory import StridedSource

    assert one.strides is not None and node.blob is not None
    reach = [(size - 1) * step for size, step in zip(one.shape, one.strides, strict=True)]
    low = node.offset + sum(step for step in reach if step < 0)
    high = node.offset + sum(step for step in reach if step > 0) + one.itemsize
    owner = np.frombuffer(_laid_out(loader.pieces(loaded, node.blob, low, high), high - low, folder), np.uint8)
    if len(owner) != high - low:
        raise IntegrityError(object=one.leaf.path, problem=f"{len(owner)} bytes are stored of {high - low}")
    address = owner.ctypes.data + node.offset - low
    source = StridedSource(owner, address, one.shape, one.strides, one.itemsize)
    step = PIECE_BYTES - PIECE_BYTES % one.itemsize or one.itemsize
    for start in range(0, one.nbytes, step):
        yield source.read(start, min(start + step, one.nbytes))


def _laid_out(pieces: Iterator[bytes], nbytes: int, folder: Path) -> bytes | mmap.mmap:
    """Pieces one after the other, where any of their bytes can be reached."""
    if nbytes <= IN_MEMORY_BYTES:
        return b"".join(pieces)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.writelines(pieces)
        file.flush()
        return mmap.mmap(file.fileno(), min(nbytes, file.tell()), access=mmap.ACCESS_READ)
