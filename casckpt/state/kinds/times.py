"""Dates, times and zones of the standard library as something simpler, and back.

kind                  inner value
date, time, datetime  text in ISO form; or tuple of that, fold, tzinfo
timedelta             microseconds
timezone              tuple of offset, and name if it has one
zone                  key of a zoneinfo.ZoneInfo
"""

from __future__ import annotations

from typing import Any

from casckpt.state.checks import expect, inconsistent, parsed, unknown
from casckpt.state.kinds.reduced import CannotReduce, Make, Reduce, Reduced

_DAY_US = 86_400_000_000


def _reduce_time(value: Any) -> Reduced:
    import datetime

    kind, zone = type(value).__name__, value.tzinfo
    if (zone is None or zone is datetime.UTC) and not value.fold:
        return Reduced(kind, None, value.isoformat())
    return Reduced(kind, None, (value.replace(tzinfo=None, fold=0).isoformat(), value.fold, zone))


def _make_time(name: str) -> Make:
    def make(_param: str | None, inner: Any) -> Any:
        import datetime

        fold, zone = 0, None
        zoned = type(inner) is tuple and len(inner) == 3
        if zoned:
            inner, fold, zone = inner
        text = expect(inner, str, f"a {name}")
        if type(fold) is not int or fold not in (0, 1) or not isinstance(zone, datetime.tzinfo | None):
            raise inconsistent(f"a {name} of an unknown zone")
        kind = getattr(datetime, name)
        made = parsed(kind.fromisoformat, text)
        inside = getattr(made, "tzinfo", None)
        if made.isoformat() != text or (inside is not None and (zoned or inside is not datetime.UTC)):
            raise inconsistent(f"a {name} is not in its usual form")
        return made if name == "date" else made.replace(tzinfo=zone or inside, fold=fold)

    return make


def _make_timedelta(_param: str | None, inner: Any) -> Any:
    import datetime

    # In days and rest: timedelta computes with floats where it is given more than that.
    days, rest = divmod(expect(inner, int, "a timedelta"), _DAY_US)
    return parsed(lambda pair: datetime.timedelta(days=pair[0], microseconds=pair[1]), (days, rest))


def _reduce_timedelta(value: Any) -> Reduced:
    return Reduced("timedelta", None, (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds)


def _make_timezone(_param: str | None, inner: Any) -> Any:
    import datetime

    arguments = expect(inner, tuple, "a timezone")
    if [type(argument) for argument in arguments] not in ([datetime.timedelta], [datetime.timedelta, str]):
        raise inconsistent("a timezone is not an offset and a name")
    return parsed(lambda given: datetime.timezone(*given), arguments)


def _reduce_zone(value: Any) -> Reduced:
    if value.key is None:
        raise CannotReduce("it was read from a file, so it has no key")
    return Reduced("zone", None, value.key)


def _make_zone(_param: str | None, inner: Any) -> Any:
    import zoneinfo

    key = expect(inner, str, "a time zone")
    try:
        return zoneinfo.ZoneInfo(key)
    except (ValueError, OSError, KeyError) as error:
        raise unknown(f"time zone {key[:40]!r}: {error}; pip install tzdata brings all zones") from error


REDUCERS: dict[tuple[str, str], Reduce] = {
    ("datetime", "date"): lambda value: Reduced("date", None, value.isoformat()),
    ("datetime", "time"): _reduce_time,
    ("datetime", "datetime"): _reduce_time,
    ("datetime", "timedelta"): _reduce_timedelta,
    ("datetime", "timezone"): lambda value: Reduced("timezone", None, value.__getinitargs__()),
    ("zoneinfo", "ZoneInfo"): _reduce_zone,
}
"""By module and name of the type."""

MAKERS: dict[str, Make] = {
    "date": _make_time("date"),
    "time": _make_time("time"),
    "datetime": _make_time("datetime"),
    "timedelta": _make_timedelta,
    "timezone": _make_timezone,
    "zone": _make_zone,
}
