"""Retention policies: which keys there are, what they may say, and what holds for one run if several layers speak.

A key that is not said is None, so that layers can be laid over each other: what a later one says replaces, key by key,
what an earlier one said. 0 (of a list: nothing) says that a rule or a cap is off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Self, cast

from casckpt.errors import InvalidRetention
from casckpt.plan.names import is_text
from casckpt.units import DAY, duration_text, parse_duration, parse_int

BUCKETS = ("hourly", "daily", "weekly", "monthly", "yearly")
WEAK = ("keep_periodic", *BUCKETS, "within")
"""The rules that only spread commits over a training; caps take what no other rule wants."""
KEEPS = ("keep_last", "keep_best", "keep_recovery", *WEAK)
"""The rules that choose commits; a policy needs one."""
CAPS = ("cleanup_older_than_days", "max_total")

ALIASES = {"keep_last_n": "keep_last", "max_checkpoints": "keep_last"}
"""Keys that other programs use for one of ours."""

GRACE = "1d"
"""Until when a drop can be undone. A night: who sees in the morning what went is in time. A day of commits may wait on
the disk for it, which is why it is not the fortnight of Git, whose objects are small."""

_MAX_DURATION = 100 * 365 * DAY
"""So that any moment of a store and a duration make a moment of 64 bits."""


class Every(NamedTuple):
    """The length of the stretches of `keep_periodic`: a number of `step`, `epoch` or `time`, in nanoseconds."""

    of: str
    length: int

    def __str__(self) -> str:
        if self.of == "time":
            return duration_text(self.length)
        return f"{self.length} {self.of}" + ("s" if self.length > 1 else "")

    @classmethod
    def parse(cls, text: str) -> Every | None:
        """What `5 epochs`, `1000 steps` or a duration says, None if it is none of these or its length is 0."""
        number, _, word = text.strip(" ").partition(" ")
        of = word.strip(" ").removesuffix("s")
        length = parse_int(number) if of in ("step", "epoch") else parse_duration(text)
        if not length or not 0 < length <= _MAX_DURATION:
            return None
        return cls(of if of in ("step", "epoch") else "time", length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which commits of a run to keep, and when what is dropped is gone; every key may be left unsaid.

    A commit is kept if any rule wants it; then the caps let go of the oldest that only weak rules want. What is said
    is checked when the value is made, and brought into one form: lists become tuples, `720h` becomes `30d`.

    Args:
        keep_last: so many newest commits.
        keep_best: so many best ones by a metric; unsaid, one in runs that have a metric to go by.
        metric, mode: what `keep_best` compares, and whether `min` or `max` is best; unsaid, the run's own rule.
        keep_periodic: the first commit of every `1000 steps`, `5 epochs` or `12h`, or of several such; a plain int
            counts epochs.
        keep_recovery: so many newest commits of kind recovery.
        hourly, daily, weekly, monthly, yearly: the newest commit of each of so many newest hours (...) that have any.
        within: all commits younger than a duration.
        keep_tags: keep what has a tag; unsaid, yes.
        keep_pins: always true.
        protect_unpushed: keep what no remote has; unsaid, no.
        max_total: so many commits of a run at most.
        cleanup_older_than_days: let go of what is older.
        thin: patterns of components by rule; a commit loses those that every rule which keeps it lists.
        grace: how long a drop can be undone; unsaid, `GRACE`.
        runs: policies by pattern of run names, laid over the rest for the runs that match, in order.

    Raises:
        InvalidRetention: nothing is said, or something that cannot be meant; the key is named.
    """

    keep_last: int | None = None
    keep_best: int | None = None
    metric: str | None = None
    mode: str | None = None
    keep_periodic: int | str | Sequence[int | str] | None = None
    keep_recovery: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None
    within: str | None = None
    keep_tags: bool | None = None
    keep_pins: bool | None = None
    protect_unpushed: bool | None = None
    max_total: int | None = None
    cleanup_older_than_days: int | float | None = None
    thin: Mapping[str, Sequence[str]] | Sequence[tuple[str, Sequence[str]]] | None = None
    grace: str | None = None
    runs: Mapping[str, Any] | Sequence[tuple[str, Any]] = ()

    def __post_init__(self) -> None:
        for key, check in _CHECKS.items():
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, check(key, value))
        object.__setattr__(self, "runs", tuple(_runs(self.runs)))
        if not self.said() and not self.runs:
            raise InvalidRetention(key="retention", problem=_EMPTY)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """The policy that a dict or a TOML table says, also one made for `keep_last_n` or `max_checkpoints`."""
        if not isinstance(table, Mapping):
            raise InvalidRetention(key="retention", problem=f"it is a table of keys, not {_shown(table)}")
        given: dict[str, Any] = {}
        for key, value in table.items():
            name = key_of(key)
            if name in given:
                raise InvalidRetention(key=key, problem=f"this says {name} a second time")
            given[name] = value
        return cls(**given)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The policy that a TOML document says, in its table `retention` or else as a whole."""
        import tomllib  # only who keeps policies in files needs it

        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InvalidRetention(key="retention", problem=f"the text is no TOML: {error!s:.200}") from error
        return cls.from_dict(document.get("retention", document))

    def to_dict(self) -> dict[str, Any]:
        """What is said, as values of JSON and TOML; `from_dict` gives an equal policy back."""
        table = self.said()
        if "keep_periodic" in table:
            table["keep_periodic"] = list(table["keep_periodic"])
        if "thin" in table:
            table["thin"] = {rule: list(patterns) for rule, patterns in table["thin"]}
        if self.runs:
            table["runs"] = {pattern: policy.to_dict() for pattern, policy in self._layers()}
        return table

    def said(self) -> dict[str, Any]:
        """The values of all keys that are said, but `runs`."""
        values = ((key, getattr(self, key)) for key in _CHECKS)
        return {key: value for key, value in values if value is not None}

    def said_of(self, run: str) -> dict[str, Any]:
        """What is said of one run: by the policy, then by each of its patterns that match."""
        found = self.said()
        for pattern, policy in self._layers():
            if fnmatchcase(run, pattern):
                found |= policy.said()
        return found

    def speaks_of_rules(self) -> bool:
        """Whether it says anything of a rule or a cap, for any run."""
        layers = (self, *(policy for _, policy in self._layers()))
        return any(key in layer.said() for layer in layers for key in (*KEEPS, *CAPS))

    def thins(self) -> bool:
        """Whether it may take components from commits of any run."""
        return any(layer.thin for layer in (self, *(policy for _, policy in self._layers())))

    def says_grace(self) -> bool:
        """Whether it says of any run how long a drop can be undone."""
        return any(layer.grace is not None for layer in (self, *(policy for _, policy in self._layers())))

    @property
    def periods(self) -> tuple[Every, ...]:
        """What `keep_periodic` says."""
        texts = cast(tuple[str, ...], self.keep_periodic or ())
        return tuple(every for every in map(Every.parse, texts) if every is not None)

    @property
    def thinning(self) -> Mapping[str, tuple[str, ...]]:
        """What `thin` says, by rule."""
        return dict(cast(tuple[tuple[str, tuple[str, ...]], ...], self.thin or ()))

    @property
    def grace_ns(self) -> int:
        """How long a drop can be undone."""
        return parse_duration(GRACE if self.grace is None else self.grace) or 0

    def _layers(self) -> Iterator[tuple[str, Retention]]:
        yield from cast(tuple[tuple[str, Retention], ...], self.runs)


def effective(layers: Iterable[Retention], run: str) -> Retention:
    """What holds for a run. If that says no rule and no cap, the run is to be left alone.

    Raises:
        InvalidRetention: it says some, and no rule that chooses commits is on: the run would lose everything.
    """
    said: dict[str, Any] = {"grace": GRACE}
    for layer in layers:
        said |= layer.said_of(run)
    is_ruled = any(key in said for key in (*KEEPS, *CAPS))
    if is_ruled and not any(said.get(key) not in (None, 0, (), "0s") for key in KEEPS):
        raise InvalidRetention(key="retention", problem=f"for the run {run!a} no rule is on; {_EMPTY}")
    return Retention(**said)


def grace_of(layers: Iterable[Retention], run: str) -> int:
    """How long a drop of a commit of a run can be undone, in nanoseconds."""
    said: dict[str, Any] = {"grace": GRACE}
    for layer in layers:
        said |= layer.said_of(run)
    return parse_duration(said["grace"]) or 0


def key_of(name: str) -> str:
    """The key that a name stands for, which may be that of another program.

    Raises:
        InvalidRetention: there is no such key; those that are spelled alike are named.
    """
    key = ALIASES.get(name, name)
    if key not in KEYS:
        raise InvalidRetention(key=f"{name!s:.60}", problem=_no_such("key", name, KEYS))
    return key


def refuse_empty(layers: Iterable[Retention]) -> None:
    """Raise InvalidRetention if no layer says a rule or a cap for any run."""
    if not any(layer.speaks_of_rules() for layer in layers):
        raise InvalidRetention(key="retention", problem=_EMPTY)


_EMPTY = "an empty policy would keep nothing; say at least one of " + ", ".join(KEEPS)


def _shown(value: object) -> str:
    return f"{f'{value!a}':.80}"


def _no_such(what: str, name: object, known: Iterable[str]) -> str:
    import difflib  # slow to import, and needed by errors only

    # Compared without `keep_`, which is most of a short name and no part of others: keep_daily is meant for daily.
    names = {one.removeprefix("keep_"): one for one in (*known, *(ALIASES if what == "key" else ()))}
    near = difflib.get_close_matches(str(name).removeprefix("keep_"), names, 2, 0.7)
    rest = f"did you mean {' or '.join(names[one] for one in near)}?" if near else f"there are {', '.join(known)}"
    return f"there is no such {what}; {rest}"


def _count(key: str, value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:  # what TOML and the journal can hold
        raise InvalidRetention(key=key, problem=f"it is a number of commits, 0 or more, not {_shown(value)}")
    return value


def _flag(key: str, value: object) -> bool:
    if type(value) is not bool:
        raise InvalidRetention(key=key, problem=f"it is true or false, not {_shown(value)}")
    return value


def _pins(key: str, value: object) -> bool:
    if not _flag(key, value):
        raise InvalidRetention(key=key, problem="what is pinned is always kept; take the pin away instead")
    return True


def _metric(key: str, value: object) -> str:
    if not is_text(value) or not value:
        raise InvalidRetention(key=key, problem=f"it is the name of a metric, not {_shown(value)}")
    return cast(str, value)


def _mode(key: str, value: object) -> str:
    if value not in ("min", "max"):
        raise InvalidRetention(key=key, problem=f"it is 'min' or 'max', not {_shown(value)}")
    return str(value)


def _duration(key: str, value: object) -> str:
    found = parse_duration(value) if isinstance(value, str) else None
    if found is None or found > _MAX_DURATION:
        problem = f"it is a length of time up to 100 years, as '30d', '12h' or '10min', not {_shown(value)}"
        raise InvalidRetention(key=key, problem=problem)
    return duration_text(found)


def _days(key: str, value: object) -> int | float:
    if type(value) not in (int, float) or not 0 <= cast(float, value) * DAY <= _MAX_DURATION:
        raise InvalidRetention(key=key, problem=f"it is a number of days up to 100 years, not {_shown(value)}")
    return cast(float, value)


def _periods(key: str, value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list | tuple) else () if value == 0 and type(value) is int else (value,)
    found: dict[str, None] = {}
    for one in given:
        text = f"{one} epochs" if type(one) is int else one
        every = Every.parse(text) if isinstance(text, str) else None
        if every is None:
            problem = f"it is '1000 steps', '5 epochs', a length of time or a number of epochs, not {_shown(one)}"
            raise InvalidRetention(key=key, problem=problem)
        found[str(every)] = None
    return tuple(found)


def _pairs(key: str, value: object, of: str) -> list[tuple[Any, Any]]:
    """The items of a table, or of the tuple of pairs that one becomes."""
    given = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(given, list | tuple) or not all(isinstance(one, tuple) and len(one) == 2 for one in given):
        raise InvalidRetention(key=key, problem=f"it is a table by {of}, not {_shown(value)}")
    return list(given)


def _thin(key: str, value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, tuple[str, ...]] = {}
    for rule, given in _pairs(key, value, "rule"):
        if rule not in KEEPS:
            raise InvalidRetention(key=f"{key}.{rule!s:.60}", problem=_no_such("rule that thins", rule, KEEPS))
        patterns = [given] if isinstance(given, str) else given
        if not isinstance(patterns, list | tuple) or not all(is_text(one) and one for one in patterns):
            problem = f"it is a pattern of names of components, or a list of them, not {_shown(given)}"
            raise InvalidRetention(key=f"{key}.{rule}", problem=problem)
        if any("/" in pattern for pattern in patterns):
            problem = "components are given up whole, and their names have no '/'"
            raise InvalidRetention(key=f"{key}.{rule}", problem=problem)
        found[rule] = tuple(patterns)
    return tuple((rule, found[rule]) for rule in KEEPS if found.get(rule))


def _runs(value: object) -> Iterator[tuple[str, Retention]]:
    seen: set[str] = set()
    for pattern, table in _pairs("runs", value, "pattern of run names"):
        if not is_text(pattern) or not pattern:
            raise InvalidRetention(key="runs", problem=f"a pattern of run names is a text, not {_shown(pattern)}")
        try:
            policy = table if isinstance(table, Retention) else Retention.from_dict(table)
        except InvalidRetention as error:
            key = f"runs.{pattern}.{error.facts['key']}"
            raise InvalidRetention(key=key, problem=error.facts["problem"]) from None
        if policy.runs:
            raise InvalidRetention(key=f"runs.{pattern}.runs", problem="a policy for some runs has no runs of its own")
        if pattern in seen:
            raise InvalidRetention(key=f"runs.{pattern}", problem="this pattern is there already")
        seen.add(pattern)
        yield pattern, policy


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "keep_last": _count, "keep_best": _count, "metric": _metric, "mode": _mode, "keep_periodic": _periods,
    "keep_recovery": _count, **dict.fromkeys(BUCKETS, _count), "within": _duration, "keep_tags": _flag,
    "keep_pins": _pins, "protect_unpushed": _flag, "max_total": _count, "cleanup_older_than_days": _days,
    "thin": _thin, "grace": _duration,
}  # fmt: skip
"""Every key but `runs`, in the order in which policies are shown, and what checks and settles its value."""

KEYS = (*_CHECKS, "runs")
"""All keys, in that order."""
