"""Required paths are looked for before anything is written, and by fsck on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.errors import RequiredPathMissing
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.format.objects import Component, Structure, Tree
from casckpt.ops import required as looks
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.resolve import resolve
from casckpt.plan.schema import Schema
from casckpt.state.flatten import flatten

STATE: dict[str, Any] = {
    "model": {"w": torch.ones(3), "b": np.zeros(2)},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "groups": [{"lr": 0.1}], "none": {}},
    "step": 7,
    "a/b": None,
}


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def unchecked(store: casckpt.Store, state: Any, *required: str, run: str = "main") -> str:
    """A commit whose required paths nobody looked for."""
    options = CommitOptions(run, schema=Schema("train", 3, required))
    return commit_state(store._repository, flatten(state), options).id


@pytest.mark.parametrize(
    "pattern",
    [
        "model",
        "model/**",
        "model/w",
        "**/exp_avg",
        "optimizer/state/*/exp_avg",
        "optimizer/none",
        "optimizer/groups/0/lr",
        "optimizer/groups",
        "step",
        "a%2Fb",
        "*",
        "/step/",
    ],
)
def test_a_pattern_is_fulfilled_by_a_leaf_or_a_container(store: casckpt.Store, pattern: str) -> None:
    commit = store.commit(STATE, schema=Schema("train", 3, [pattern]))
    assert (commit.schema, commit.required) == (("train", 3), (pattern,))
    assert store.show().required == (pattern,)
    assert store.fsck("full").ok


def test_all_that_is_missing_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        store.commit(STATE)
        before = {
            path: path.stat().st_size for path in store.path.rglob("*") if path.is_file() and "index" not in str(path)
        }
        schema = Schema("train", 3, ["model/**", "ema/**", "step/x", "optimizer/none/*", "step"])
        for wait in (True, False):
            with pytest.raises(RequiredPathMissing) as caught:
                store.commit(STATE, schema=schema, wait=wait)
            assert caught.value.facts["paths"] == ["ema/**", "optimizer/none/*", "step/x"]
            assert "no ema/** and no optimizer/none/* and no step/x" in str(caught.value)
        after = {
            path: path.stat().st_size for path in store.path.rglob("*") if path.is_file() and "index" not in str(path)
        }
        assert after == before
        assert len(list(store.log())) == 1


@pytest.mark.parametrize("state", [{}, 5, [], torch.ones(2)], ids=repr)
def test_a_state_without_entries_has_no_paths(store: casckpt.Store, state: Any) -> None:
    with pytest.raises(RequiredPathMissing):
        store.commit(state, schema=Schema("train", 3, "**"))


def test_states_that_look_alike_are_walked_once(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[str] = []

    def counted(name: str, *given: Any) -> frozenset[str]:
        walked.append(name)
        return found(name, *given)

    found = looks.matched
    monkeypatch.setattr(looks, "matched", counted)
    schema = Schema("train", 3, ["model/w", "step"])
    for step in range(4):
        store.commit({**STATE, "step": step}, schema=schema)
    assert walked == ["", "model"]
    store.commit(STATE, schema=Schema("train", 4, ["model"]))
    assert walked == ["", "model", ""]
    walked.clear()
    assert store.fsck().ok
    assert sorted(walked) == ["", "", "model"]


def test_fsck_reports_the_commits_that_lack_a_required_path(store: casckpt.Store) -> None:
    store.commit(STATE, schema=Schema("train", 3, ["model/w"]))
    broken = [unchecked(store, {**STATE, "step": number}, "model/w", "ema/**", "step") for number in range(2)]
    unchecked(store, STATE, "model/b")
    report = store.fsck()
    assert not report.ok
    (finding,) = report.findings
    assert (finding.severity, finding.where, finding.leaf) == ("damage", "schema", "ema/**")
    assert finding.commits == tuple(sorted(broken))
    assert "version 3 of the schema 'train' requires it" in finding.what
    repaired = store.fsck("full", repair=True)
    assert [one.repaired for one in repaired.findings] == [None]


def test_another_schema_in_the_same_structure_is_another_question(store: casckpt.Store) -> None:
    first = unchecked(store, STATE, "x")
    second = unchecked(store, STATE, "y")
    found = {finding.leaf: finding.commits for finding in store.fsck().findings}
    assert found == {"x": (first,), "y": (second,)}


def test_what_was_given_up_or_is_damaged_is_not_missing_by_mistake(store: casckpt.Store) -> None:
    unchecked(store, STATE, "optimizer/**", "ema", run="thinned")
    unchecked(store, {**STATE, "step": 8}, "ema", run="dropped")
    database = store._repository.database
    thinned, dropped = (resolve(database, run) for run in ("thinned", "dropped"))
    drops = Drop(thinned, ("optimizer",), "thin", 5), Drop(dropped, None, "keep last 1", 5)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("thin", 1, drops=drops), []))
    assert store.fsck("full").ok


def test_a_lost_component_is_reported_alone(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        unchecked(store, {"model": {"w": np.random.default_rng(0).bytes(200_000)}}, "ema")
        (pack,) = (tmp_path / "store" / "packs").iterdir()
        pack.unlink()
        assert "schema" not in {finding.where for finding in store.fsck().findings}


def test_a_structure_that_contradicts_itself_is_damage(store: casckpt.Store) -> None:
    identity = unchecked(store, {"w": b"x" * 2000}, "ema")
    repository = store._repository
    database = repository.database
    commit = database.commit(CommitId(ObjectId(bytes.fromhex(identity))))
    assert commit is not None
    with repository.session() as session:
        tree = Tree.decode(bytes(database.read(commit.tree, Kind.TREE)))
        root = Component.decode(bytes(database.read(tree.root, Kind.COMPONENT)))
        structure = Structure.decode(bytes(database.read(root.structure, Kind.STRUCTURE)))
        hostile = session.put(Kind.STRUCTURE, replace(structure, node=["dict", ["w", "w"], [["bytes", 0]]]).encode())
        component = session.put(Kind.COMPONENT, replace(root, structure=hostile).encode())
        made = replace(commit, tree=TreeId(session.put(Kind.TREE, Tree(component, ()).encode())))
        data = made.encode()
        made_id = CommitId(object_id(Kind.COMMIT, data))
        session.publish(lambda: (Entry("pull", 1), [(made_id, Kind.COMMIT, data)]))
    findings = {finding.where: finding for finding in store.fsck().findings}
    assert findings["tree"].commits == (made_id.hex(),)
    assert "2 keys for 1 children" in findings["tree"].what
