"""Checks: text that says when a run is worse than another by too much, parsed into numbers; nothing of it is executed.

    check    = measure operator amount
    measure  = metric | "best(" metric ")" | "last(" metric ")"
    operator = "<" | "<=" | ">" | ">="
    amount   = ( "+" | "-" ) number [ "%" ]

`val/loss > +2%` fails if the best value of the second run is more than 2 % of the first's above it. The operator says
which way is worse, and so which value is best: for `>` the smallest. The amount is a difference, so it has a sign;
with `%` it is a share of the size of the first value. A metric that is no word, or starts like a call, stands in
quotes, in which a backslash takes the next character as it is.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from casckpt.errors import InvalidCheck
from casckpt.plan.series import Mode, Number
from casckpt.units import parse_int

_WORD = r"[^\s<>=()\"']+"
_METRIC = rf"(?:{_WORD}|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
_CHECK = re.compile(
    rf"\s*(?:(?P<of>best|last)\(\s*(?P<inner>{_METRIC})\s*\)|(?P<metric>{_METRIC}))"
    r"\s*(?P<operator><=|>=|[<>])\s*(?P<amount>\S+?)\s*(?P<percent>%?)\s*",
    re.DOTALL,
)
_AMOUNT = re.compile(r"[+-](?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ORDERS: dict[str, Callable[[Number, Number], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Check(NamedTuple):
    """When the second of two values is too far from the first; `str()` gives text with the same meaning."""

    metric: str
    of: str
    """`best` or `last`: which values of the two runs are compared."""
    operator: str
    amount: Number
    percent: bool

    def __str__(self) -> str:
        metric = self.metric if re.fullmatch(_WORD, self.metric) else _quoted(self.metric)
        sign = "+" if math.copysign(1, self.amount) > 0 else ""
        measure = metric if self.of == "best" else f"{self.of}({metric})"
        return f"{measure} {self.operator} {sign}{self.amount!r}{'%' if self.percent else ''}"

    @property
    def mode(self) -> Mode:
        """Which value is the best one, if going where the operator points is worse."""
        return "min" if self.operator[0] == ">" else "max"

    def fails(self, first: Number, second: Number) -> bool:
        """Whether the second value is worse than the first by the amount. NaN is worse than any number."""
        if math.isnan(second) or math.isnan(first):
            return not math.isnan(first)
        return _ORDERS[self.operator](self.change(first, second), self.amount)

    def change(self, first: Number, second: Number) -> Number:
        """By how much the second value is above the first, in what the amount is given in."""
        if first == second:
            return 0
        change = second - first
        if not self.percent:
            return change
        # Of nothing every change is infinite, and so is every change of what is infinite.
        return 100 * change / abs(first) if first and math.isfinite(first) else math.copysign(math.inf, change)


def parse_check(text: str) -> Check:
    """The meaning of a check.

    Raises:
        InvalidCheck: the text does not follow the grammar.
    """
    found = _CHECK.fullmatch(text)
    if found is None:
        raise InvalidCheck(text=text, problem="a check is METRIC > +AMOUNT or METRIC < -AMOUNT, as in 'val/loss > +2%'")
    amount = found["amount"]
    if _AMOUNT.fullmatch(amount) is None:
        problem = f"{amount} is no difference: it has a sign, and is a number or a share in %"
        raise InvalidCheck(text=text, problem=problem)
    whole = parse_int(amount.removeprefix("+"))
    number = float(amount) if whole is None or (not whole and amount[0] == "-") else whole
    if not math.isfinite(number):
        raise InvalidCheck(text=text, problem=f"{amount} is beyond all numbers")
    metric = found["inner"] or found["metric"]
    metric = re.sub(r"\\(.)", r"\1", metric[1:-1], flags=re.DOTALL) if metric[0] in "\"'" else metric
    return Check(metric, found["of"] or "best", found["operator"], number, bool(found["percent"]))


def _quoted(text: str) -> str:
    return "'" + re.sub(r"(['\\])", r"\\\1", text) + "'"
