"""Numpy's generators as their states, and back: the same numbers follow, and `spawn` gives the same children.

    numpy.Generator       its bit generator
    numpy.RandomState     its bit generator, and the normal it has in hand
    numpy.BitGenerator    by name: the state as numpy gives it, and the seed sequence it was made from
    numpy.SeedSequence    entropy, key, pool size, and how many children it has

Every state is checked before it is set: numpy takes a position behind the end of a buffer, and reads there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import random

from casckpt.state.checks import inconsistent, unknown
from casckpt.state.kinds import params
from casckpt.state.kinds.reduced import CannotReduce, Make, Reduced

_CLASSES: dict[str, Any] = {
    kind.__name__: kind for kind in (random.PCG64, random.PCG64DXSM, random.MT19937, random.Philox, random.SFC64)
}
_SEED = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
_SEED_BITS_MAX, _SEED_WORDS_MAX, _POOL_MAX = 1 << 16, 1 << 16, 1 << 10
"""Most bits of a number, numbers, and words of a pool in a seed sequence: its cost is their product."""

# What a state must be: a dict of such, the shape and dtype of an array, or the least and greatest int.
_WORD_MAX = (1 << 32) - 1
_HALF = {"has_uint32": (0, 1), "uinteger": (0, _WORD_MAX)}
_PCG = {"state": {"state": (0, (1 << 128) - 1), "inc": (0, (1 << 128) - 1)}, **_HALF}
_PHILOX = {"state": {"counter": "4 uint64", "key": "2 uint64"}, "buffer": "4 uint64", "buffer_pos": (0, 4), **_HALF}
_LOOKS: dict[str, Any] = {
    "PCG64": _PCG,
    "PCG64DXSM": _PCG,
    "MT19937": {"state": {"key": "624 uint32", "pos": (0, 624)}},
    "Philox": _PHILOX,
    "SFC64": {"state": {"state": "4 uint64"}, **_HALF},
}


def reduce(value: object) -> Reduced | None:
    """A generator of numpy as its state; None for anything else.

    Raises:
        CannotReduce: its seed is not a SeedSequence, or its state one that numpy does not make.
    """
    kind, param, inner = type(value).__name__, None, None
    if type(value) is random.Generator:
        return Reduced("numpy.Generator", None, value.bit_generator)
    if type(value) is random.RandomState:
        state = value.get_state(legacy=False)
        inner = {"bits": value._bit_generator, "has_gauss": state["has_gauss"], "gauss": state["gauss"]}
    elif type(value) is random.SeedSequence:
        inner = {name: getattr(value, name) for name in _SEED}
    elif isinstance(value, random.BitGenerator) and type(value) in _CLASSES.values():
        state = dict(value.state)
        kind, param, inner = "BitGenerator", state.pop("bit_generator"), {"state": state, "seed": value.seed_seq}
    else:
        return None
    problem = _PROBLEMS[kind](param, inner)
    if problem:
        raise CannotReduce(problem)
    return Reduced(f"numpy.{kind}", param, inner)


def _problem_of_bits(name: str | None, inner: Any) -> str:
    """What is wrong with a bit generator of that name; "" if nothing is."""
    if name not in _LOOKS or not _is(inner, {"state": _LOOKS[name], "seed": object}):
        return f"the state of a {name} is not as numpy makes it"
    seed = inner["seed"]
    if type(seed) is not random.SeedSequence and not (seed is None and name == "MT19937"):
        return f"the seed of a {name} is a {type(seed).__name__}, not a SeedSequence"
    return ""


def _problem_of_random_state(param: str | None, inner: Any) -> str:
    if param is not None or not _is(inner, {"bits": object, "has_gauss": (0, 1), "gauss": float}):
        return "the state of a RandomState is not as numpy makes it"
    return "" if type(inner["bits"]) in _CLASSES.values() else "a RandomState is on a bit generator of another class"


def _problem_of_seed(param: str | None, inner: Any) -> str:
    look = {"entropy": object, "spawn_key": tuple, "pool_size": (4, _POOL_MAX), "n_children_spawned": (0, _WORD_MAX)}
    if param is not None or not _is(inner, look):
        return "a SeedSequence is not as numpy makes it"
    entropy = inner["entropy"]
    if isinstance(entropy, np.ndarray):
        plain = type(entropy) is np.ndarray and entropy.dtype.kind in "iu" and entropy.ndim == 1
        if not plain or entropy.size > _SEED_WORDS_MAX or (entropy < 0).any():
            return "the entropy of a SeedSequence is not a short array of counts"
        entropy = ()
    words = entropy if type(entropy) in (list, tuple) else [entropy]
    if len(words) + len(inner["spawn_key"]) > _SEED_WORDS_MAX:
        return f"a SeedSequence has more than {_SEED_WORDS_MAX} numbers"
    for word in (*words, *inner["spawn_key"]):
        if type(word) is not int and not isinstance(word, np.integer):
            return f"a SeedSequence holds a {type(word).__name__}"
        if word < 0 or int(word).bit_length() > _SEED_BITS_MAX:
            return f"a SeedSequence holds a number that is not one of 0 to 2^{_SEED_BITS_MAX}"
    return ""


def _is(value: Any, look: Any) -> bool:
    """Whether a value is what one of `_LOOKS` says."""
    if isinstance(look, dict):
        return type(value) is dict and [*value] == [*look] and all(map(_is, value.values(), look.values()))
    if isinstance(look, tuple):
        return type(value) is int and look[0] <= value <= look[1]
    if isinstance(look, str):
        size, dtype = look.split()
        return type(value) is np.ndarray and value.shape == (int(size),) and value.dtype == np.dtype(dtype)
    return look is object or type(value) is look


def _make_generator(param: str | None, inner: Any) -> random.Generator:
    params.none(param, "a Generator")
    if type(inner) not in _CLASSES.values():
        raise inconsistent(f"a Generator is on a {type(inner).__name__}")
    return random.Generator(inner)


def _make_random_state(param: str | None, inner: Any) -> random.RandomState:
    _refuse(_problem_of_random_state(param, inner))
    made = random.RandomState(inner["bits"])
    made.set_state({**inner["bits"].state, "has_gauss": inner["has_gauss"], "gauss": inner["gauss"]})
    return made


def _make_seed(param: str | None, inner: Any) -> random.SeedSequence:
    _refuse(_problem_of_seed(param, inner))
    return random.SeedSequence(**inner)


def _make_bits(param: str | None, inner: Any) -> random.BitGenerator:
    if param not in _LOOKS:
        raise unknown(f"a bit generator of numpy called {str(param)[:40]!r}")
    _refuse(_problem_of_bits(param, inner))
    seed = inner["seed"]
    # Only what numpy seeded the old way has no sequence, and only it makes such a one.
    made: random.BitGenerator = random.RandomState(0)._bit_generator if seed is None else _CLASSES[param](seed)
    made.state = {"bit_generator": param, **inner["state"]}
    return made


def _refuse(problem: str) -> None:
    if problem:
        raise inconsistent(problem)


_PROBLEMS: dict[str, Callable[[str | None, Any], str]] = {
    "BitGenerator": _problem_of_bits,
    "RandomState": _problem_of_random_state,
    "SeedSequence": _problem_of_seed,
}

MAKERS: dict[str, Make] = {
    "numpy.Generator": _make_generator,
    "numpy.RandomState": _make_random_state,
    "numpy.SeedSequence": _make_seed,
    "numpy.BitGenerator": _make_bits,
}
