"""Which of several runs is better, and why, in words that follow from numbers alone.

The metric of a run's rule decides, and the best value of each run since they parted. How the curves stand to each other
at the end is said beside it, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from casckpt.plan.series import Axis, Mode, Number, Standing, better
from casckpt.units import format_count


class Verdict(NamedTuple):
    """The number of the better run, None if none is, by which metric, and why."""

    better: int | None
    metric: str | None
    mode: Mode | None
    why: str

    def to_dict(self, names: Sequence[str]) -> dict[str, str | None]:
        name = None if self.better is None else names[self.better]
        return {"better": name, "metric": self.metric, "mode": self.mode, "why": self.why}


def verdict(
    metric: str,
    mode: Mode,
    names: Sequence[str],
    bests: Sequence[tuple[Number, str] | None],
    standing: Standing | None,
    axis: Axis,
) -> Verdict:
    """Judge runs by the best values of a metric.

    Args:
        bests: the best value of each run and where it was, None for a run that has none.
        standing: of two runs, how their curves stand.
    """
    known = [number for number, best in enumerate(bests) if best is not None]
    without = [names[number] for number, best in enumerate(bests) if best is None]
    if not known:
        return Verdict(None, metric, mode, f"no run has a number for {metric} since they parted")
    first = known[0]
    for number in known[1:]:
        if better(_value(bests[first]), _value(bests[number]), mode) == 1:
            first = number
    equal = [number for number in known if _value(bests[number]) == _value(bests[first])]
    parts = [f"{', '.join(without)} has no number for {metric}"] if without else []
    if len(equal) > 1:
        parts.insert(
            0, f"the best {metric} is {_at(bests[first])} for {' and '.join(names[one] for one in equal)} alike"
        )
        return Verdict(None, metric, mode, "; ".join(parts + _tail(names, standing, mode, axis, None)))
    others = [f"{names[one]} has {_at(bests[one])}{_apart(bests[first], bests[one])}" for one in known if one != first]
    parts.insert(0, ", ".join([f"its best {metric} is {_at(bests[first])}", *others]))
    return Verdict(first, metric, mode, "; ".join(parts + _tail(names, standing, mode, axis, first)))


def _value(best: tuple[Number, str] | None) -> Number:
    assert best is not None
    return best[0]


def _at(best: tuple[Number, str] | None) -> str:
    assert best is not None
    return f"{best[0]:.4g}{best[1]}"


def _apart(first: tuple[Number, str] | None, other: tuple[Number, str] | None) -> str:
    """How far another value is from the best one, as a share of that."""
    base, value = _value(first), _value(other)
    return f" ({100 * (value - base) / abs(base):+.1f} %)" if base else ""


def _tail(names: Sequence[str], standing: Standing | None, mode: Mode, axis: Axis, first: int | None) -> list[str]:
    """How the curves of two runs stand at the end."""
    if standing is None:
        return []
    if not standing.aligned:
        return [f"they have no {axis} in common at which both measured it"]
    if standing.ahead is None or standing.since is None:
        return [f"they are equal at the last of {_places(standing.aligned, axis)} both have"]
    subject = "it" if standing.ahead == first else names[standing.ahead]
    word = "lower" if mode == "min" else "higher"
    joined = "" if standing.ahead == first or first is None else "but "
    return [f"{joined}{subject} is {word} at every {_noun(axis)} both have since {place(standing.since, axis)}"]


def _noun(axis: Axis) -> str:
    return "moment" if axis == "time" else axis


def _places(count: int, axis: Axis) -> str:
    return f"{format_count(count)} {_noun(axis)}{'' if count == 1 else 's'}"


def place(x: Number, axis: Axis) -> str:
    """A place of the axis, as `44,100`, `1.5`, `90 s` or `12.5 h`."""
    if axis == "time":
        return f"{x:.3g} s" if x < 120 else f"{x / 60:.1f} min" if x < 7200 else f"{x / 3600:.1f} h"
    return format_count(x) if isinstance(x, int) else f"{x:.4g}"
