"""A drop among other writers: what a name holds before it is written down stays whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import CommitProtected
from tests.integration.test_concurrency import together

ROUNDS = 15

LOSES: dict[str, Callable[[casckpt.Store, str], object]] = {
    "drop": lambda store, identity: store.drop(identity),
    "retain": lambda store, identity: store.retain({"keep_last": 1}),
}


@pytest.mark.parametrize("lose", LOSES.values(), ids=LOSES)
@pytest.mark.parametrize("hold", ["tag", "pin"])
def test_a_commit_that_is_named_first_stays_whole(
    tmp_path: Path, lose: Callable[[casckpt.Store, str], object], hold: str
) -> None:
    def dropped(store: casckpt.Store, identity: str) -> None:
        with suppress(CommitProtected):
            lose(store, identity)

    def held(store: casckpt.Store, identity: str) -> None:
        if hold == "tag":
            store.tag(f"v{identity[:12]}", identity)
        else:
            store.pin(identity)

    casckpt.init(tmp_path / "store").close()
    with casckpt.open(tmp_path / "store") as one, casckpt.open(tmp_path / "store") as two:
        for number in range(ROUNDS):
            target = one.commit({"n": number}, run="r")
            one.commit({"n": -1}, run="r")

            together([partial(dropped, one, target.id), partial(held, two, target.id)])
            numbers = [operation.number for operation in two.operations(3) if operation.op == hold]
            losses = [
                operation.number
                for operation in two.operations(3)
                if target.id in {change.commit for change in operation.drops}
            ]
            assert numbers
            assert (one.show(target.id).dropped is None) == (not losses)
            assert not losses or losses[0] < numbers[0]
