import random

import pytest

from casckpt import errors
from casckpt.state.kinds import generators
from casckpt.state.kinds.reduced import CannotReduce
from tests.strategies_values import through

STATE = generators.reduce(random.Random(3)).inner


@pytest.mark.parametrize("normals", [0, 1, 2])
def test_the_same_numbers_follow(normals):
    mine = random.Random("seed")
    for _ in range(normals):
        mine.gauss(0, 1)
    theirs = through(mine)
    assert [mine.gauss(0, 1), *mine.sample(range(99), 9)] == [theirs.gauss(0, 1), *theirs.sample(range(99), 9)]
    assert mine.getrandbits(30_000) == theirs.getrandbits(30_000)


WRONG = {
    "position behind the end": {"position": 625},
    "negative position": {"position": -1},
    "bool": {"position": True},
    "33 bits": {"words": [1 << 32] + [0] * 623},
    "too few": {"words": [0] * 623},
    "floats": {"words": [0.5] * 624},
    "tuple": {"words": (0,) * 624},
    "normal": {"gauss": 1},
    "more": {"version": 3},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_python_would_not_make_is_refused(name):
    with pytest.raises(errors.IntegrityError):
        generators.MAKERS["random.Random"](None, STATE | WRONG[name])
    with pytest.raises(errors.IntegrityError):
        generators.MAKERS["random.Random"]("param", STATE)


class Mine(random.Random):
    pass


def test_generators_without_a_state_or_with_more_are_not_kept():
    with pytest.raises(CannotReduce, match="operating system"):
        generators.reduce(random.SystemRandom())
    with pytest.raises(CannotReduce, match="subclasses"):
        generators.reduce(Mine(3))
