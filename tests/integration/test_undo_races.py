"""An undo among other writers: it comes before or after each of them, and nothing that they did is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import AlreadyUndone, ConflictError, UndoConflict
from casckpt.odb import locks
from casckpt.ops import undo as undo_module
from casckpt.ops.reach import Reach
from tests.integration.test_concurrency import together

ROUNDS = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    casckpt.init(tmp_path / "store").close()
    return tmp_path / "store"


def newest(store: casckpt.Store, op: str) -> int:
    return next(operation.number for operation in store.operations() if operation.op == op)


def test_an_undo_and_a_commit_that_move_the_same_ref_come_one_after_the_other(path: Path) -> None:
    with casckpt.open(path) as one, casckpt.open(path) as two:
        base = one.commit({"n": 0}, run="r")
        for number in range(ROUNDS):
            first = one.commit({"n": number, "first": True}, run="r")
            operation, outcome = newest(one, "commit"), []

            def undo(operation: int = operation, outcome: list[str] = outcome) -> None:
                try:
                    one.undo(operation)
                    outcome.append("undone")
                except UndoConflict:
                    outcome.append("refused")

            made: list[casckpt.CommitInfo] = []
            together([undo, lambda number=number, made=made: made.append(two.commit({"n": number}, run="r"))])
            assert one.show("r").id == two.show("r").id == made[0].id
            assert made[0].parents == (base.id if outcome == ["undone"] else first.id,)
            base = made[0]
        assert one.fsck("full").ok


def test_a_commit_between_the_look_and_the_undo_is_not_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with casckpt.open(path) as one, casckpt.open(path) as two:
        one.commit({"n": 0}, run="r")
        first = one.commit({"n": 1}, run="r")
        made: list[casckpt.CommitInfo] = []
        publish = undo_module.publish

        def late(*given: object, **words: object) -> object:
            made.append(two.commit({"n": 2}, run="r"))
            return publish(*given, **words)  # type: ignore[arg-type]

        monkeypatch.setattr(undo_module, "publish", late)
        with pytest.raises(UndoConflict) as caught:
            one.undo(newest(one, "commit"))
        assert (caught.value.facts["what"], caught.value.facts["actual"]) == ("runs/r/last", made[0].short)
        assert one.show("r").id == made[0].id
        assert made[0].parents == (first.id,)


def test_nobody_waits_for_an_undo_that_looks_at_what_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with casckpt.open(path) as one, casckpt.open(path) as two:
        dropped = one.commit({"n": 0}, run="r")
        one.commit({"n": 1}, run="r")
        one.drop(dropped.id)
        publish, is_whole = undo_module.publish, Reach.is_whole
        made: list[casckpt.CommitInfo] = []

        def late(*given: Any, **words: Any) -> Any:
            two.commit({"n": 2}, run="r")  # so that what was seen before does not count any more
            return publish(*given, **words)

        def look(*given: Any) -> bool:
            made.append(two.commit({"n": 3}, run="r"))
            return is_whole(*given)

        monkeypatch.setattr(undo_module, "publish", late)
        monkeypatch.setattr(Reach, "is_whole", look)
        monkeypatch.setattr(locks, "JOURNAL_WAIT_S", 0)
        one.undo()
        assert one.show(dropped.id).dropped is None
        assert made


def test_of_many_that_take_back_the_same_operation_one_does(path: Path) -> None:
    with casckpt.open(path) as store:
        store.commit({"n": 0}, run="r")
        for number in range(ROUNDS // 4):
            store.tag("v1")
            operation, outcomes = newest(store, "tag"), []

            def undo(operation: int = operation, outcomes: list[str] = outcomes) -> None:
                with casckpt.open(path) as own:
                    try:
                        own.undo(operation)
                        outcomes.append("undone")
                    except (UndoConflict, AlreadyUndone):
                        outcomes.append("refused")

            together([undo] * 6)
            assert sorted(outcomes) == ["refused"] * 5 + ["undone"]
            assert store.status().tags == {}
            assert len([one for one in store.operations() if one.op == "undo"]) == number + 1


def test_renames_and_forks_to_the_same_name_are_one_after_the_other(path: Path) -> None:
    with casckpt.open(path) as store:
        for run in range(4):
            store.commit({"n": run}, run=f"r{run}")
        outcomes: list[str] = []

        def take(run: int) -> None:
            with casckpt.open(path) as own:
                try:
                    if run % 2:
                        own.rename_run(f"r{run}", "new")
                    else:
                        own.fork_run(f"r{run}", "new")
                    outcomes.append("taken")
                except ConflictError:
                    outcomes.append("refused")

        together([lambda run=run: take(run) for run in range(4)])
        assert sorted(outcomes) == ["refused"] * 3 + ["taken"]
        assert sum(info.commits for info in store.runs()) == 4
        store.undo()
        assert sorted(info.name for info in store.runs()) == ["r0", "r1", "r2", "r3"]
