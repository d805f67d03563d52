"""What a state means to its program, by name and version, and the way from an old version to the one that is known.

A program registers a function for each step between versions, when its modules are loaded. Which version is current
follows: the highest that a step leads to. Steps lead upwards and at most one leaves each version, so the way is found
by following them; there is no choice to make and no cycle to fall into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from casckpt.errors import (
    MigrationExists,
    MigrationNotFound,
    NewerSchema,
    SchemaMismatch,
    TooLarge,
    UsageError,
)
from casckpt.format import limits
from casckpt.plan.names import is_text
from casckpt.state.select import compile_patterns

Migration = TypeVar("Migration", bound=Callable[[Any], Any])


@dataclass(frozen=True, slots=True)
class Schema:
    """Name and version of what a state means to its program, and the paths that every such state has.

    Args:
        version: an int of 64 bits.
        required: pattern of paths, or several, as of `select`; becomes a tuple, ascending.

    Raises:
        UsageError: the name is no text, the version no such int, or a pattern is none.
        TooLarge: more patterns, or longer ones, than a commit may have.
    """

    name: str
    version: int
    required: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not is_text(self.name) or type(self.version) is not int or not -(1 << 63) <= self.version < 1 << 63:
            raise UsageError(
                problem=f"schema must be a name and a version, not {f'{(self.name, self.version)!a}':.200}"
            )
        given = [self.required] if isinstance(self.required, str) else self.required
        given = list(given) if isinstance(given, Iterable) else [given]
        if not all(is_text(pattern) and pattern.strip("/") for pattern in given):
            raise UsageError(problem=f"required paths are patterns that are not empty, not {f'{given!a}':.200}")
        patterns = sorted(set(given))
        if patterns:
            compile_patterns(patterns)
        longest = max((len(pattern.encode()) for pattern in patterns), default=0)
        if longest > limits.MAX_PATTERN_BYTES:
            raise TooLarge(object="a required path", size=longest, limit=limits.MAX_PATTERN_BYTES)
        if len(patterns) > limits.MAX_REQUIRED:
            raise TooLarge(object="required", size=len(patterns), limit=limits.MAX_REQUIRED)
        object.__setattr__(self, "required", tuple(patterns))

    @classmethod
    def of(cls, given: object) -> Schema:
        """The schema that a caller gives as one, or as a tuple of name and version."""
        if isinstance(given, Schema):
            return given
        if not isinstance(given, tuple) or len(given) != 2:
            raise UsageError(problem=f"schema must be a name and a version, not {f'{given!a}':.200}")
        return cls(*given)


SchemaLike = Schema | tuple[str, int]
"""What callers may give for a schema."""


class Step(NamedTuple):
    """A registered step: the function makes a state of version `end` from one of version `start`."""

    name: str
    start: int
    end: int
    function: Callable[[Any], Any]


class Migrations:
    """Registered steps. A step is there or not, so several threads may register and look up at once."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], Step] = {}

    def add(self, step: Step) -> None:
        """Register a step; a function that is defined anew, as by a notebook, takes the place of its former self.

        Raises:
            UsageError: it does not lead upwards, or its function cannot be called.
            MigrationExists: another step leaves the same version.
        """
        Schema(step.name, step.start)
        Schema(step.name, step.end)
        if step.end <= step.start:
            raise UsageError(problem=f"a step leads to a later version, not from {step.start} to {step.end}")
        if not callable(step.function):
            raise UsageError(problem=f"a step is a function of a state, not {f'{step.function!a}':.80}")
        known = self._steps.setdefault((step.name, step.start), step)
        if (known.end, _origin(known.function)) != (step.end, _origin(step.function)):
            facts = {"name": step.name, "start": step.start, "end": known.end}
            raise MigrationExists(**facts, function=_origin(known.function)[1])
        self._steps[step.name, step.start] = step

    def current(self, name: str) -> int | None:
        """The highest version a step leads to, None if there is no step of that name."""
        return max((step.end for step in self._of(name)), default=None)

    def way(self, commit: str, stored: tuple[str, int] | None, asked: Schema | None = None) -> tuple[Step, ...]:
        """The steps a stored state must go through, in order; none if it is current or nothing is known of its schema.

        Args:
            commit: names it in errors.
            stored: name and version that the commit states.
            asked: the schema to arrive at; None for the current version.

        Raises:
            SchemaMismatch: a schema is asked for that is not the one stored.
            NewerSchema: what is stored is later than what is asked for or known.
            MigrationNotFound: the steps do not lead there.
        """
        if asked is not None and (stored is None or stored[0] != asked.name):
            states = "no schema" if stored is None else f"the schema {stored[0]!r}"
            raise SchemaMismatch(commit=commit, asked=asked.name, stored=states)
        if stored is None:
            return ()
        name, at = stored
        end = self.current(name) if asked is None else asked.version
        if end is None:
            return ()
        facts = {"commit": commit, "name": name, "start": at, "end": end}
        if at > end:
            raise NewerSchema(**facts)
        way: list[Step] = []
        while at < end:
            step = self._steps.get((name, at))
            if step is None or step.end > end:
                known = sorted(f"{step.start} to {step.end}" for step in self._of(name))
                raise MigrationNotFound(**facts, at=at, registered=", ".join(known) or "none")
            way.append(step)
            at = step.end
        return tuple(way)

    def _of(self, name: str) -> list[Step]:
        return [step for step in list(self._steps.values()) if step.name == name]


registered = Migrations()
"""The steps of this process."""


def migration(name: str, start: int, end: int) -> Callable[[Migration], Migration]:
    """Register the decorated function: from a state of version `start` it makes and returns one of version `end`.

    Args:
        name: of the schema, as given to `Store.commit`.
        start, end: versions; `end` is later. One step leaves each version.

    Raises:
        UsageError: the step does not lead to a later version.
        MigrationExists: another function leaves the same version.
    """

    def register(function: Migration) -> Migration:
        registered.add(Step(name, start, end, function))
        return function

    return register


def _origin(function: Callable[[Any], Any]) -> tuple[object, str]:
    """Where a function was defined, equal for one that is defined there again; what has no name is only itself."""
    name = getattr(function, "__qualname__", "<")
    if "<" in name.rpartition(".")[2]:
        return id(function), f"{f'{function!a}':.80}"
    return None, f"{getattr(function, '__module__', None)}.{name}"
