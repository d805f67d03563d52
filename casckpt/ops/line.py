"""What went over the line to a remote, as every report of what was done there tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class OverTheLine(Protocol):
    """A report that tells requests by class, bytes up and down, and about what they cost in dollars."""

    @property
    def requests(self) -> Mapping[str, int]: ...

    @property
    def up(self) -> int: ...

    @property
    def down(self) -> int: ...

    @property
    def cost(self) -> float | None: ...


def line(report: OverTheLine) -> dict[str, Any]:
    """That part of a report as plain values."""
    return {"requests": dict(report.requests), "up": report.up, "down": report.down, "cost": report.cost}
