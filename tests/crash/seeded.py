"""What every seeded bug has to end in: the sweeps find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

Bug = tuple[Callable[[pytest.MonkeyPatch], object], Callable[[], Sequence[object]]]
"""What breaks a rule, and the sweep that must find violations then; unbroken, it finds none in its own test."""


def assert_caught(name: str, bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break a rule and see that its sweep tells."""
    break_it, sweep = bug
    break_it(monkeypatch)
    found: Sequence[object]
    try:
        found = sweep()
    except Exception as error:
        found = [f"not even without a fault: {type(error).__name__}: {error}"]
    print(f"{name}: {len(found)} violations, as {found[:1]}")
    assert found
