"""Generators of the standard library: `random.Random`, with the place in its stream and the normal it has in hand."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import Any

from casckpt.state.checks import expect, inconsistent
from casckpt.state.kinds import params
from casckpt.state.kinds.reduced import CannotReduce, Make, Reduced

_VERSION = 3
_WORDS = 624


def reduce(value: Random) -> Reduced:
    """The words, position and spare normal of a generator that is exactly a Random.

    Raises:
        CannotReduce: it is a subclass, whose state may be more or elsewhere.
    """
    if isinstance(value, SystemRandom):
        raise CannotReduce("its numbers come from the operating system, so it has no state")
    if type(value) is not Random:
        raise CannotReduce("subclasses of random.Random are not kept")
    version, (*words, position), normal = value.getstate()
    inner = {"words": words, "position": position, "gauss": normal}
    if version != _VERSION or _problem(inner):
        raise CannotReduce(_problem(inner) or f"its state has version {version}")
    return Reduced("random.Random", None, inner)


def _make(param: str | None, inner: Any) -> Random:
    params.none(param, "a Random")
    expect(inner, dict, "the state of a Random")
    problem = _problem(inner)
    if problem:
        raise inconsistent(f"the state of a Random: {problem}")
    found = Random(0)  # without a seed it would ask the operating system for one
    found.setstate((_VERSION, (*inner["words"], inner["position"]), inner["gauss"]))
    return found


def _problem(state: dict[Any, Any]) -> str:
    """What is wrong with a state; Python itself takes positions from which it draws what is not there."""
    if tuple(state) != ("words", "position", "gauss"):
        return "it does not have the fields words, position and gauss"
    words, position, normal = state.values()
    if type(words) is not list or len(words) != _WORDS:
        return f"it does not have {_WORDS} words"
    if any(type(word) is not int or not 0 <= word < 1 << 32 for word in words):
        return "a word does not have 32 bits"
    if type(position) is not int or not 0 <= position <= _WORDS:
        return f"its position is not one of 0 to {_WORDS}"
    return "" if normal is None or type(normal) is float else "its spare normal is not a float"


MAKERS: dict[str, Make] = {"random.Random": _make}
