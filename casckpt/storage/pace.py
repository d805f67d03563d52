"""How long an upload may take before it is taken for standing still.

How far an upload got cannot be seen, only that it ended. So it gets a time by its length: at first as if the line were
the slowest that is worth using, and once uploads went well, by how fast those were.
"""

from __future__ import annotations

SLOWEST = 64 << 10
"""Bytes a second below which an upload is given up."""
_PATIENCE = 8
"""How many times slower than those before an upload may be: others may have begun to share the line."""
_TELLING_BYTES = 256 << 10
"""Of smaller uploads the time is that of the answer, and says nothing of the line."""


class Pace:
    """Any number of threads may use one: of two that note at once, one is forgotten, and both are right."""

    def __init__(self) -> None:
        self._rate = 0.0

    def seconds(self, nbytes: int) -> float:
        """What an upload of this length may take, beside the time that every request has."""
        return nbytes / max(SLOWEST, self._rate / _PATIENCE)

    def went_well(self, nbytes: int, seconds: float) -> None:
        """Note an upload and its time."""
        if nbytes >= _TELLING_BYTES:
            rate = nbytes / max(seconds, 1e-3)
            self._rate = rate if not self._rate else (self._rate + rate) / 2

    def failed(self) -> None:
        """Note that an upload did not end: if the line has become slow, the next one needs its time."""
        self._rate = 0.0
