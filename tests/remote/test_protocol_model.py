"""The protocol of remotes loses nothing in any order of requests, and each of its rules is needed for that."""

from __future__ import annotations

import pytest

from tests.remote.protocol_model import Rule, play

SCHEDULES = 4000
"""Played with all rules. Without one of them a promise is broken long before as many."""


def test_nothing_that_was_acknowledged_is_lost_in_any_schedule():
    worlds = [play(seed) for seed in range(SCHEDULES)]
    assert sum(len(world.acknowledged) for world in worlds) > 5 * SCHEDULES
    assert sum(world.reads["right"] for world in worlds) > SCHEDULES // 2
    assert not any(world.reads["stuck"] for world in worlds)


@pytest.mark.parametrize("rule", Rule)
def test_without_one_of_its_rules_the_protocol_breaks_a_promise(rule: Rule):
    with pytest.raises(AssertionError):
        _play_all(rule)


def _play_all(without: Rule) -> None:
    for seed in range(SCHEDULES):
        play(seed, without)
