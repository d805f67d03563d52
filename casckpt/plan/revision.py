"""Revisions: text that names a commit, parsed into meaning.

    range    = revision ".." [ revision ] | revision "..." revision
    revision = base { suffix }
    base     = hex prefix of an id (4 to 64 digits; `id:face` forces one)
             | run [ "/" head ] | head | tag | "runs/" run [ "/" head ] | "tags/" tag | "@"
             | [ run "/" ] "best(" metric [ "," ( "min" | "max" ) ] ")"
             | "fork(" revision "," revision ")"
    head     = "last" | "best" | "recovery" | "first"
    suffix   = "~" [ n ]            n-th first parent
             | "^" [ n ]            n-th parent
             | "@{" n "}"           the n-th earlier value of a ref; only behind its name
             | "@{" moment "}"      what a ref named at a time (plan.moments); only behind its name
             | "@" key "=" value    the newest ancestor that has the value
    key      = "step" | "epoch" | "run" | "kind" | "status" | "message" | "author" | "config." key { "." key } | metric

`@` and heads alone are those of the current run. Which of several meanings a bare word has is decided by whoever
looks it up, in the order exact ref, tag, run, head, id. Text that begins like `best(`, `run/best(` or `fork(` is never
a name; a run or tag called so is named with `runs/` or `tags/` before it.

Where a part of a commit can be named, it follows after a `:`, as in `gpt/best:out/model.bin`.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from casckpt.errors import InvalidRevision
from casckpt.plan.moments import Moment, parse_moment
from casckpt.plan.names import TEXTS
from casckpt.units import parse_int, parse_number

CONFIG = "config."
"""A key that begins so is a path in the config of a commit."""
_SUFFIX = re.compile(
    r"~(?P<back>\d{0,18})|\^(?P<parent>\d{0,18})|@\{(?P<earlier>\d{1,18})\}|@\{(?P<when>[^{}]*)\}"
    r"|@(?P<key>[^~^:@{}=]+)=(?P<value>[^~^:@{}]*)"
)
_BEFORE_PATH = re.compile(r"(?:[^:@]++|@\{[^{}]*\}|@)*+")
_NAME = re.compile(r"[^~^@]+|@")
_CALL = re.compile(r"(?P<fork>fork)\(|best\(|(?:runs/)?(?P<run>(?:(?!\.\.)[^~^@:/])+)/best\(")
_ID = "id:"
_MAX_COUNT = 1 << 32
_MAX_NESTING = 16
_FORMS = {"back": "~{}", "parent": "^{}", "earlier": "@{{{}}}"}


class Suffix(NamedTuple):
    """So many steps from a commit or value to another: `kind` is `back`, `parent` or `earlier`."""

    kind: str
    number: int

    def __str__(self) -> str:
        return _FORMS[self.kind].format(self.number)


class When(NamedTuple):
    """What a ref named at a time."""

    moment: Moment

    def __str__(self) -> str:
        return f"@{{{self.moment}}}"


class With(NamedTuple):
    """The newest ancestor that has a value: a number of step, epoch and metrics, else the text as it was given."""

    key: str
    value: int | float | str

    def __str__(self) -> str:
        return f"@{self.key}={self.value}"


class Best(NamedTuple):
    """The best commit of a run (None: the current one) by a metric; a `mode` of None is that of the run's rule."""

    run: str | None
    metric: str
    mode: str | None

    def __str__(self) -> str:
        # A run that is itself called like a call would be read as one.
        run = "" if self.run is None else f"runs/{self.run}/" if _call(self.run) else f"{self.run}/"
        return f"{run}best({self.metric},{self.mode})" if self.mode else f"{run}best({self.metric})"


class Fork(NamedTuple):
    """The newest common ancestor of two revisions."""

    left: Revision
    right: Revision

    def __str__(self) -> str:
        return f"fork({self.left},{self.right})"


class Revision(NamedTuple):
    """A parsed revision: `str()` gives text with the same meaning."""

    base: str | Best | Fork
    suffixes: tuple[Suffix | When | With, ...] = ()

    def __str__(self) -> str:
        return str(self.base) + "".join(map(str, self.suffixes))


class Range(NamedTuple):
    """The ancestors of `right` that are not of `left`; with `symmetric` those of either that are not of both."""

    left: Revision
    right: Revision
    symmetric: bool

    def __str__(self) -> str:
        return f"{self.left}{'...' if self.symmetric else '..'}{self.right}"


def parse_revision(text: str) -> Revision:
    """The meaning of a revision.

    Raises:
        InvalidRevision: the text does not follow the grammar.
    """
    return _parse(text, _MAX_NESTING)


def parse_range(text: str) -> Range | None:
    """The meaning of a range, None if the text is not one but may be a revision.

    Raises:
        InvalidRevision: a side of it does not follow the grammar.
    """
    dots = text.find("..", _call_end(text))
    if dots < 0:
        return None
    symmetric = text.startswith("...", dots)
    left, right = text[:dots], text[dots + 2 + symmetric :]
    if not left or (symmetric and not right):
        raise InvalidRevision(text=text, problem="a range is A..B, A.. or A...B")
    return Range(parse_revision(left), parse_revision(right or "@"), symmetric)


def split_path(text: str) -> tuple[str, str | None]:
    """A revision, and the path in its commit that follows after the first `:`; None without one.

    Names have no `:`, so the first one ends the revision, but for that of `id:`, which belongs to an id prefix, as in
    `id:face:model/weight`, and those within the parentheses of `best(` and `fork(` and the braces of `@{TIME}`. A run
    or tag called `id` is given a path as `runs/id:...` or `tags/id:...`.
    The path is what follows, unchanged; it may hold further `:` and may be empty.
    """
    start = len(_ID) if text.startswith(_ID) else _call_end(text)
    before = _BEFORE_PATH.match(text, start)
    end = len(text) if before is None else before.end()
    return (text, None) if end == len(text) else (text[:end], text[end + 1 :])


def _parse(text: str, nesting: int) -> Revision:
    if text.find("..", _call_end(text)) >= 0:
        raise InvalidRevision(text=text, problem="'..' makes it a range of commits, and one commit is needed here")
    base, position = _base(text, nesting)
    suffixes: list[Suffix | When | With] = []
    while position < len(text):
        found = _SUFFIX.match(text, position)
        if found is None:
            problem = f"{text[position:]!r} is no suffix; they are ~n, ^n, @{{n}}, @{{TIME}} and @KEY=VALUE"
            raise InvalidRevision(text=text, problem=problem)
        suffix = _suffix(text, found)
        if is_earlier(suffix) and (suffixes or not isinstance(base, str) or base.startswith(_ID)):
            problem = "@{n} and @{TIME} follow the name of a run, head or tag, and nothing else"
            raise InvalidRevision(text=text, problem=problem)
        suffixes.append(suffix)
        position = found.end()
    return Revision(base, tuple(suffixes))


def _base(text: str, nesting: int) -> tuple[str | Best | Fork, int]:
    """What a revision starts from, and where its suffixes begin."""
    call = _call(text)
    if call is not None:
        return _called(text, call, nesting)
    if text.startswith("@") and _SUFFIX.match(text):
        return "@", 0
    name = _NAME.match(text)
    if name is None:
        raise InvalidRevision(text=text, problem="it names nothing before its first ~, ^ or @")
    return name.group(), name.end()


def _call(text: str) -> re.Match[str] | None:
    """The start of `best(`, `run/best(` or `fork(`, None if the text begins with a name."""
    found = _CALL.match(text)
    return None if found is None or found["run"] in ("runs", "tags") else found


def _called(text: str, call: re.Match[str], nesting: int) -> tuple[Best | Fork, int]:
    end, commas = _arguments(text, call.end())
    if end is None:
        raise InvalidRevision(text=text, problem=f"the '(' of {call.group()!r} is not closed")
    if not nesting:
        raise InvalidRevision(text=text, problem=f"fork( is nested more than {_MAX_NESTING} deep")
    if call["fork"]:
        if len(commas) != 1:
            raise InvalidRevision(text=text, problem="fork(A,B) takes two revisions")
        left, right = text[call.end() : commas[0]].strip(), text[commas[0] + 1 : end].strip()
        try:
            return Fork(_parse(left, nesting - 1), _parse(right, nesting - 1)), end + 1
        except InvalidRevision as error:
            inner_text, problem = error.facts["text"], error.facts["problem"]
            raise InvalidRevision(text=text, problem=f"in {inner_text!r}: {problem}") from None
    inner = text[call.end() : end]
    metric, comma, last = inner.rpartition(",")
    mode = last.strip() if comma and last.strip() in ("min", "max") else None
    metric = (metric if mode else inner).strip()
    if not metric:
        raise InvalidRevision(text=text, problem="best(METRIC,min) or best(METRIC,max) names a metric")
    return Best(call["run"], metric, mode), end + 1


def _arguments(text: str, start: int) -> tuple[int | None, list[int]]:
    """Where the `)` is that belongs to a `(` just before `start`, None if nowhere; and the commas between them."""
    depth, commas = 0, list[int]()
    for position in range(start, len(text)):
        char = text[position]
        if char == ")" and not depth:
            return position, commas
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            commas.append(position)
    return None, commas


def _call_end(text: str) -> int:
    """Where the text behind `best(...)` or `fork(...)` begins, 0 if it starts with neither."""
    call = _call(text)
    end = None if call is None else _arguments(text, call.end())[0]
    return 0 if end is None else end + 1


def _suffix(text: str, found: re.Match[str]) -> Suffix | When | With:
    if found["key"] is not None:
        return With(found["key"], _value(text, found["key"], found["value"]))
    if found["when"] is not None:
        moment = parse_moment(found["when"])
        if moment is None:
            problem = f"{found['when']!r} is no number and no time; times are as 2026-11-01T12:30:00Z, 2026-11-01, "
            raise InvalidRevision(text=text, problem=problem + "yesterday or '2 hours ago'")
        return When(moment)
    kind = next(kind for kind in _FORMS if found[kind] is not None)
    count = int(found[kind] or 1)
    if count > _MAX_COUNT:
        raise InvalidRevision(text=text, problem=f"{count} is too far back")
    return Suffix(kind, count)


def _value(text: str, key: str, value: str) -> int | float | str:
    if key in TEXTS or key.startswith(CONFIG):
        return value
    number = parse_int(value) if key == "step" else parse_number(value)
    if number is None or (key == "epoch" and not math.isfinite(number)):
        wanted = key if key in ("step", "epoch") else f"number, which metric {key!r} is compared with"
        raise InvalidRevision(text=text, problem=f"{value!r} is no {wanted}")
    return number


def is_earlier(suffix: Suffix | When | With) -> bool:
    """Whether a suffix asks for another value of a name, and not for another commit."""
    return isinstance(suffix, When) or (isinstance(suffix, Suffix) and suffix.kind == "earlier")


def id_prefix(base: str) -> tuple[bytes, str] | None:
    """(whole bytes, remaining hex digit or "") if a base can be the prefix of an id, else None."""
    digits = base.removeprefix(_ID)
    if not 4 <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
        return None
    even = len(digits) & ~1
    return bytes.fromhex(digits[:even]), digits[even:]
