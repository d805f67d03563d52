"""Until when something holds: text that is a date, a time or a duration from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from casckpt.errors import UsageError

_DURATION = re.compile(r"([1-9][0-9]{0,5})(min|h|d|w)")
_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_NS = (1 << 63) - 1


def parse_until(given: str | datetime, now_ns: int) -> int:
    """The moment in nanoseconds since the Unix epoch, UTC.

    Args:
        given: `30min`, `12h`, `30d` or `4w` from now; a date, to its end in UTC; a time as of ISO 8601. A time that
            does not say its zone is in UTC.

    Raises:
        UsageError: it is none of these, or not in the future.
    """
    moment = _moment(given, now_ns) if isinstance(given, str) else given
    if not isinstance(moment, datetime):
        raise UsageError(problem=f"{given!a} is no date, as 2027-01-31, no time and no duration, as 12h, 30d or 4w")
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    found = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    if found <= now_ns:
        raise UsageError(problem=f"{given!s} is not in the future")
    if found > MAX_NS:
        raise UsageError(problem=f"{given!s} is too far away; leave it out for a pin that does not end")
    return found


def _moment(text: str, now_ns: int) -> datetime | None:
    duration = _DURATION.fullmatch(text)
    try:
        if duration is not None:
            return _EPOCH + timedelta(microseconds=now_ns // 1000) + int(duration[1]) * _UNITS[duration[2]]
        found = datetime.fromisoformat(text)
        return found + timedelta(days=1) if _DATE.fullmatch(text) else found
    except (ValueError, OverflowError):
        return None
