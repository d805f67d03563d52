"""What a store promises after a crash, and workloads that make it promise something.

A workload is a list of operations. After each one stands a `Moment`: what every ref names and which commits there
are. Commits are told apart by their step, and `state_of(step)` says what they hold, so a store found after a crash
needs no notes to be judged: it must be at one of the moments, none before the last acknowledged one, every commit
must check out as it went in, and the next commit must work without any repair.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from casckpt.errors import CommitDropped, NotUndoable, StoreNotFound
from casckpt.format import pack
from casckpt.format.entry import FORGOTTEN
from casckpt.odb import fetch, journal, pack_writer, pipeline, removing
from casckpt.odb import repository as repositories
from casckpt.odb import session as sessions
from casckpt.odb.fold import all_marks
from casckpt.odb.repository import Repository, initialize
from casckpt.ops import load, save
from casckpt.ops.kept_policy import run_policies
from casckpt.ops.reach import Reach
from casckpt.ops.settings import store_layer
from casckpt.ops.settings_edit import edit_store
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.recorder import Snapshot
from tests.support.build import noise

AUTHOR = "host:1"
NEXT_STEP = 90
AGAIN = 10_000_000
"""Steps from here on hold what the step that is so much less held."""
STAGING_BYTES = 512 << 10
"""More than any pack of these states takes, so that it is one write; the 2 MiB of a store are a huge page to clear."""
PART_BYTES = 48 << 10
"""A part of a state that adds this much gets a pack of its own, so that small states make several packs."""
LARGE_LEAF = (3 << 20) + (270 << 10)
"""A leaf of four chunks, of which the last one differs from commit to commit."""


@functools.cache
def state_of(step: int) -> dict[str, Any]:
    """The state of a commit, from its step alone. By the last three digits: below 100 all of it rides in a frame of
    one page or two, from 100 on in one of several pages, from 200 on it takes packs and shares chunks with its like,
    from 300 on it has leaves of one chunk and more, which go through the pipeline."""
    if step >= AGAIN:
        return state_of(step - AGAIN)
    words = np.frombuffer(noise(f"state {step}", 200), "<u2")
    if step % 1000 < 100:
        return {"step": step, "name": f"step {step}", "weights": words}
    if step % 1000 < 200:
        return {"step": step, "weights": np.frombuffer(noise(f"frame {step}", 19_000), "<u2")}
    if step % 1000 >= 300:
        return _large_state(step, words)
    return {
        "model": {
            "embedding": np.frombuffer(noise("embedding", 260 << 10), "u1").reshape(260, 1024),
            "weights": np.frombuffer(noise(f"weights {step}", 80_000), "<i4"),
        },
        "optimizer": {"moments": np.frombuffer(noise(f"moments {step}", 60_000), "<i2"), "words": words},
        "step": step,
    }


def _large_state(step: int, words: np.ndarray) -> dict[str, Any]:
    """Large leaves of several components: new, known and twice the same, some that shrink when encoded; with groups
    and tiny values between them. Equal new chunks lie in one task or in different components: of two tasks at work at
    the same time either may be the one that stores what both have, and with it the bytes of a pack would change."""
    fresh = np.frombuffer(noise(f"fresh {step}", 264 << 10), "<f4").reshape(-1, 64)
    known = np.frombuffer(noise("embedding", LARGE_LEAF), "<f2")
    edited = known.copy()
    edited[-100:] = step % 61
    smooth = (np.arange(80_000) // 7 + step).astype("<f4")
    return {
        "model": {
            "a": fresh,
            "again": fresh.copy(),
            "bias": np.frombuffer(noise(f"bias {step}", 70_000), "<f4"),
            "embedding": edited,
            "scale": np.frombuffer(noise(f"scale {step}", 40_000), "<f4"),
            "smooth": smooth,
            "words": words,
        },
        "optimizer": {
            "first": np.frombuffer(noise(f"first {step}", 300 << 10), "<f4"),
            "known": np.frombuffer(noise("known", 400 << 10), "<f4"),
            "second": smooth[::-1].copy(),
            "third": fresh.copy(),
            "lr": 0.5 / step,
        },
        "step": step,
    }


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal in types, values, order and bits."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(left == right)


@dataclass(frozen=True, slots=True)
class Moment:
    """A store between two operations: the step each ref names, the steps of all commits, and what is known of them."""

    refs: tuple[tuple[str, int | None], ...]
    steps: frozenset[int | None]
    facts: tuple[tuple[str, Any], ...] = ()
    """By what they are about, as `run 3`, `note 3`, `pin 3`, `drop 3`, `freed 3`, `finished main` or `policy main`."""


NOTHING = Moment((), frozenset())


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a workload: what it does, and what is to be seen of it afterwards.

    Attributes:
        do: the call.
        refs: each ref it moves, and the step of the commit that this then names; None if it is gone.
        step: of the commit it makes.
        facts: what is known from then on; None of what is not any more.
        forgets: steps of commits that are known no more.
        partial: if it fails, it may have had its effect all the same; doing it again goes on.
    """

    do: Callable[[Store], object]
    refs: tuple[tuple[str, int | None], ...] = ()
    step: int | None = None
    facts: tuple[tuple[str, Any], ...] = ()
    forgets: frozenset[int] = frozenset()
    partial: bool = False

    def after(self, before: Moment) -> Moment:
        """The moment it leads to."""
        refs, facts = _changed(before.refs, self.refs), _changed(before.facts, self.facts)
        return Moment(refs, (before.steps if self.step is None else before.steps | {self.step}) - self.forgets, facts)


def _changed(before: tuple[tuple[str, Any], ...], news: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((key, value) for key, value in {**dict(before), **dict(news)}.items() if value is not None))


def commit(step: int, *, run: str = "main", moves: Sequence[str] = (), **options: Any) -> Operation:
    """Commit the state of a step; `moves` are the heads of the run that follow it, besides `last`."""
    refs = tuple((f"runs/{run}/{head}", step) for head in ("last", *moves))
    # A state that is stored again is there for whoever had it before.
    facts = ((f"run {step}", run), (f"freed {step % AGAIN}", None))
    return Operation(lambda store: store.commit(state_of(step), step=step, run=run, **options), refs, step, facts)


def tag(name: str, step: int) -> Operation:
    """Tag the newest commit, which has this step."""
    return Operation(lambda store: store.tag(name), ((f"tags/{name}", step),))


def pin(step: int) -> Operation:
    """Pin the commit of a step."""
    return Operation(lambda store: store.pin(f"main@step={step}"), facts=((f"pin {step}", "for good"),))


def note(step: int, text: str) -> Operation:
    """Remark something about the commit of a step."""
    return Operation(lambda store: store.note(f"main@step={step}", text), facts=((f"note {step}", text),))


def drop(step: int) -> Operation:
    """Drop the commit of a step."""
    return Operation(lambda store: store.drop(f"main@step={step}"), facts=((f"drop {step}", "by hand"),))


def collect(*freed: int) -> Operation:
    """Free at once what was dropped; with it goes something of the commits of these steps."""
    facts = tuple((f"freed {step}", True) for step in freed)
    return Operation(lambda store: store.gc(now=True), facts=facts, partial=True)


def keep_policy(run: str, keep_last: int) -> Operation:
    """Keep a retention policy for a run."""
    return Operation(
        lambda store: store.set_retention({"keep_last": keep_last}, run=run), facts=((f"policy {run}", keep_last),)
    )


def forget(*steps: int) -> Operation:
    """Forget the commits of some steps, of which nothing but the name of their run was said."""
    names = [f"main@step={step}" for step in steps]
    facts = tuple((f"run {step}", None) for step in steps)
    return Operation(lambda store: store.forget(*names), facts=facts, forgets=frozenset(steps), partial=True)


def finish(run: str) -> Operation:
    """Say that a run has ended."""
    return Operation(lambda store: store.finish_run(run), facts=((f"finished {run}", "completed"),))


def rename(old: str, new: str, *steps: int, facts: tuple[tuple[str, Any], ...] = ()) -> Operation:
    """Rename a run of which the last of these steps is the last commit, with the facts that go along."""
    refs = ((f"runs/{old}/last", None), (f"runs/{new}/last", steps[-1]))
    return Operation(
        lambda store: store.rename_run(old, new), refs, None, (*((f"run {step}", new) for step in steps), *facts)
    )


def undo(*refs: tuple[str, int | None], facts: tuple[tuple[str, Any], ...] = ()) -> Operation:
    """Take back the newest change of names; then refs and facts are again what they were."""
    return Operation(lambda store: store.undo(), refs, None, facts)


def setting(key: str, value: str) -> Operation:
    """Set a setting of the store."""
    return Operation(
        lambda store: edit_store(store._repository.storage, key, value), facts=((f"setting {key}", value),)
    )


def _heal(store: Store) -> None:
    report = store.fsck("full", repair=True)
    assert report.ok, [finding.what for finding in report.findings]


REPAIR = Operation(_heal)
"""Heal everything that can be healed."""


@dataclass(frozen=True)
class Workload:
    """Operations `before`, whose outcome is durable, and `then`, during which something happens.

    With nothing before, the first thing that happens is init.

    Attributes:
        damage: done to the files between the two.
        healed: the last operation promises that no byte is damaged.
        seal_frames: frames after which a journal file is sealed.
        packs_at_once: packs that one frame takes out.
        threads: workers of a commit and of a checkout; with more than one even small states go through several tasks,
            extents and packs. None for whatever the machine has, which small states make no use of.
    """

    then: tuple[Operation, ...]
    before: tuple[Operation, ...] = ()
    damage: Callable[[Snapshot], Snapshot] = field(default=lambda files: files)
    healed: bool = False
    seal_frames: int = 1000
    packs_at_once: int = 20_000
    threads: int | None = None

    def base(self) -> Snapshot:
        """The files before; call it inside `settled_world`."""
        if not self.before:
            return {}
        storage = MemoryStorage()
        make(storage)
        store = Store(Repository(storage))
        for operation in self.before:
            operation.do(store)
        return self.damage(storage.snapshot())

    def moments(self) -> list[Moment]:
        """The moments from what was there before (or the empty store) to the end."""
        first = functools.reduce(lambda moment, operation: operation.after(moment), self.before, NOTHING)
        return list(itertools.accumulate(self.then, lambda moment, operation: operation.after(moment), initial=first))


@contextmanager
def settled_world(workload: Workload | None = None) -> Iterator[None]:
    """Time, randomness and process ids that are the same in every run, and the limits a workload asks for."""
    numbers = itertools.count()

    def random_bytes(count: int) -> bytes:
        return hashlib.shake_256(f"random {next(numbers)}".encode()).digest(count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", random_bytes)
        patch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000 + 1000 * next(numbers))
        # The author of an entry is a host and a process; their lengths move every byte behind them.
        patch.setattr(os, "uname", lambda: SimpleNamespace(nodename="host"))
        patch.setattr(os, "getpid", lambda: 1)
        patch.setattr(sessions, "OWN_PACK_BYTES", PART_BYTES)
        patch.setattr(pack_writer, "STAGING_BYTES", STAGING_BYTES)
        if workload is not None:
            patch.setattr(journal, "SEAL_FRAMES", workload.seal_frames)
            patch.setattr(removing, "_FRAME_PACKS", workload.packs_at_once)
            if workload.threads is not None:
                make_small(patch, workload.threads)
        yield


def make_small(patch: pytest.MonkeyPatch, threads: int) -> None:
    """Let a state of a few MiB go through as many tasks, buffers, extents and packs as one of many GiB does.

    No constant that decides an id is touched: a task is one chunk of the largest size, or several smaller ones.
    """
    patch.setattr(repositories, "_cores", lambda: threads)
    for module in (save, load):
        patch.setattr(module, "THREADED_FROM", 0)
    for module in (pipeline, fetch):
        patch.setattr(module, "TASK_BYTES", 1 << 20)
    for module in (pack, save):
        patch.setattr(module, "PACK_BYTES", 700 << 10)
    patch.setattr(pack, "EXTENT_BYTES", 200 << 10)
    patch.setattr(pack_writer, "STAGING_BYTES", 64 << 10)


def make(storage: Storage) -> None:
    """An empty store."""
    initialize(storage, time_ns=time.time_ns(), by=AUTHOR)


def look(repository: Repository) -> Moment:
    """At which moment a store is."""
    database = repository.database
    database.refresh()
    steps = {identity: found.step for identity, found in database.commits()}
    for name, identity in database.refs().items():
        assert identity in steps, f"{name} names a commit that is not there"
    facts: dict[str, Any] = {f"run {found.step}": found.run for _, found in database.commits()}
    for identity, key, value in all_marks(database.tables):
        if key == FORGOTTEN:
            assert identity not in steps, "a forgotten commit is there"
        elif key in ("note", "pin"):  # others follow from what a commit holds, and ride in its frame
            facts[f"{key} {steps[identity]}"] = value if key == "note" else value["until"] or "for good"
    layer = store_layer(repository.storage)
    assert not layer.problems, layer.problems
    facts |= {f"setting {key}": value for key, value in layer.values.items()}
    for identity, drop in database.drops().items():
        facts[f"drop {steps[identity]}"] = drop.rule
        found = database.commit(identity)
        if found is not None and not Reach(database).is_whole(identity, found):
            facts[f"freed {steps[identity]}"] = True
    for run in {found.run for _, found in database.commits()}:
        ended = database.run_settings(run).get("finished")
        facts |= {} if ended is None else {f"finished {run}": ended["status"]}
    facts |= {f"policy {run}": policy.keep_last for run, policy in run_policies(database).items()}
    return Moment(
        tuple((name, steps[identity]) for name, identity in database.refs().items()),
        frozenset(steps.values()),
        tuple(sorted(facts.items())),
    )


def check_promises(
    storage: Storage, moments: Sequence[Moment], *, acked: int | None, depth: str = "quick"
) -> Repository | None:
    """A crash left this storage: everything promised is there, and the next commit works.

    Args:
        moments: through which the store went, or was about to go.
        acked: number of the last one that was acknowledged, None if init was not.
        depth: of the fsck.

    Returns:
        The repository in which the next commit was made.
    """
    try:
        repository = Repository(storage)
    except StoreNotFound:
        assert acked is None, "the store is lost"
        make(storage)
        repository = Repository(storage)
        check_store(repository, [NOTHING], first=0, depth=depth)
        return repository
    check_store(repository, moments, first=acked or 0, depth=depth)
    return repository


def check_store(repository: Repository, moments: Sequence[Moment], *, first: int, depth: str = "quick") -> None:
    """The store is at one of the moments from `first` on, whole; then it takes the commit it lacks, or one more."""
    now = look(repository)
    assert now in moments[first:], f"the store is at {now}, which is none of {list(moments[first:])}"
    store = Store(repository)
    check_commits(repository, now)
    step = _next_step(now, moments[-1])
    store.commit(state_of(step), step=step, run="next")
    assert same(store.checkout("next"), state_of(step)), "the next commit does not check out"
    after = commit(step, run="next").after(now)
    again = Repository(repository.storage)
    assert look(again) == after, "after the next commit and a reopen the store is elsewhere"
    assert same(Store(again).checkout("next"), state_of(step)), "the next commit does not check out after a reopen"
    report = Store(again).fsck(depth)
    assert report.ok, f"fsck finds {[(found.what, found.where, found.leaf) for found in report.findings]}"
    if any(fact.startswith("freed") for moment in moments for fact, _ in moment.facts):
        check_going(again, after)


def _next_step(now: Moment, last: Moment) -> int:
    """What to commit next: best what was freed, so that nothing of it can be relied on any more."""
    freed = [int(fact.split()[1]) for fact, _ in now.facts if fact.startswith("freed")]
    fresh = [step + AGAIN for step in freed if step + AGAIN not in now.steps]
    missing = (step for step in last.steps - now.steps if step is not None)
    return min(fresh) if fresh else min(missing, default=NEXT_STEP)


def check_going(repository: Repository, now: Moment) -> None:
    """What was dropped and is not freed can be taken back; then everything that nobody needs goes, and only that."""
    store = Store(repository)
    facts = dict(now.facts)
    for operation in list(store.operations()):
        if operation.op != "drop" or operation.undone_by is not None:
            continue
        step = store.show(operation.drops[0].commit).step
        if f"freed {step}" in facts:
            with pytest.raises(NotUndoable):
                store.undo(operation.number)
        else:
            store.undo(operation.number)
            del facts[f"drop {step}"]
    check_commits(repository, Moment(now.refs, now.steps, tuple(facts.items())))
    store.gc(now=True)
    again = Repository(repository.storage)
    check_commits(again, Moment(now.refs, now.steps, tuple(facts.items())))
    assert Store(again).plan_gc(now=True).nbytes == 0, "a collection leaves what it could free"
    left = [found.where for found in Store(again).fsck().findings if found.where.startswith("packs/")]
    assert left == [], "a collection leaves something behind"


def check_commits(repository: Repository, now: Moment) -> None:
    """Every commit checks out, and the log has all of them."""
    store = Store(repository)
    identities = [(identity.hex(), found.step) for identity, found in repository.database.commits()]
    assert {found.id for found in store.log()} == {identity for identity, _ in identities}, "the log lacks a commit"
    assert len(identities) == len(now.steps), "a commit is there twice"
    facts = dict(now.facts)
    for identity, step in identities:
        if f"drop {step}" in facts:
            with pytest.raises(CommitDropped):
                store.checkout(identity)
        else:
            assert step is not None and same(store.checkout(identity), state_of(step)), (
                f"step {step} is not what it was"
            )
