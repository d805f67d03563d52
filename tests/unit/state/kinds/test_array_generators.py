import copy

import numpy as np
import pytest

from casckpt import errors
from casckpt.state.kinds import array_objects
from casckpt.state.kinds.reduced import CannotReduce
from tests.strategies_values import BIT_GENERATORS, apart, reduced, through, together

SEED = np.random.SeedSequence(5)


def generator(name, odd):
    """A generator that has half a word, or an odd number of them, in hand."""
    found = np.random.Generator(getattr(np.random, name)(11))
    for _ in range(odd):
        found.integers(0, 100, dtype=np.uint32)
        found.random(dtype=np.float32)
        found.standard_normal()
        found.bytes(odd)
    return found


@pytest.mark.parametrize("odd", [0, 1, 3, 7])
@pytest.mark.parametrize("name", BIT_GENERATORS)
def test_the_same_numbers_follow_and_the_same_children(name, odd):
    mine = generator(name, odd)
    mine.spawn(2)
    theirs = through(mine)
    for one in (mine, theirs):
        assert type(one.bit_generator) is getattr(np.random, name)
    for draw in (
        lambda one: one.integers(0, 1000, 5, dtype=np.uint32),
        lambda one: one.standard_normal(700),
        lambda one: one.random(3, dtype=np.float32),
        lambda one: one.permutation(20),
        lambda one: np.stack([child.random(4) for child in one.spawn(2)]),
        lambda one: one.choice(50, 9, replace=False),
    ):
        assert np.array_equal(draw(mine), draw(theirs))


@pytest.mark.parametrize("name", BIT_GENERATORS)
def test_a_random_state_keeps_the_normal_it_has_in_hand(name):
    mine = np.random.RandomState(getattr(np.random, name)(3))
    mine.randn(3)
    assert mine.get_state(legacy=False)["has_gauss"] == 1
    theirs = through(mine)
    assert np.array_equal(mine.randn(9), theirs.randn(9))
    assert np.array_equal(mine.randint(0, 9, 700), theirs.randint(0, 9, 700))


def test_a_generator_seeded_the_old_way_has_no_seed_sequence_afterwards():
    back = through(np.random.RandomState(7)._bit_generator)
    assert back.seed_seq is None
    assert back.random_raw() == np.random.RandomState(7)._bit_generator.random_raw()


def state_of(name):
    return apart(getattr(np.random, name)(SEED))


def changed(tree, value, *way):
    """A stored generator with one thing in it replaced."""
    tree = copy.deepcopy(tree)
    found = tree[3]
    for key in way[:-1]:
        found = found[key]
    found[way[-1]] = value
    return tree


WRONG = {
    "position behind the end": ("MT19937", 1_000_000, "state", "state", "pos"),
    "position one behind": ("MT19937", 625, "state", "state", "pos"),
    "negative position": ("MT19937", -1, "state", "state", "pos"),
    "bool for a position": ("MT19937", True, "state", "state", "pos"),
    "short key": ("MT19937", np.zeros(623, np.uint32), "state", "state", "key"),
    "key of another type": ("MT19937", np.zeros(624, np.uint64), "state", "state", "key"),
    "key of two dimensions": ("MT19937", np.zeros((624, 1), np.uint32), "state", "state", "key"),
    "list for a key": ("MT19937", [0] * 624, "state", "state", "key"),
    "130 bits": ("PCG64", 1 << 128, "state", "state", "state"),
    "negative": ("PCG64DXSM", -1, "state", "state", "inc"),
    "half a word": ("PCG64", 2, "state", "has_uint32"),
    "33 bits": ("SFC64", 1 << 32, "state", "uinteger"),
    "buffer position": ("Philox", 5, "state", "buffer_pos"),
    "negative buffer position": ("Philox", -1, "state", "buffer_pos"),
    "short buffer": ("Philox", np.zeros(3, np.uint64), "state", "buffer"),
    "short counter": ("Philox", np.zeros(1, np.uint64), "state", "state", "counter"),
    "no seed": ("PCG64", None, "seed"),
    "number for a seed": ("PCG64", 3, "seed"),
    "nothing": ("SFC64", {}, "state"),
    "more": ("SFC64", 1, "extra"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_numpy_would_not_make_is_refused(name):
    kind, value, *way = WRONG[name]
    with pytest.raises(errors.IntegrityError):
        together(changed(state_of(kind), value, *way))


def test_a_bit_generator_of_another_name_is_refused():
    with pytest.raises(errors.FormatError):
        array_objects.MAKERS["numpy.BitGenerator"]("PCG65", {})


SEEDS = {
    "negative": {"entropy": -1},
    "float": {"entropy": 0.5},
    "nested": {"entropy": [[1]]},
    "too long a number": {"entropy": 1 << 70_000},
    "too many numbers": {"entropy": [1] * 70_000},
    "small pool": {"pool_size": 3},
    "large pool": {"pool_size": 1 << 30},
    "key": {"spawn_key": (-1,)},
    "key as list": {"spawn_key": [1]},
    "children": {"n_children_spawned": 1 << 32},
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_sequence_that_costs_or_means_too_much_is_refused(name):
    inner = {"entropy": 5, "spawn_key": (), "pool_size": 4, "n_children_spawned": 0, **SEEDS[name]}
    with pytest.raises(errors.IntegrityError):
        array_objects.MAKERS["numpy.SeedSequence"](None, inner)


def test_generators_that_would_not_come_back_are_not_kept():
    bits = np.random.PCG64(1)
    bits.__setstate__((bits.state, np.random.bit_generator.SeedlessSequence()))
    with pytest.raises(CannotReduce, match="SeedlessSequence"):
        reduced(bits)
    with pytest.raises(CannotReduce, match="holds a list"):
        reduced(np.random.SeedSequence([[1], 2]))
