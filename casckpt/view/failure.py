"""Errors as people read them: what happened, why, and what to try; the same words for text and `--json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from casckpt.errors import CasckptError
from casckpt.view.text import BAD, LABEL, Look, safe, width


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, ready to be shown. `hints` are commands or deeds that may help, the best first."""

    code: str
    exit_code: int
    what: str
    why: str = ""
    hints: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    place: tuple[str, int] | None = None
    """A text and the offset in it where it is wrong."""

    @classmethod
    def of(cls, error: CasckptError) -> Failure:
        """What an error of casckpt says of itself."""
        hints = (error.advice,) if error.advice else ()
        place = (error.facts["text"], error.facts["column"] - 1) if "column" in error.facts else None
        return cls(error.code, error.exit_code, error.summary, error.reason, hints, error.facts, place)


def failure_lines(found: Failure, look: Look) -> Iterator[str]:
    """An error in two to four lines, and two more if it is about a place in a text."""
    yield f"{look.paint(BAD, 'error:')} {safe(found.what)}"
    if found.place is not None:
        text, offset = found.place
        yield f"    {safe(text)}"
        yield f"    {' ' * width(safe(text[:offset]))}{look.paint(BAD, '^')}"
    if found.why:
        yield f"  {look.paint(LABEL, 'why:')} {safe(found.why)}"
    for hint in found.hints:
        yield f"  {look.paint(LABEL, 'try:')} {safe(hint)}"
