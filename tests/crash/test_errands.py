"""Commands between a store and a remote lose their power, or meet faults: what was done is kept, and again ends well.

The remote stays as it was at that moment. What the store of a crashed `push`, `pull`, `clone`, look at what is only
there, `bundle apply` or `fsck --repair --from` must be is in `errands`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.errands import (
    Course,
    Errand,
    bundle_power_failures,
    errands,
    faults,
    power_failures,
    second_power_failures,
)
from tests.crash.faults import Action
from tests.crash.faultsweeps import cases
from tests.crash.folders import ram_folder

pytestmark = pytest.mark.slow

ONCE = {"first push": 150, "push again": 150, "pull": 300, "clone": 400, "look": 50, "apply": 30, "repair": 80}


@pytest.fixture
def found() -> Iterator[dict[str, Errand]]:
    with ram_folder() as folder, errands(folder) as found:
        yield found


@pytest.mark.parametrize("name", ONCE)
def test_a_power_loss_in_an_errand_keeps_every_promise(found: dict[str, Errand], name: str) -> None:
    count, broken = power_failures(Course.of(found[name]))
    print(f"{name}: {count} distinct states")
    assert broken == []
    assert count >= ONCE[name]


@pytest.mark.parametrize(("name", "parts"), [("push", 3), ("fetch", 18), ("clone", 18)])
def test_a_second_power_loss_while_an_errand_is_done_again_keeps_every_promise(
    found: dict[str, Errand], name: str, parts: int
) -> None:
    count, broken = second_power_failures(Course.of(found[name]), count=4, parts=parts)
    print(f"{name}, twice: {count // parts} of {count} distinct states")
    assert broken == []
    assert count // parts >= 20


@pytest.mark.parametrize("old", [None, b"an old bundle"])
def test_a_power_loss_while_a_bundle_is_made_leaves_the_whole_old_or_the_whole_new(
    found: dict[str, Errand], tmp_path: Path, old: bytes | None
) -> None:
    count, broken = bundle_power_failures(found["push"].files, tmp_path, old=old)
    assert broken == []
    assert count >= 3


@pytest.mark.parametrize(("name", "action"), cases(["push", "pull", "clone"], ["kill-mid-write", "eio"]))
def test_a_fault_at_any_call_of_an_errand_keeps_every_promise(
    found: dict[str, Errand], name: str, action: Action
) -> None:
    count, broken = faults(Course.of(found[name]), action)
    assert broken == []
    assert count >= 15
