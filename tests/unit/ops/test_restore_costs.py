"""The file of costs: measured once, believed only if it can be meant."""

from __future__ import annotations

import json

import pytest

from casckpt.ops.restore_costs import restore_costs
from casckpt.plan.group_size import Ratios, smallest_groups
from casckpt.plan.groups import GROUP_SIZES
from casckpt.storage.base import read_exact
from casckpt.storage.memory import MemoryStorage

NOTHING: dict[str, object] = {"record": 1e-4, "plain": [], "one": [], "two": [], "classed": []}


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage({"tmp": None})


def content(storage: MemoryStorage) -> bytes:
    file = storage.open_read("costs")
    return read_exact(file, 0, file.size())


def test_what_was_measured_is_read_back(storage: MemoryStorage) -> None:
    costs = restore_costs(storage)
    assert restore_costs(MemoryStorage({"costs": content(storage)}, read_only=True)) == costs
    assert smallest_groups(costs, 12, Ratios(0.8, 0.6, 0.5, 0.4)).size in GROUP_SIZES
    assert storage.list("tmp") == []


def test_a_storage_that_cannot_be_written_has_costs_all_the_same() -> None:
    assert set(restore_costs(MemoryStorage(read_only=True))) == {1, 2, 4, 8}


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: b"",
        lambda found: b"\xff{",
        lambda found: b"[]",
        lambda found: b"{}",
        lambda found: found[: len(found) // 2],
        lambda found: json.dumps(json.loads(found) | {"machine": "another"}).encode(),
        lambda found: json.dumps(json.loads(found) | {"costs": {"4": {}}}).encode(),
        lambda found: found.replace(b'"1":', b'"3":'),
        lambda found: found.replace(b'"classed"', b'"other"'),
        lambda found: found.replace(b'"record": ', b'"record": -'),
        lambda found: json.dumps(json.loads(found) | {"costs": dict.fromkeys("1248", NOTHING)}).encode(),
        lambda found: found.replace(b"]]", b", 7]]"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_written_anew(storage: MemoryStorage, damage: object) -> None:
    costs = restore_costs(storage)
    assert callable(damage)
    other = MemoryStorage({"tmp": None, "costs": damage(content(storage))})
    assert restore_costs(other) == costs
    assert content(other) == content(storage)
