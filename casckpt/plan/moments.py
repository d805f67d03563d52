"""Points in time and lengths of time as people write them.

    moment   = date [ ( "T" | " " ) hour ":" minute [ ":" second [ "." fraction ] ] [ "Z" | offset ] ]
             | "yesterday" | duration "ago"
    duration = n unit        2d, 90 min, 3 hours

A time without an offset is in UTC, a date is its first moment there, and `yesterday` is a day ago.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from casckpt import units
from casckpt.units import SECOND

_STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Moment(NamedTuple):
    """A point in time: nanoseconds since the Unix epoch, or so many seconds before it is asked for."""

    time_ns: int | None = None
    ago_s: int = 0

    def __str__(self) -> str:
        if self.time_ns is None:
            return f"{duration_text(self.ago_s)} ago"
        seconds, fraction = divmod(self.time_ns, SECOND)
        # Not strftime, which writes early years with fewer than four digits on some systems.
        shown = (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")
        return f"{shown}.{fraction:09d}Z" if fraction else f"{shown}Z"

    def at(self, now_ns: int) -> int:
        """The point in time, in nanoseconds since the Unix epoch."""
        return now_ns - self.ago_s * SECOND if self.time_ns is None else self.time_ns


def parse_moment(text: str) -> Moment | None:
    """The point in time that a text says, None if it says none."""
    text = text.strip()
    if text == "yesterday":
        return Moment(ago_s=86400)
    if text.endswith("ago"):
        ago_s = parse_duration(text.removesuffix("ago"))
        return None if ago_s is None else Moment(ago_s=ago_s)
    found = _STAMP.fullmatch(text)
    if found is None:
        return None
    *parts, fraction, offset = found.groups()
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    try:
        delta = datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
        moment += -delta if zone[0] == "+" else delta
    except (ValueError, OverflowError):
        return None
    since = moment - _EPOCH
    return Moment((since.days * 86400 + since.seconds) * SECOND + int((fraction or "").ljust(9, "0")))


def parse_duration(text: str) -> int | None:
    """The seconds of a length of time as `2d` or `3 hours`, None if the text is none."""
    found = units.parse_duration(text)
    return None if found is None else found // SECOND


def duration_text(seconds: int) -> str:
    """A length of time in the largest unit that has it whole, as `parse_duration` reads it."""
    return units.duration_text(seconds * SECOND)
