from __future__ import annotations

from typing import Any, cast

import pytest

from casckpt.errors import IntegrityError
from casckpt.format.ids import ChunkId
from casckpt.ops.element_runs import InOrder, Pair, Piece, numbers
from casckpt.ops.stored_leaves import Chunks, Run, StoredLeaf
from casckpt.state.nodes import ArrayNode, TensorNode
from casckpt.state.walk import LeafInfo

A, B, C = (ChunkId(bytes([number]) * 32) for number in range(3))
CHUNKS = Chunks()


def leaf(node: TensorNode | ArrayNode, nbytes: int, runs: tuple[Run, ...] = ()) -> StoredLeaf:
    kind = "tensor" if isinstance(node, TensorNode) else "array"
    info = LeafInfo("x", kind, node.dtype, node.shape, node.blob, node.offset, node=node)
    return StoredLeaf(info, (), runs, nbytes, cast(Any, None), cast(Any, None))


def flat(dtype: str, count: int, offset: int, *runs: Run) -> StoredLeaf:
    return leaf(TensorNode(dtype, (count,), None, 0, offset, 0), sum(run[2] for run in runs), runs)


def pair(before: StoredLeaf, after: StoredLeaf) -> Pair:
    old, new = numbers(before), numbers(after)
    assert old is not None
    assert new is not None
    return Pair(old, new, CHUNKS)


@pytest.mark.parametrize(
    "node",
    [
        TensorNode("float32", (5,), None, 0, 0, 0),
        TensorNode("float32", (4,), None, 0, 4, 0),
        TensorNode("float32", (2,), (4,), 0, 0, 0),
        TensorNode("float32", (1 << 40, 1 << 40), None, 0, 0, 0),
        ArrayNode("<f4", (2,), "C", 0, 0, (-4,)),
        ArrayNode("<f4", (2, 2), "C", 0, 0, (4,)),
    ],
    ids=["long", "shifted", "stepping", "immense", "backwards", "strides"],
)
def test_elements_outside_of_their_blob_are_refused(node: TensorNode | ArrayNode) -> None:
    with pytest.raises(IntegrityError):
        numbers(leaf(node, 16))


def test_pieces_end_where_chunks_end_and_know_what_is_the_same() -> None:
    before = flat("float32", 30, 0, (A, 0, 40), (B, 0, 40), (C, 0, 40))
    after = flat("float32", 30, 0, (A, 0, 40), (C, 0, 40), (C, 0, 40))
    assert list(pair(before, after).pieces()) == [
        Piece(0, 10, same=True, cost=40),
        Piece(10, 20, same=False, cost=80),
        Piece(20, 30, same=True, cost=40),
    ]


def test_pieces_follow_the_chunks_of_the_wider_side() -> None:
    narrow = flat("bfloat16", 30, 0, (A, 0, 60))
    wide = flat("float32", 30, 0, (A, 0, 40), (B, 0, 80))
    expected = [Piece(0, 10, same=False, cost=60), Piece(10, 30, same=False, cost=120)]
    assert list(pair(narrow, wide).pieces()) == list(pair(wide, narrow).pieces()) == expected


def test_the_same_bytes_in_another_type_are_not_the_same() -> None:
    before, after = (flat(dtype, 10, 0, (A, 0, 40)) for dtype in ("float32", "int32"))
    assert list(pair(before, after).pieces()) == [Piece(0, 10, same=False, cost=80)]


def test_an_element_across_two_chunks_is_read_from_both() -> None:
    found = numbers(flat("float64", 3, 1, (A, 5, 10), (B, 0, 15)))
    assert found is not None
    side = InOrder(found, CHUNKS, 0)
    assert list(side.ends()) == [1, 3]
    assert side.touched(0, 1) == [(A, 6, 8)]
    assert side.touched(1, 2) == [(A, 14, 1), (B, 0, 7)]


def test_nothing_is_in_pieces_of_no_elements() -> None:
    empty = flat("float32", 0, 0)
    assert list(pair(empty, empty).pieces()) == []
