"""What a reader would refuse is never written: a commit over a limit fails before it, and the store goes on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.errors import CommitThinned, FormatError, TooLarge, UsageError
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.objects import Component, Structure, Tree
from casckpt.ops.resolve import resolve

MIB = 1 << 20
EXCESSIVE: dict[str, dict[str, Any]] = {
    "an author": {"author": "a" * 2 * MIB},
    "a metric name": {"metrics": {"m" * 2 * MIB: 1.0}},
    "5 000 metrics": {"metrics": {str(number): 1.0 for number in range(5000)}},
    "a schema name": {"schema": ("s" * 2 * MIB, 1)},
    "a config that shrinks": {"config": {"text": "a" * 17 * MIB}},
    "a config that does not": {"config": {"text": random.Random(0).randbytes(17 * MIB)}},
}


@pytest.mark.parametrize("excess", EXCESSIVE.values(), ids=EXCESSIVE)
def test_a_commit_over_a_limit_changes_nothing(excess: dict[str, Any], tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        first = store.commit({"x": 1})
        with pytest.raises(TooLarge):
            store.commit({"x": 2}, **excess)
        assert [commit.id for commit in store.log()] == [first.id]
    with casckpt.open(tmp_path / "store") as store:
        assert store.checkout() == {"x": 1}
        store.commit({"x": 3})
        assert store.fsck("full").ok


def test_metrics_of_many_long_names_stay_below_the_limit_of_a_commit_object() -> None:
    store = casckpt.memory()
    with pytest.raises(TooLarge):
        store.commit({}, metrics={f"{number:0255}": 1.0 for number in range(4096)})
    assert store.commit({}, metrics={f"{number:0200}": 1.0 for number in range(4096)}).metrics


def test_a_sharded_tensor_is_refused_and_never_put_together_wrongly() -> None:
    store = casckpt.memory()
    commit = store.commit({"w": b"x" * 2000})
    repository = store._repository
    database = repository.database
    with repository.session() as session:
        tree = Tree.decode(bytes(database.read(ObjectId(bytes.fromhex(commit.tree)), Kind.TREE)))
        root = Component.decode(bytes(database.read(tree.root, Kind.COMPONENT)))
        boxes = {0: {"shape": [2, 1000], "boxes": [[[0, 0], [2, 500]], [[0, 500], [2, 500]]]}}
        structure = Structure(["dict", ["w"], [["bytes", 0]]], (2000,), bytes(1), (), boxes)
        chunk = root.digests[:32]
        spans = (2000).to_bytes(8, "little")
        identity = session.put(Kind.STRUCTURE, structure.encode())
        sharded = Component(identity, [], b"", chunk, ((1, 1),), spans)
        new_tree = session.put(Kind.TREE, Tree(session.put(Kind.COMPONENT, sharded.encode()), ()).encode())
        old = database.commit(CommitId(ObjectId(bytes.fromhex(commit.id))))
        assert old is not None
        from dataclasses import replace

        from casckpt.format.entry import RefMove
        from casckpt.format.ids import TreeId, object_id

        data = replace(old, tree=TreeId(new_tree)).encode()
        made = CommitId(object_id(Kind.COMMIT, data))
        entry = Entry("commit", 1, refs=(RefMove("tags/sharded", None, made),))
        session.publish(lambda: (entry, [(made, Kind.COMMIT, data)]))
    with pytest.raises(FormatError, match="shards"):
        store.checkout("sharded")


def test_a_thinned_commit_says_by_which_rule() -> None:
    store = casckpt.memory()
    store.commit({"model": {"w": 1}, "optimizer": {"m": 2}})
    database = store._repository.database
    drop = Drop(resolve(database, "main"), ("optimizer",), "thin after 7 d", 5)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("thin", 1, drops=(drop,)), []))
    with pytest.raises(CommitThinned, match=r"optimizer.*thin after 7 d"):
        store.checkout()
    assert store.fsck("full").ok


def test_a_negative_limit_is_a_usage_error() -> None:
    store = casckpt.memory()
    store.commit({})
    with pytest.raises(UsageError):
        list(store.log(limit=-1))
    assert list(store.log(limit=0)) == []


@pytest.mark.parametrize("step", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_a_step_may_be_any_whole_number(step: Any) -> None:
    assert casckpt.memory().commit({}, step=step).step == 3


@pytest.mark.parametrize("step", [True, 3.0, np.float64(3), "3", -1, 1 << 63, np.bool_(True), torch.tensor(3.5)])
def test_a_step_that_is_no_whole_number_is_refused(step: Any) -> None:
    with pytest.raises(UsageError):
        casckpt.memory().commit({}, step=step)
