"""Filters: text that says which commits of a history are wanted, parsed into conditions; nothing of it is executed.

    filter    = and { "or" and }
    and       = not { "and" not }
    not       = [ "not" ] ( condition | "(" filter ")" )
    condition = key operator value | "has" key | "nan" "(" metric ")" | "nonfinite" | "damaged"
    operator  = "<" | "<=" | ">" | ">=" | "=" | "!=" | "~"
    key       = "step" | "epoch" | "time" | "age" | "run" | "kind" | "status" | "message" | "author" | "tag" | "note"
              | "pin" | metric
    value     = number | moment | duration | text

A metric, and a text, is a word or stands in quotes, in which a backslash takes the next character as it is. A quoted
key is always a metric, so one that is called `step` or `or` can be asked for too. What a commit does not have
fulfils no comparison, not even `!=`. Of several tags one has to fulfil it. The text of a pin is when it ends, in UTC,
or `never`. `nonfinite` and `damaged` are those whose state holds NaN or infinities, and those with recorded damage.

`~` compares with a pattern of `*` and `?`, not with a regular expression: what a hostile text could make of one takes
time without bounds.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from casckpt.errors import InvalidFilter
from casckpt.format.commit import Commit
from casckpt.format.marks import OF_LEAVES
from casckpt.plan.moments import Moment, duration_text, parse_duration, parse_moment
from casckpt.plan.names import NUMBERS
from casckpt.plan.names import TEXTS as FIELDS
from casckpt.units import SECOND, parse_number

TEXTS = (*FIELDS, "tag", "note", "pin")
TIMES = ("time", "age")
_KEYS = (*NUMBERS, *TIMES, *TEXTS)
FLAGS = OF_LEAVES
"""What is asked for by a word alone."""
_RESERVED = ("and", "or", "not", "has", *FLAGS)
_MAX_NESTING = 32
_TOKEN = re.compile(
    r"""\s*(?:(?P<operator><=|>=|!=|[<>=~])|(?P<paren>[()])|(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<word>[^\s<>=!~()"']+)|(?P<end>\Z))""",
    re.DOTALL,
)
_SPACE = re.compile(r"\s*")
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


class Subject(NamedTuple):
    """A commit, and what a filter asks for that it does not say itself."""

    commit: Commit
    now_ns: int = 0
    tags: tuple[str, ...] = ()
    note: str | None = None
    pin: str | None = None
    """When it ends, in UTC, or `never`; None without one."""
    flags: tuple[str, ...] = ()
    """Those of `FLAGS` that it has."""


class Key(NamedTuple):
    """What a commit is asked for: a field of it, or a metric."""

    name: str
    is_metric: bool

    def __str__(self) -> str:
        word = _TOKEN.fullmatch(self.name)
        is_bare = word is not None and word["word"] == self.name and parse_number(self.name) is None
        if not self.is_metric or (is_bare and self.name not in (*_RESERVED, *_KEYS)):
            return self.name
        return _quoted(self.name)

    def values(self, subject: Subject) -> tuple[int | float | str | None, ...]:
        """Its values in a commit: one, None if there is none, or those of all tags."""
        commit = subject.commit
        if self.is_metric:
            return (commit.metrics.get(self.name),)
        if self.name == "tag":
            return subject.tags
        if self.name in ("note", "pin"):
            return (subject.note if self.name == "note" else subject.pin,)
        if self.name in TIMES:
            return (commit.time_ns if self.name == "time" else subject.now_ns - commit.time_ns,)
        return (getattr(commit, self.name),)


class Condition(NamedTuple):
    """A comparison with a number, a text, a moment, or of the age with seconds."""

    key: Key
    operator: str
    value: int | float | str | Moment

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, Moment):
            shown = _quoted(str(value))
        elif self.key == _AGE:
            shown = duration_text(int(value))
        else:
            shown = _quoted(value) if isinstance(value, str) else repr(value)
        return f"{self.key} {self.operator} {shown}"

    def matches(self, subject: Subject) -> bool:
        wanted = self.value.at(subject.now_ns) if isinstance(self.value, Moment) else self.value
        if self.key == _AGE and not isinstance(wanted, str):
            wanted = wanted * SECOND
        return any(found is not None and self._fits(found, wanted) for found in self.key.values(subject))

    def _fits(self, found: int | float | str, wanted: int | float | str) -> bool:
        if self.operator == "~":
            return fnmatchcase(str(found), str(wanted))
        # NaN equals nothing, but who asks for it wants those that are.
        if isinstance(wanted, float) and math.isnan(wanted):
            return (self.operator, math.isnan(float(found))) in (("=", True), ("!=", False))
        return _ORDERS[self.operator](found, wanted)

    def compared(self) -> Iterator[Key]:
        yield self.key


class Has(NamedTuple):
    """Whether there is a value; an empty text is none."""

    key: Key

    def __str__(self) -> str:
        return f"has {self.key}"

    def matches(self, subject: Subject) -> bool:
        return any(found not in (None, "") for found in self.key.values(subject))

    def compared(self) -> Iterator[Key]:
        yield from ()


class Flag(NamedTuple):
    """Whether something holds of a commit that is said by a word alone."""

    word: str

    def __str__(self) -> str:
        return self.word

    def matches(self, subject: Subject) -> bool:
        return self.word in subject.flags

    def compared(self) -> Iterator[Key]:
        yield from ()


class Not(NamedTuple):
    """The opposite."""

    part: Filter

    def __str__(self) -> str:
        return f"not {self.part}" if isinstance(self.part, Condition | Has | Flag) else f"not ({self.part})"

    def matches(self, subject: Subject) -> bool:
        return not self.part.matches(subject)

    def compared(self) -> Iterator[Key]:
        return self.part.compared()


class Several(NamedTuple):
    """All of two or more filters (`and`) or any of them (`or`)."""

    word: str
    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(map(self._shown, self.parts))

    def _shown(self, part: Filter) -> str:
        """A part in parentheses if they change the meaning: `and` binds closer than `or`."""
        return f"({part})" if isinstance(part, Several) and (self.word, part.word) != ("or", "and") else str(part)

    def matches(self, subject: Subject) -> bool:
        found = (part.matches(subject) for part in self.parts)
        return all(found) if self.word == "and" else any(found)

    def compared(self) -> Iterator[Key]:
        """The keys that are compared with a value, in the order of the text."""
        for part in self.parts:
            yield from part.compared()


Filter = Condition | Has | Flag | Not | Several
_AGE = Key("age", is_metric=False)


def parse_filter(text: str) -> Filter:
    """The meaning of a filter.

    Raises:
        InvalidFilter: the text does not follow the grammar, or compares what cannot be; with the place.
    """
    return _Parser(text).whole()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """One descent through the tokens of a filter; every rule leaves `_next` behind what it took."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[_Token] = []
        position = 0
        while not self._tokens or self._tokens[-1].kind != "end":
            found = _TOKEN.match(text, position)
            if found is None:
                at = _SPACE.match(text, position).end()  # type: ignore[union-attr]
                problem = "the quote is not closed" if text[at] in "\"'" else f"{text[at]!r} means nothing here"
                raise self._error(at, problem)
            kind = str(found.lastgroup)
            self._tokens.append(_Token(kind, found[kind], found.start(kind)))
            position = found.end()
        self._next = 0

    def whole(self) -> Filter:
        found = self._several("or", _MAX_NESTING)
        token = self._tokens[self._next]
        if token.kind != "end":
            is_stray = token.text == ")"
            raise self._error(token.at, "this ')' closes nothing" if is_stray else "expected 'and', 'or' or the end")
        return found

    def _several(self, word: str, nesting: int) -> Filter:
        found: list[Filter] = []
        while not found or self._take("word", word):
            found.append(self._several("and", nesting) if word == "or" else self._not(nesting))
        return found[0] if len(found) == 1 else Several(word, tuple(found))

    def _not(self, nesting: int) -> Filter:
        if self._take("word", "not"):
            return Not(self._single(nesting))
        return self._single(nesting)

    def _single(self, nesting: int) -> Filter:
        opening = self._tokens[self._next]
        if self._take("paren", "("):
            if not nesting:
                raise self._error(opening.at, f"parentheses are nested more than {_MAX_NESTING} deep")
            found = self._several("or", nesting - 1)
            if not self._take("paren", ")"):
                at = self._tokens[self._next].at
                raise self._error(at, f"expected 'and', 'or' or the ')' of the '(' at character {opening.at + 1}")
            return found
        if self._take("word", "has"):
            return Has(self._key())
        if self._take("word", "nan"):
            return self._nan()
        if opening.kind == "word" and opening.text in FLAGS:
            return self._flag(opening)
        return self._condition()

    def _nan(self) -> Condition:
        opening = self._tokens[self._next]
        if not self._take("paren", "("):
            raise self._error(opening.at, "expected the '(' of nan(METRIC)")
        at = self._tokens[self._next].at
        key = self._key()
        if not key.is_metric:
            raise self._error(at, f"{key} is never NaN: nan(METRIC) names a metric")
        if not self._take("paren", ")"):
            raise self._error(self._tokens[self._next].at, "expected the ')' of nan(METRIC)")
        return Condition(key, "=", math.nan)

    def _flag(self, opening: _Token) -> Flag:
        self._next += 1
        if self._tokens[self._next].kind == "operator":
            at = self._tokens[self._next].at
            raise self._error(at, f"{opening.text} stands alone; of a metric with that name say '{opening.text}'")
        return Flag(opening.text)

    def _key(self) -> Key:
        token = self._tokens[self._next]
        is_name = token.kind == "quoted" or (
            token.kind == "word" and token.text not in _RESERVED and parse_number(token.text) is None
        )
        if not is_name:
            raise self._error(token.at, f"expected a metric or one of {', '.join(_KEYS)}")
        self._next += 1
        if token.kind == "quoted":
            return Key(_unquoted(token.text), is_metric=True)
        return Key(token.text, token.text not in _KEYS)

    def _condition(self) -> Condition:
        key = self._key()
        is_text, is_time = (not key.is_metric and key.name in names for names in (TEXTS, TIMES))
        sign = self._tokens[self._next]
        if sign.kind != "operator":
            raise self._error(sign.at, f"expected one of {' '.join(_ORDERS)} ~ after {key}")
        if is_text and sign.text not in ("=", "!=", "~"):
            raise self._error(sign.at, f"{key} is a text, which is compared with = != or ~")
        if not is_text and sign.text == "~":
            raise self._error(sign.at, f"{key} is a number, and ~ compares texts: {', '.join(TEXTS)}")
        if is_time and sign.text in ("=", "!="):
            raise self._error(sign.at, f"{key} is exact to the nanosecond: it is compared with < <= > or >=")
        value = self._tokens[self._next + 1]
        if value.kind not in ("word", "quoted"):
            doubled = " ('=' is written once)" if sign.text == value.text == "=" else ""
            wanted = "text" if is_text else "time" if is_time else "number"
            raise self._error(value.at, f"expected a {wanted} after {sign.text}{doubled}")
        self._next += 2
        word = _unquoted(value.text) if value.kind == "quoted" else value.text
        if is_text:
            return Condition(key, sign.text, word)
        return Condition(key, sign.text, self._time(key, value.at, word) if is_time else self._number(key, value))

    def _time(self, key: Key, at: int, word: str) -> int | Moment:
        found = parse_duration(word) if key == _AGE else parse_moment(word)
        if found is None:
            like = "age: write 2d or '90 min'" if key == _AGE else "time: write 2026-11-01, yesterday or '2 hours ago'"
            raise self._error(at, f"{word} is no {like}")
        return found

    def _number(self, key: Key, token: _Token) -> int | float:
        found = parse_number(token.text) if token.kind == "word" else None
        if found is None:
            texts = f" (texts are {', '.join(TEXTS)})" if key.is_metric else ""
            raise self._error(token.at, f"{token.text} is no number, which {key} is compared with{texts}")
        return found

    def _take(self, kind: str, text: str) -> bool:
        token = self._tokens[self._next]
        is_it = token.kind == kind and token.text == text
        self._next += is_it
        return is_it

    def _error(self, at: int, problem: str) -> InvalidFilter:
        return InvalidFilter(text=self._text, column=at + 1, problem=problem)


def _quoted(text: str) -> str:
    return "'" + re.sub(r"(['\\])", r"\\\1", text) + "'"


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
