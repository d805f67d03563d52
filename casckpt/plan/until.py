"""Until when something holds: text that is a date, a time or a duration from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from casckpt.errors import UsageError
from casckpt.plan.moments import parse_duration, parse_moment
from casckpt.units import SECOND

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_NS = 86_400 * SECOND
MAX_NS = (1 << 63) - 1


def parse_until(given: str | datetime, now_ns: int) -> int:
    """The moment in nanoseconds since the Unix epoch, UTC.

    Args:
        given: `30min`, `12h`, `30d` or `4w` from now; a date, to its end in UTC; a time, in UTC unless it says its
            zone.

    Raises:
        UsageError: it is none of these, or not in the future.
    """
    found = _parsed(given, now_ns) if isinstance(given, str) else _since_epoch(given)
    if found is None:
        raise UsageError(problem=f"{given!a} is no date, as 2027-01-31, no time and no duration, as 12h, 30d or 4w")
    if found <= now_ns:
        raise UsageError(problem=f"{given!s} is not in the future")
    if found > MAX_NS:
        raise UsageError(problem=f"{given!s} is too far away; leave it out for a pin that does not end")
    return found


def _parsed(text: str, now_ns: int) -> int | None:
    length_s = parse_duration(text)
    if length_s is not None:
        return now_ns + length_s * SECOND
    moment = parse_moment(text)
    if moment is None:
        return None
    return moment.at(now_ns) + (_DAY_NS if _DATE.fullmatch(text.strip()) else 0)


def _since_epoch(moment: object) -> int | None:
    if not isinstance(moment, datetime):
        return None
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000
