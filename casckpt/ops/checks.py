"""What a self-check returns; apart from `doctor`, so that views need none of its verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"
LEVELS = (OK, NOTE, WARNING, PROBLEM)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `level` is ok, note (worth knowing), warning (will hurt one day) or problem."""

    level: str
    code: str
    """A stable short name, as `store.index`."""
    what: str
    why: str = ""
    """Why it matters; empty where nothing is wrong."""
    hint: str = ""
    """How to mend it."""

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level, "code": self.code, "what": self.what, "why": self.why, "try": self.hint}


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What a self-check found on the machine and, if there is one, in the store at `path`."""

    path: str | None
    checks: tuple[Check, ...]
    exit_code: int = 0
    """That of the error if the store cannot be opened."""

    @property
    def ok(self) -> bool:
        """Whether there is neither a warning nor a problem."""
        return not any(check.level in (WARNING, PROBLEM) for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        checks = [check.to_dict() for check in self.checks]
        return {"path": self.path, "ok": self.ok, "exit": self.exit_code, "checks": checks}
