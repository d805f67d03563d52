"""Sizes, counts and times as people read them; no other room formats a number."""

from __future__ import annotations

import datetime
import math
import re

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30

DECIMAL_BITS_MAX = 14_000
"""Longest ints that are written in decimal: Python refuses 4300 digits, for the time grows with their square."""

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
"""Lengths of time in nanoseconds."""

_TIME_UNITS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_TIME_WORDS = {
    **_TIME_UNITS, "m": MINUTE, "sec": SECOND, "second": SECOND, "seconds": SECOND, "minute": MINUTE, "minutes": MINUTE,
    "hour": HOUR, "hours": HOUR, "day": DAY, "days": DAY, "week": 7 * DAY, "weeks": 7 * DAY,
}  # fmt: skip
_DURATION = re.compile(r"(\d{1,9}) *([a-z]+)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf)|nan", re.ASCII)
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_bytes(count: int) -> str:
    """A byte count in IEC units with at most one decimal, as `61.3 GiB`."""
    value = float(count)
    for unit in _BYTE_UNITS:
        if abs(value) < 1024 or unit == _BYTE_UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def format_count(count: int) -> str:
    """A count with thousands separators, as `12,345`."""
    return f"{count:,}"


def format_ratio(logical: int, stored: int) -> str:
    """How many logical bytes one stored byte stands for, as `2.4x`."""
    return "-" if stored == 0 else f"{logical / stored:.1f}x"


def format_age(seconds: float) -> str:
    """A duration since something happened, as `3 h ago`; negative ones read as `just now`."""
    return "just now" if seconds < 1 else f"{format_duration(seconds)} ago"


def format_duration(seconds: float) -> str:
    """How long something takes in its largest whole unit, as `5 min`; not negative."""
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} d"


def parse_duration(text: str) -> int | None:
    """The nanoseconds of a length of time, as `30d`, `12h`, `10min`, `1w` or `3 hours`; None if the text is none."""
    found = _DURATION.fullmatch(text.strip(" "))
    unit = None if found is None else _TIME_WORDS.get(found[2])
    return None if found is None or unit is None else int(found[1]) * unit


def duration_text(duration_ns: int) -> str:
    """A length of time of whole seconds in the largest unit that has it whole, as `parse_duration` reads it."""
    unit = next((unit for unit in reversed(_TIME_UNITS) if duration_ns and duration_ns % _TIME_UNITS[unit] == 0), "s")
    return f"{duration_ns // _TIME_UNITS[unit]}{unit}"


def parse_int(text: str) -> int | None:
    """The decimal integer of 64 bits written in `text`, None if it is anything else (no `_`, no spaces)."""
    digits = text[1:] if text[:1] == "-" else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def parse_number(text: str) -> int | float | None:
    """The number written in `text`, also `nan`, `inf` and `-inf`; integers of 64 bits exactly. None if it is none."""
    if _NUMBER.fullmatch(text) is None:
        return None
    if text == "nan":
        return math.nan  # the one object, so that what was parsed equals what is parsed again
    whole = parse_int(text)
    return float(text) if whole is None else whole


def rfc3339(time_ns: int) -> str:
    """A time in nanoseconds since the epoch as RFC 3339 UTC with milliseconds; far-off ones as a plain count."""
    try:
        moment = datetime.datetime.fromtimestamp(time_ns / 1e9, tz=datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local_time(time_ns: int) -> str:
    """A time as date, hour and minute in the time zone of this machine, with its offset; far-off ones as a count."""
    try:
        moment = datetime.datetime.fromtimestamp(time_ns / 1e9).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"
    return moment.strftime("%Y-%m-%d %H:%M %z")


def json_number(value: int | float) -> int | float | str:
    """A number JSON can hold: non-finite ones become "NaN", "Infinity" and "-Infinity", very long ints hexadecimal."""
    if isinstance(value, int) and value.bit_length() > DECIMAL_BITS_MAX:
        return hex(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
