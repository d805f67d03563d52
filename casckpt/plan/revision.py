"""Revisions: text that names a commit, parsed into meaning.

    revision = base { suffix }
    base     = hex prefix of an id (4 to 64 digits; `id:face` forces one)
             | run [ "/" head ] | head | tag | "runs/" run [ "/" head ] | "tags/" tag | "@"
    head     = "last" | "best" | "recovery" | "first"
    suffix   = "~" [ n ]            n-th first parent
             | "^" [ n ]            n-th parent
             | "@step=" n | "@epoch=" n

`@` and heads alone are those of the current run. Which of several meanings a bare word has is decided by whoever
looks it up, in the order exact ref, tag, run, head, id.

Where a part of a commit can be named, it follows after a `:`, as in `gpt/best:out/model.bin`.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import NamedTuple

from casckpt.errors import InvalidRevision
from casckpt.units import parse_int

_SUFFIX = re.compile(r"~(?P<back>\d{0,18})|\^(?P<parent>\d{0,18})|@(?P<key>step|epoch)=(?P<value>[0-9.eE+-]+)")
_BASE = re.compile(r"[^~^@]+|@")
_ID = "id:"
_MAX_COUNT = 1 << 32


class Suffix(NamedTuple):
    """One step from a commit to another: `kind` is `back`, `parent`, `step` or `epoch`."""

    kind: str
    number: int | float

    def __str__(self) -> str:
        mark = {"back": "~", "parent": "^"}.get(self.kind)
        return f"{mark}{self.number}" if mark else f"@{self.kind}={self.number}"


class Revision(NamedTuple):
    """A parsed revision: `str()` gives text with the same meaning."""

    base: str
    suffixes: tuple[Suffix, ...] = ()

    def __str__(self) -> str:
        return self.base + "".join(map(str, self.suffixes))


def parse_revision(text: str) -> Revision:
    """The meaning of a revision.

    Raises:
        InvalidRevision: the text does not follow the grammar.
    """
    base = _BASE.match(text)
    if base is None:
        raise InvalidRevision(text=text, problem="it names nothing before its first ~, ^ or @")
    name, position = base.group(), base.end()
    if text.startswith("@") and _SUFFIX.match(text):
        name, position = "@", 0
    suffixes = []
    while position < len(text):
        found = _SUFFIX.match(text, position)
        if found is None:
            raise InvalidRevision(text=text, problem=f"{text[position:]!r} is no suffix; they are ~n, ^n and @step=n")
        suffixes.append(_suffix(text, found))
        position = found.end()
    return Revision(name, tuple(suffixes))


def split_path(text: str) -> tuple[str, str | None]:
    """A revision, and the path in its commit that follows after the first `:`; None without one.

    No name and no suffix has a `:`, so the first one ends the revision, but for that of `id:`, which belongs to an id
    prefix: `id:face:model/weight`. A run or tag called `id` is given a path as `runs/id:...` or `tags/id:...`.
    The path is what follows, unchanged; it may hold further `:` and may be empty.
    """
    start = len(_ID) if text.startswith(_ID) else 0
    end = text.find(":", start)
    return (text, None) if end < 0 else (text[:end], text[end + 1 :])


def _suffix(text: str, found: re.Match[str]) -> Suffix:
    key, value = found["key"], found["value"]
    if key is not None:
        number: int | float | None = parse_int(value)
        if number is None and key == "epoch":
            with contextlib.suppress(ValueError):
                number = float(value)
            number = number if number is not None and math.isfinite(number) else None
        if number is None:
            raise InvalidRevision(text=text, problem=f"{value!r} is no {key}")
        return Suffix(key, number)
    kind = "back" if found["back"] is not None else "parent"
    count = int(found[kind] or 1)
    if count > _MAX_COUNT:
        raise InvalidRevision(text=text, problem=f"{count} is too far back")
    return Suffix(kind, count)


def id_prefix(base: str) -> tuple[bytes, str] | None:
    """(whole bytes, remaining hex digit or "") if a base can be the prefix of an id, else None."""
    digits = base.removeprefix(_ID)
    if not 4 <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
        return None
    even = len(digits) & ~1
    return bytes.fromhex(digits[:even]), digits[even:]
