"""The real push, fetch and collection in any order of requests, with lost answers, late writes, stalls and crashes.

What must hold is in `worlds.World.check`. That it would be seen to be broken is shown by breaking rules of the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from casckpt.errors import CasckptError
from casckpt.format.remote import RemoteRoot
from casckpt.ops import push as pushing
from casckpt.ops import push_refs, remote_gc
from casckpt.plan.policy import Retention
from casckpt.plan.ref_policy import CONFLICTS
from casckpt.remote import roots, sending
from casckpt.remote.view import RemoteView
from casckpt.storage.objects import Outcome
from tests.remote.actors import Fault
from tests.remote.worlds import SHARED, World, play

SCHEDULES = 40
"""By chance; enough that each broken rule is seen in one of them."""
NUMBERS = st.integers(0, 3)


class RemoteMachine(RuleBasedStateMachine):
    """Steps chosen by hypothesis, which finds the fewest that break something."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(number=NUMBERS, shared=st.integers(0, (1 << SHARED) - 1), steps=st.integers(0, 30))
    def push(self, number: int, shared: int, steps: int) -> None:
        machine = self.world.pushers[number]
        self.world.begin(machine, lambda: machine.push(shared))
        self._go_on(number, steps, Fault.NONE)

    @rule(number=NUMBERS, steps=st.integers(0, 30))
    def fetch(self, number: int, steps: int) -> None:
        machine = self.world.pushers[number]
        self.world.begin(machine, machine.fetch)
        self._go_on(number, steps, Fault.NONE)

    @rule(number=st.integers(0, 1), now=st.booleans(), drops=st.booleans(), grace_s=st.sampled_from((0, 20)),
          delay_s=st.sampled_from((0, 10)), keep_roots=st.integers(1, 3), steps=st.integers(0, 40))  # fmt: skip
    def collect(
        self, number: int, now: bool, drops: bool, grace_s: float, delay_s: float, keep_roots: int, steps: int
    ) -> None:
        machine = self.world.collectors[number]
        policy = Retention(keep_last=1, grace="0s") if drops else None
        waits = remote_gc.Waits(delay_s=delay_s, grace_s=grace_s, keep_roots=keep_roots, keep_roots_s=0)
        self.world.begin(machine, lambda: machine.collect(policy, waits, now=now))
        self._go_on(4 + number, steps, Fault.NONE)

    @rule(number=st.integers(0, 1), run=st.sampled_from(("main", "race")), steps=st.integers(0, 8))
    def let_go(self, number: int, run: str, steps: int) -> None:
        machine = self.world.collectors[number]
        self.world.begin(machine, lambda: machine.let_go(run))
        self._go_on(4 + number, steps, Fault.NONE)

    @rule(number=st.integers(0, 5), fault=st.sampled_from(Fault), steps=st.integers(0, 20))
    def go_on(self, number: int, fault: Fault, steps: int) -> None:
        self._go_on(number, steps, fault)

    @rule(number=NUMBERS)
    def deliver(self, number: int) -> None:
        self.world.deliver(number)

    def _go_on(self, number: int, steps: int, fault: Fault) -> None:
        """Some requests of one actor, the first with a fault; all others stand still."""
        machine = self.world.machines[number]
        if fault is not Fault.NONE:
            self.world.step(machine, fault)
        for _ in range(steps):
            self.world.step(machine)

    def teardown(self) -> None:
        try:
            self.world.finish()
        finally:
            self.world.kill()


TestRemoteMachine = RemoteMachine.TestCase
TestRemoteMachine.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def test_nothing_is_lost_in_schedules_by_chance() -> None:
    worlds = [play(seed) for seed in range(SCHEDULES)]
    assert sum(len(world.acknowledged) for world in worlds) > 2 * SCHEDULES
    assert sum(len(world.bucket.condemned) for world in worlds) > 10 * SCHEDULES


# ---- rules that are left out


@contextmanager
def relies_on_what_was_condemned() -> Iterator[None]:
    def look_for_mine(push: Any, root: RemoteRoot) -> None:
        push._era = push._view.breaks, root.epoch

    with patch.object(pushing._Push, "_look_for_mine", look_for_mine):
        yield


@contextmanager
def does_not_ask_for_its_packs() -> Iterator[None]:
    def look_for_mine(push: Any, root: RemoteRoot) -> None:
        if push._era != (push._view.breaks, root.epoch):
            push._mine = [one for one in push._mine if one.pack.key not in root.condemned]
            push._listed, push._segments = [], []
        push._era = push._view.breaks, root.epoch

    with patch.object(pushing._Push, "_look_for_mine", look_for_mine):
        yield


@contextmanager
def believes_that_created_is_committed() -> Iterator[None]:
    whole = roots._look

    def look(view: RemoteView, root: RemoteRoot, data: bytes, outcome: Outcome) -> tuple[bool | None, Outcome]:
        return (True, outcome) if outcome is Outcome.CREATED else whole(view, root, data, outcome)

    with patch.object(roots, "_look", look):
        yield


@contextmanager
def removes_before_the_root() -> Iterator[None]:
    condemn = remote_gc._Collection._condemn

    def early(collection: Any, seen: Any) -> None:
        dead = [pack.key for pack in seen.uses.dead]
        if dead:
            collection._view.objects.delete(dead)
        condemn(collection, seen)

    with patch.object(remote_gc._Collection, "_condemn", early):
        yield


@contextmanager
def does_not_look_again_when_late() -> Iterator[None]:
    append = roots.append_root

    def late(view: RemoteView, change: Callable[[RemoteRoot], RemoteRoot], *rest: Any, **more: Any) -> RemoteRoot:
        assert view.root is not None
        seq = view.root.seq
        return append(view, lambda root: change(replace(root, seq=seq)), *rest, **more)

    with patch.object(remote_gc, "append_root", late):
        yield


@contextmanager
def uses_names_again() -> Iterator[None]:
    with patch.object(sending, "os", SimpleNamespace(urandom=bytes)):
        yield


@contextmanager
def loses_the_loser() -> Iterator[None]:
    joined = push_refs.joined

    def winners(*sides: Any) -> dict[str, Any]:
        return {name: commit for name, commit in joined(*sides).items() if not name.startswith(CONFLICTS)}

    with patch.object(push_refs, "joined", winners):
        yield


@pytest.mark.parametrize(
    "broken",
    [
        relies_on_what_was_condemned,
        does_not_ask_for_its_packs,
        believes_that_created_is_committed,
        removes_before_the_root,
        does_not_look_again_when_late,
        uses_names_again,
        loses_the_loser,
    ],
)
def test_a_rule_that_is_left_out_is_missed(broken: Callable[[], Any]) -> None:
    with broken(), pytest.raises((AssertionError, CasckptError)):
        _play_all()


def _play_all() -> None:
    for seed in range(SCHEDULES):
        play(seed)
