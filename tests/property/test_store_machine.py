"""Any order of commits, names, drops, undos, collections, repacks, forgets, reopening, crashes and losses of the index.

The store is what a dict says; and what a collection may have freed is not more than what nothing needs.
"""

from __future__ import annotations

import contextlib
import math
import random
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import casckpt
from casckpt.errors import (
    AlreadyUndone,
    CommitDropped,
    CommitNamed,
    CommitProtected,
    CommitThinned,
    ConflictError,
    NotFoundError,
    NothingToUndo,
    NotUndoable,
    RefExists,
    RevisionNotFound,
    RunExists,
    UndoConflict,
)
from casckpt.format.frame import encode_frame
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb import journal, session
from casckpt.odb.repository import Repository
from casckpt.odb.repository import initialize as make_store
from casckpt.ops import gc
from casckpt.ops.reach import Reach
from casckpt.storage.base import Storage, write_all
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.crash.folders import ram_folder
from tests.strategies import assert_same_state, states

SEAL_FRAMES = 6
FRAME_OBJECT_BYTES = 2000
"""So little that most states are too much for a frame, and there are packs."""
PASSED_OVER = ("commit", "undo")
FINAL = ("gc", "repack", "forget")
RUNS = ("a", "b", "c-2.d")
NAMES = (*RUNS, "x")
METRICS = ("loss", "acc")
OPERATIONS_LOOKED_AT = 4
HANDLES = st.integers(0, 1)
BULK = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
"""A leaf with a chunk of its own."""


Fact = tuple[str, str]
"""What can change: ("ref", name), ("rule", run), ("finished", run), ("renamed", run);
("note", id), ("pin", id) or ("drop", id)."""


@dataclass
class Made:
    """A commit as it must be. `tick` says when it was made, as the number of changes before it.

    `tree` and `parts` are the ids of the objects that it was stored as, `meta` of those that stay without its state.
    """

    state: Any
    run: str
    parents: tuple[str, ...]
    step: int | None
    kind: str
    status: str
    metrics: dict[str, float]
    time_ns: int
    nonfinite: int = 0
    tree: bytes = b""
    parts: dict[str, frozenset[bytes]] = field(default_factory=dict)
    meta: frozenset[bytes] = frozenset()
    tick: int = 0

    def objects(self, without: Collection[str] = ()) -> set[bytes]:
        """The ids of its state, but for those of some components."""
        return {self.tree}.union(*(ids for name, ids in self.parts.items() if name not in without))


@dataclass
class Done:
    """An operation as it must be told."""

    op: str
    changes: dict[Fact, tuple[Any, Any]]
    undoes: int | None = None
    undone_by: int | None = None
    found: int = 0
    """Changes that say what was found in a state, which no undo takes back."""


@dataclass
class Model:
    """What a store must say: its commits, the facts of now, and what made them so."""

    commits: dict[str, Made] = field(default_factory=dict)
    facts: dict[Fact, Any] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    tick: int = 0
    unsure: set[bytes] = field(default_factory=set)
    """Objects that a collection which ended all graces may have freed, and that nothing stored again since."""

    def of(self, kind: str) -> dict[str, Any]:
        return {name: value for (of, name), value in self.facts.items() if of == kind}

    @property
    def refs(self) -> dict[str, str]:
        return self.of("ref")

    def change(self, op: str, changes: dict[Fact, Any], undoes: int | None = None) -> None:
        self.tick += 1
        effective = {fact: (self.facts.get(fact), new) for fact, new in changes.items() if self.facts.get(fact) != new}
        self.done.append(Done(op, effective, undoes))
        for fact, (_, new) in effective.items():
            if new is None:
                del self.facts[fact]
            else:
                self.facts[fact] = new
        if undoes is not None:
            self.take_back(undoes, len(self.done) - 1)

    def take_back(self, number: int, by: int) -> None:
        """An undo that is taken back has taken nothing back."""
        self.done[number].undone_by = by
        before = self.done[number].undoes
        if before is not None:
            self.done[before].undone_by = None
            further = self.done[before].undoes
            if further is not None:
                self.take_back(further, before)

    def refusal(self, number: int) -> type[Exception] | None:
        """Why an operation cannot be taken back."""
        done = self.done[number]
        if done.undone_by is not None:
            return AlreadyUndone
        if done.op in FINAL:
            return NotUndoable
        gone = {identity for identity, (_, parts) in self.of("drop").items() if parts is None}
        for (kind, _), (old, _) in done.changes.items():
            if kind == "ref" and old in gone:
                return UndoConflict
        if any(self.facts.get(fact) != new for fact, (_, new) in done.changes.items()):
            return UndoConflict
        again = {name for (kind, name), (old, _) in done.changes.items() if kind == "drop" and old is not None}
        return CommitProtected if (again - gone) & self.held() else None

    def newest(self) -> Iterator[int]:
        """What an undo without a number takes back: the first of these that can be brought back."""
        for number in reversed(range(len(self.done))):
            if self.done[number].undone_by is None and self.done[number].op not in (*PASSED_OVER, *FINAL):
                yield number

    def lost(self, identity: str) -> tuple[str, ...] | None:
        """The components that a commit lost; None for all of its state."""
        drop = self.facts.get(("drop", identity))
        return () if drop is None else drop[1]

    def needed(self) -> set[bytes]:
        """The objects that must be there whatever ends the graces of drops."""
        found: set[bytes] = set()
        for identity, made in self.commits.items():
            lost = self.lost(identity)
            found |= made.meta | {bytes.fromhex(identity)} | (set() if lost is None else made.objects(lost))
        return found

    def end_graces(self) -> None:
        """All that no commit needs is freed, or lies in packs with what one needs."""
        everything: set[bytes] = set().union(*(made.objects() for made in self.commits.values()))
        self.unsure |= everything - self.needed()

    def unsure_of(self, number: int) -> set[str]:
        """The commits that an undo would bring back, and that may not be there any more."""
        back = {name: old for (kind, name), (old, _) in self.done[number].changes.items() if kind == "drop"}
        wanted = {
            name: self.commits[name].objects(() if old is None else old[1] or ())
            for name, old in back.items()
            if old is None or old[1] is not None
        }
        return {name for name, objects in wanted.items() if objects & self.unsure}

    def undo(self, number: int) -> None:
        self.change("undo", {fact: old for fact, (old, _) in self.done[number].changes.items()}, number)

    def run_of(self, made: Made) -> str:
        """The name its run has now: each rename takes what was made before it."""
        run, at = made.run, made.tick
        while later := [rename for rename in self.facts.get(("renamed", run), ()) if rename[0] > at]:
            at, run = min(later)
        return run

    def commit(self, identity: str, made: Made, best: str | None) -> None:
        made.tick = self.tick
        self.commits[identity] = made
        self.unsure -= made.objects()
        changes: dict[Fact, Any] = {("ref", f"runs/{made.run}/last"): identity}
        rule = self.facts.get(("rule", made.run)) if best is None else best
        if rule is not None:
            changes["rule", made.run] = rule
        if made.status == "completed":
            if made.kind == "recovery":
                changes["ref", f"runs/{made.run}/recovery"] = identity
            if rule is not None and self.beats(made, *rule.split(":")):
                changes["ref", f"runs/{made.run}/best"] = identity
        self.change("commit", changes)
        self.done[-1].found = made.nonfinite > 0

    def beats(self, made: Made, metric: str, mode: str) -> bool:
        return self.is_better(made, self.refs.get(f"runs/{made.run}/best"), metric, mode)

    def is_better(self, made: Made, old: str | None, metric: str, mode: str) -> bool:
        value = made.metrics.get(metric, math.nan)
        other = math.nan if old is None else self.commits[old].metrics.get(metric, math.nan)
        if math.isnan(value) or math.isnan(other):
            return not math.isnan(value)
        return value < other if mode == "min" else value > other

    def heads(self, run: str) -> dict[str, str]:
        heads = ((head, self.facts.get(("ref", f"runs/{run}/{head}"))) for head in ("last", "best", "recovery"))
        return {head: identity for head, identity in heads if identity is not None}

    def held(self) -> set[str]:
        """What may not lose anything."""
        return {*self.refs.values(), *self.of("pin")}

    def lose(self, op: str, commits: Iterable[str], parts: tuple[str, ...] | None = None) -> None:
        self.change(op, {("drop", identity): (self.tick, parts) for identity in commits})

    def forget(self, gone: set[str], run: str | None) -> None:
        """Commits are not there any more, nor what names them; of `run`, if one is given, nothing at all is."""
        heads = {name: self.heads(name) for name in NAMES}
        refs = {name for name, identity in self.refs.items() if identity in gone}
        refs |= {f"runs/{run}/{head}" for head in heads.get(run or "", ())}
        facts = [("ref", name) for name in refs]
        facts += [(kind, identity) for kind in ("note", "pin", "drop") for identity in gone]
        facts += [] if run is None else [("rule", run), ("finished", run)]
        left = {name: self.members(name) - gone for name in NAMES if name != run}
        for fact in facts:
            self.facts.pop(fact, None)
        for name, members in left.items():
            for head, identity in heads[name].items():
                to = self.heads_among(name, members, is_last=head == "last")[head] if identity in gone else None
                if to is not None:
                    self.facts["ref", f"runs/{name}/{head}"] = to
        parents = {identity: self.commits.pop(identity).parents for identity in gone}
        for made in self.commits.values():
            while not gone.isdisjoint(made.parents):
                lines = (parents.get(parent, (parent,)) for parent in made.parents)
                made.parents = tuple(dict.fromkeys(parent for line in lines for parent in line))
        # The journal begins anew, with the note that their bytes are gone.
        self.done = [Done("forget", {("forgotten", identity): (None, True) for identity in gone})]
        self.tick += 1

    def members(self, run: str) -> set[str]:
        """The commits of a run that have a state."""
        return {one for one, made in self.commits.items() if self.run_of(made) == run and self.lost(one) is not None}

    def heads_among(self, run: str, members: set[str], *, is_last: bool) -> dict[str, str | None]:
        """What the heads of a run would name if these commits alone had been made."""
        heads: dict[str, str | None] = {"last": None, "best": None, "recovery": None}
        rule = self.facts.get(("rule", run))
        for identity in sorted(members, key=lambda one: (self.commits[one].time_ns, one)):
            made = self.commits[identity]
            if is_last:
                heads["last"] = identity
            elif made.status == "completed" and not made.nonfinite:
                if made.kind == "recovery":
                    heads["recovery"] = identity
                if rule is not None and self.is_better(made, heads["best"], *rule.split(":")):
                    heads["best"] = identity
        return heads

    def reachable(self) -> set[str]:
        found: set[str] = set()
        waiting = [*self.refs.values(), *self.of("pin")]
        while waiting:
            identity = waiting.pop()
            if identity not in found:
                found.add(identity)
                waiting += self.commits[identity].parents
        return found

    def log(self) -> list[str]:
        """Newest first; of two made at once the one with the lower id."""
        return sorted(self.reachable(), key=lambda identity: (-self.commits[identity].time_ns, identity))


class StoreMachine(RuleBasedStateMachine):
    """Two handles on one store, and what it must be."""

    def make(self) -> Storage:
        return MemoryStorage()

    def again(self) -> Storage:
        """The storage as another process sees it."""
        return self.storage

    @initialize(trained=st.sampled_from([0, 3, 7]))
    def begin(self, trained: int) -> None:
        self.patches = contextlib.ExitStack()
        patch = self.patches.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(journal, "SEAL_FRAMES", SEAL_FRAMES)
        patch.setattr(session, "FRAME_OBJECT_BYTES", FRAME_OBJECT_BYTES)
        patch.setattr(gc, "FEWEST", 2)
        self.storage = self.make()
        make_store(self.storage, time_ns=1, by="test")
        self.handles = [casckpt.Store(Repository(self.again())) for _ in range(2)]
        self.model = Model()
        self.crashes = 0
        for number in range(trained):
            self.train(number % 2, "ab"[number % 3 == 2], number)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        self.patches.close()
        with casckpt.Store(Repository(self.again())) as store:
            for identity, made in self.model.commits.items():
                self.comes_back(store, identity, made)
            assert store.fsck("full").ok
            self.operations_are_told(store, len(self.model.done))
        for handle in self.handles:
            handle.close()

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.model.commits)), "commit")

    # -- commits and tags

    @rule(
        data=st.data(),
        handle=HANDLES,
        run=st.sampled_from(RUNS),
        step=st.none() | st.integers(0, 9),
        kind=st.sampled_from(["step", "step", "recovery", "final"]),
        status=st.sampled_from(["completed", "completed", "completed", "failed", "running"]),
        metrics=st.dictionaries(
            st.sampled_from(METRICS), st.sampled_from([0, 1, 0.5, -1.0, math.nan, math.inf, -math.inf, 1.0])
        ),
        best=st.sampled_from([None, None, None, "loss:min", "acc:max", "loss:max"]),
        bulk=st.sampled_from([None, None, None, 1, 2, 3]),
        line=st.sampled_from(["last", "last", "last", "none", "other", "two", "expect"]),
    )
    def commit(
        self,
        data: st.DataObject,
        handle: int,
        run: str,
        step: int | None,
        kind: str,
        status: str,
        metrics: dict[str, float],
        best: str | None,
        bulk: int | None,
        line: str,
    ) -> None:
        last = self.model.refs.get(f"runs/{run}/last")
        parents: tuple[str, ...] = () if last is None else (last,)
        options: dict[str, Any] = {}
        if line == "none":
            options["parents"] = parents = ()
        elif line in ("other", "two") and self.model.commits:
            picked = dict.fromkeys(self.pick(data) for _ in range(1 + (line == "two")))
            options["parents"] = parents = tuple(picked)
        elif line == "expect" and last is not None:
            options["expect"] = last
        state = data.draw(states(depth=2), "state")
        if bulk is not None:  # chunks that several commits share, or that differ little
            state = {"part": {"bulk": BULK + np.float32(bulk / 1000)}, "state": state}
        info = self.handles[handle].commit(
            state, run=run, step=step, kind=kind, status=status, metrics=metrics, best=best, **options
        )
        assert info.id not in self.model.commits
        self.keep(info, Made(state, run, parents, step, kind, status, metrics, info.time_ns), best)

    def keep(self, info: casckpt.CommitInfo, made: Made, best: str | None) -> None:
        """Note what was committed, and as which objects."""
        database, identity = self.handles[0]._repository.database, CommitId(ObjectId(bytes.fromhex(info.id)))
        database.refresh()
        commit, reach = database.commit(identity), Reach(database)
        assert commit is not None
        for name, component in reach.tree(identity, commit).components:
            ids = b"".join(reach.ids_of(identity, component))
            made.parts[name] = frozenset(ids[at : at + 32] for at in range(0, len(ids), 32))
        made.tree = commit.tree
        meta = (commit.config, commit.environment, commit.code, commit.data)
        made.meta = frozenset(unit for unit in meta if unit is not None)
        made.nonfinite = self.handles[0].show(info.id).nonfinite
        self.model.commit(info.id, made, best)

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES, run=st.sampled_from(RUNS))
    def commit_too_late(self, data: st.DataObject, handle: int, run: str) -> None:
        expected = self.pick(data)
        if expected != self.model.refs.get(f"runs/{run}/last"):
            with pytest.raises(ConflictError):
                self.handles[handle].commit({"late": 1}, run=run, expect=expected)

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES, name=st.sampled_from(["v1", "v2", "release"]))
    def tag(self, data: st.DataObject, handle: int, name: str) -> None:
        identity = self.pick(data)
        ref = f"tags/{name}"
        if self.model.refs.get(ref, identity) != identity:
            with pytest.raises(RefExists):
                self.handles[handle].tag(name, identity)
        else:
            assert self.handles[handle].tag(name, identity).id == identity
            if ref not in self.model.refs:
                self.model.change("tag", {("ref", ref): identity})

    @rule(handle=HANDLES, name=st.sampled_from(["v1", "v2", "release"]))
    def untag(self, handle: int, name: str) -> None:
        named = self.model.refs.get(f"tags/{name}")
        if named is None:
            with pytest.raises(RevisionNotFound):
                self.handles[handle].untag(name)
        else:
            assert self.handles[handle].untag(name).id == named
            self.model.change("untag", {("ref", f"tags/{name}"): None})

    # -- pins, notes, runs

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES, until=st.sampled_from([None, "4w"]))
    def pin(self, data: st.DataObject, handle: int, until: str | None) -> None:
        identity = self.pick(data)
        assert self.handles[handle].pin(identity, until).pinned
        value = "for good" if until is None else self.model.tick + 1
        if self.model.facts.get(("pin", identity)) != value:
            self.model.change("pin", {("pin", identity): value})

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES)
    def unpin(self, data: st.DataObject, handle: int) -> None:
        pins = self.model.of("pin")
        identity = data.draw(st.sampled_from(sorted(pins)), "pinned") if pins else self.pick(data)
        if identity not in pins:
            with pytest.raises(NotFoundError):
                self.handles[handle].unpin(identity)
        else:
            assert not self.handles[handle].unpin(identity).pinned
            self.model.change("unpin", {("pin", identity): None})

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES, text=st.sampled_from(["", "good", "bad\n\u202e"]))
    def note(self, data: st.DataObject, handle: int, text: str) -> None:
        identity = self.pick(data)
        assert self.handles[handle].note(identity, text).note == (text or None)
        if self.model.facts.get(("note", identity)) != (text or None):
            self.model.change("note", {("note", identity): text or None})

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES, name=st.sampled_from(NAMES))
    def fork(self, data: st.DataObject, handle: int, name: str) -> None:
        identity = self.pick(data)
        if self.model.heads(name):
            with pytest.raises(RunExists):
                self.handles[handle].fork_run(identity, name)
            return
        assert self.handles[handle].fork_run(identity, name).last.id == identity
        rule = self.model.facts.get(("rule", self.model.run_of(self.model.commits[identity])))
        facts = {("ref", f"runs/{name}/last"): identity, ("rule", name): rule, ("finished", name): None}
        self.model.change("run-fork", facts)

    @rule(handle=HANDLES, old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def rename(self, handle: int, old: str, new: str) -> None:
        heads = self.model.heads(old)
        if not heads or self.model.heads(new):
            with pytest.raises(RunExists if heads else RevisionNotFound):
                self.handles[handle].rename_run(old, new)
            return
        assert self.handles[handle].rename_run(old, new).last.id == heads["last"]
        facts: dict[Fact, Any] = {}
        for head, identity in heads.items():
            facts |= {("ref", f"runs/{old}/{head}"): None, ("ref", f"runs/{new}/{head}"): identity}
        for kind in ("rule", "finished"):
            facts |= {(kind, old): None, (kind, new): self.model.facts.get((kind, old))}
        # A commit has the tick of the change that it is, and this one is behind all there are.
        facts["renamed", old] = (*self.model.facts.get(("renamed", old), ()), (self.model.tick, new))
        self.model.change("run-rename", facts)

    @rule(handle=HANDLES, name=st.sampled_from(NAMES), status=st.sampled_from(["completed", "failed"]))
    def finish(self, handle: int, name: str, status: str) -> None:
        if not self.model.heads(name):
            with pytest.raises(RevisionNotFound):
                self.handles[handle].finish_run(name, status)
            return
        assert self.handles[handle].finish_run(name, status).finished == status
        self.model.change("run-finish", {("finished", name): (self.model.tick, status)})

    # -- letting go

    @precondition(lambda self: len(self.model.commits) > 2)
    @rule(data=st.data(), handle=HANDLES, filtered=st.booleans())
    def drop(self, data: st.DataObject, handle: int, filtered: bool) -> None:
        free = sorted(self.model.commits.keys() - self.model.held())
        if not filtered and free and data.draw(st.booleans(), "free"):
            chosen = set(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=3), "commits"))
        else:
            chosen = {self.pick(data), self.pick(data), self.pick(data)}
        gone = {identity for identity, (_, parts) in self.model.of("drop").items() if parts is None}
        fresh = chosen - gone
        holding = fresh & self.model.held()
        store = self.handles[handle]
        if holding and not filtered:
            with pytest.raises(CommitProtected) as caught:
                store.drop(*chosen)
            assert all(identity[:12] in caught.value.facts["commits"] for identity in holding)
            return
        report = store.drop(*chosen, where="age >= 0s" if filtered else None)
        assert {info.id for info in report.dropped} == fresh - holding
        assert all(info.dropped == "by hand" for info in report.dropped)
        assert {spared.commit.id for spared in report.spared} == holding
        assert set(report.already) == chosen - fresh
        if fresh - holding:
            self.model.lose("drop", fresh - holding)

    @precondition(lambda self: self.model.commits)
    @rule(data=st.data(), handle=HANDLES)
    def thin(self, data: st.DataObject, handle: int) -> None:
        identity, store = self.pick(data), self.handles[handle]
        if identity in self.model.held() or ("drop", identity) in self.model.facts:
            return
        try:
            report = store.drop(identity, parts="*")
        except NotFoundError:
            return  # all of it lies in the root component
        assert report.dropped[0].thinned
        self.model.lose("drop", [identity], report.dropped[0].thinned)

    @precondition(lambda self: len(self.model.commits) > 3)
    @rule(handle=HANDLES, count=st.integers(1, 3))
    def retain(self, handle: int, count: int) -> None:
        """Which go has an oracle of its own: here what is said must be what happens."""
        planned = self.handles[handle].retain({"keep_last": count}, dry_run=True).plan
        gone = {decision.id.hex() for decision in planned.dropped}
        assert not gone & self.model.held()
        assert len(planned.decisions) == len(self.model.commits)
        assert {one.id for one in self.handles[handle].retain({"keep_last": count}).plan.dropped} == {
            one.id for one in planned.dropped
        }
        if gone:
            self.model.lose("retain", gone)

    # -- freeing

    @precondition(lambda self: self.model.of("drop"))
    @rule(handle=HANDLES, now=st.booleans(), repack=st.booleans())
    def gc(self, handle: int, now: bool, repack: bool) -> None:
        """Frees exactly what it said. That nothing else is lost is looked at everywhere."""
        store = self.handles[handle]
        plan = store.plan_gc(now=now)
        lost = {identity for identity in self.model.commits if self.model.lost(identity) != ()}
        assert {one.id for one in plan.commits} <= lost
        assert {one.outcome for one in plan.commits} <= ({"early"} if now else {"waits"})
        assert store.gc(plan, now=now, dry_run=True).nbytes == plan.nbytes
        with self.keeping_house(store):
            report = store.gc(plan, now=now, repack=repack)
        assert (report.packs, report.orphans, report.nbytes) == (plan.packs, plan.orphans, plan.nbytes)
        if now:
            self.graces_are_over(store)

    @precondition(lambda self: len(self.model.commits) > 3)
    @rule(handle=HANDLES, count=st.integers(1, 3), now=st.booleans(), is_planned=st.booleans())
    def gc_with_a_policy(self, handle: int, count: int, now: bool, is_planned: bool) -> None:
        store = self.handles[handle]
        plan = store.plan_gc({"keep_last": count}, now=now)
        assert plan.retained is not None
        gone = {decision.id.hex() for decision in plan.retained.plan.dropped}
        assert not gone & self.model.held()
        assert {one.id for one in plan.commits if one.is_new} == gone
        if gone:
            self.model.lose("retain", gone)
        with self.keeping_house(store, retained=bool(gone)):
            report = store.gc(plan if is_planned else {"keep_last": count}, now=now, repack=False)
        assert (report.packs, report.nbytes) == (plan.packs, plan.nbytes)
        if now:
            self.graces_are_over(store)

    def graces_are_over(self, store: casckpt.Store) -> None:
        """Bytes that nothing needs are gone, but for those in packs with what something needs."""
        self.model.end_graces()
        again = store.plan_gc(now=True)
        assert (again.packs, again.orphans) == (0, 0)
        needed, database = self.model.needed(), store._repository.database
        for pack in list(database.pack_set()):
            assert any(bytes(record.id) in needed for record in database.packs.records(pack))

    @precondition(lambda self: len(self.model.commits) > 2)
    @rule(handle=HANDLES, thorough=st.booleans())
    def repack(self, handle: int, thorough: bool) -> None:
        store = self.handles[handle]
        with self.keeping_house(store):
            # What a call wrote may make a pack mostly a window's, which the next call takes.
            done = [store.repack(max=thorough) for _ in range(4)]
        assert (done[-1].written, done[-1].removed) == (0, 0)
        for identity, made in self.model.commits.items():
            self.comes_back(store, identity, made)

    @contextlib.contextmanager
    def keeping_house(self, store: casckpt.Store, *, retained: bool = False) -> Iterator[None]:
        """What frees and packs writes down that it did, however often, and nothing else."""
        [before] = store.operations(1)
        yield
        made = [one for one in store.operations() if one.number > before.number][::-1]
        assert not retained or made[0].op == "retain"
        for one in made[retained:]:
            assert (one.op in ("gc", "repack"), one.changes, one.undoes) == (True, 0, None)
            self.model.done.append(Done(one.op, {}))

    @precondition(lambda self: len(self.model.commits) > 3)
    @rule(data=st.data(), handle=HANDLES, force=st.booleans())
    def forget(self, data: st.DataObject, handle: int, force: bool) -> None:
        chosen = {self.pick(data), self.pick(data)}
        self.let_go_of(handle, tuple(chosen), chosen, None, force)

    @precondition(lambda self: len(self.model.commits) > 6)
    @rule(data=st.data(), handle=HANDLES, force=st.booleans())
    def forget_a_run(self, data: st.DataObject, handle: int, force: bool) -> None:
        run = self.model.run_of(self.model.commits[self.pick(data)])
        chosen = {one for one, made in self.model.commits.items() if self.model.run_of(made) == run}
        self.let_go_of(handle, (run,), chosen, run, force)

    def let_go_of(self, handle: int, names: tuple[str, ...], gone: set[str], run: str | None, force: bool) -> None:
        store = self.handles[handle]
        heads = [f"runs/{run}/{head}" for head in self.model.heads(run or "")]
        holding = {*(one for name, one in self.model.refs.items() if name not in heads), *self.model.of("pin")} & gone
        if holding and not force:
            with pytest.raises(CommitNamed) as caught:
                store.forget(*names)
            assert all(identity[:12] in caught.value.facts["commits"] for identity in holding)
            return
        report = store.forget(*names, force=force)
        assert {info.id for info in report.forgotten} == gone
        self.model.forget(gone, run)
        assert {one.ref: one.now for one in report.refs} == {
            one.ref: self.model.refs.get(one.ref) for one in report.refs
        }
        for identity in gone:
            with pytest.raises(RevisionNotFound, match="forgotten"):
                store.show(identity)
        for identity, made in self.model.commits.items():
            self.comes_back(store, identity, made)

    # -- taking back

    @rule(handle=HANDLES)
    def undo(self, handle: int) -> None:
        """Passes over what cannot be taken back."""
        store = self.handles[handle]
        known = list(store.operations(len(self.model.done)))[::-1]
        for number in self.model.newest():
            if not self.is_freed(store, number, known[number].number):
                self.take_back(handle, number, None)
                return
        with pytest.raises(NothingToUndo):
            store.undo()

    def is_freed(self, store: casckpt.Store, number: int, given: int) -> bool:
        """Whether a state that an undo would bring back was freed, which must be told with its commit."""
        unsure = self.model.unsure_of(number)
        if unsure:
            try:
                store.undo(given, dry_run=True)
            except (UndoConflict, CommitProtected):
                return False
            except NotUndoable as error:
                before, _, named = error.reason.partition(" has been freed since: ")
                known = {identity[:12] for identity in unsure}
                return before == "what these commits lost" and set(named.partition(" and ")[0].split(", ")) <= known
        return False

    @precondition(lambda self: self.model.done)
    @rule(data=st.data(), handle=HANDLES)
    def undo_by_number(self, data: st.DataObject, handle: int) -> None:
        number = data.draw(st.integers(max(0, len(self.model.done) - 12), len(self.model.done) - 1), "operation")
        known = list(self.handles[handle].operations(len(self.model.done) - number))
        self.take_back(handle, number, known[-1].number)

    @precondition(lambda self: self.model.of("drop"))
    @rule(data=st.data(), handle=HANDLES)
    def undo_what_let_go(self, data: st.DataObject, handle: int) -> None:
        found = [at for at, done in enumerate(self.model.done) if any(kind == "drop" for kind, _ in done.changes)]
        if found:  # else a forget has cut the journal
            number = data.draw(st.sampled_from(found), "operation")
            known = list(self.handles[handle].operations(len(self.model.done) - number))
            self.take_back(handle, number, known[-1].number)

    @precondition(lambda self: self.model.done)
    @rule(handle=HANDLES, times=st.integers(1, 3))
    def undo_the_last_whatever_it_was(self, handle: int, times: int) -> None:
        """A commit too; and by itself an undo, and the undo of that."""
        for _ in range(times):
            [last] = self.handles[handle].operations(1)
            self.take_back(handle, len(self.model.done) - 1, last.number)

    def take_back(self, handle: int, number: int, given: int | None) -> None:
        store, refused = self.handles[handle], self.model.refusal(number)
        if refused not in (AlreadyUndone, NotUndoable) and given is not None and self.is_freed(store, number, given):
            return
        if refused is not None:
            with pytest.raises(refused):
                store.undo(given)
            return
        assert store.undo(given, dry_run=True).undone == store.undo(given).undone
        self.model.undo(number)
        for kind, identity in self.model.done[number].changes:
            if kind == "drop":
                # What is there again was needed meanwhile, or stored again, or never freed.
                self.comes_back(store, identity, self.model.commits[identity])
                self.model.unsure -= self.model.commits[identity].objects(self.model.lost(identity) or ())

    @rule(handle=HANDLES, run=st.sampled_from("ab"), count=st.integers(1, SEAL_FRAMES), start=st.integers(0, 9))
    def commit_often(self, handle: int, run: str, count: int, start: int) -> None:
        for number in range(start, start + count):
            self.train(handle, run, number)

    def train(self, handle: int, run: str, number: int) -> None:
        """A commit whose state differs a little from that of the number before; from 8 on it is a small one."""
        last = self.model.refs.get(f"runs/{run}/last")
        state: dict[str, Any] = {"n": number}
        if number < 8:
            state["part"] = {"bulk": BULK + np.float32(number / 1000)}
        info = self.handles[handle].commit(state, run=run, step=number)
        parents = () if last is None else (last,)
        self.keep(info, Made(state, run, parents, number, "step", "completed", {}, info.time_ns), None)

    # -- what happens to handles and files

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = casckpt.Store(Repository(self.again()))

    @rule(handle=HANDLES, torn=st.sampled_from(["nothing", "noise", "zeros", "frame"]), cut=st.integers(1, 3000))
    def crash(self, handle: int, torn: str, cut: int) -> None:
        """The handle is gone without a word; what it was writing is there in part."""
        database = self.handles[handle]._repository.database
        database.refresh()
        position = database.tail.position
        database.release()
        name = f"journal/{position.file}.log"
        uuid = self.handles[handle]._repository.format.uuid
        frame = encode_frame(uuid, position.seq, position.hash, random.Random(cut).randbytes(3000))
        rest = {"nothing": b"", "noise": b"\xa5" * min(cut, 56), "zeros": bytes(cut), "frame": frame[:cut]}[torn]
        file = self.storage.open_write(name)
        file.truncate(position.offset)  # as a writer does with what the one before it left
        write_all(file, rest, position.offset)
        file.close()
        self.crashes += 1
        unfinished = self.storage.create(f"tmp/pack-0-{self.crashes}")
        write_all(unfinished, b"half of a pack", 0)
        unfinished.close()
        self.handles[handle] = casckpt.Store(Repository(self.again()))

    # -- what must hold

    @invariant()
    def refs_are_as_they_must_be(self) -> None:
        for handle in self.handles:
            handle._repository.database.refresh()
            found = {name: identity.hex() for name, identity in handle._repository.database.refs().items()}
            assert found == self.model.refs

    @invariant()
    def the_log_is_in_order_and_says_everything(self) -> None:
        children: dict[str, set[str]] = {identity: set() for identity in self.model.commits}
        for identity, made in self.model.commits.items():
            for parent in made.parents:
                children[parent].add(identity)
        for handle in self.handles:
            log = list(handle.log())
            notes, pins = self.model.of("note"), self.model.of("pin")
            assert sorted(info.id for info in handle.pins()) == sorted(pins)
            assert [info.id for info in log] == self.model.log()
            for info in log:
                made = self.model.commits[info.id]
                assert (info.run, info.step) == (self.model.run_of(made), made.step)
                assert (info.kind, info.status) == (made.kind, made.status)
                assert (info.note, info.pinned) == (notes.get(info.id), info.id in pins)
                lost = self.model.facts.get(("drop", info.id))
                assert (info.dropped is not None) == (lost is not None and lost[1] is None)
                assert info.thinned == ((lost and lost[1]) or ())
                assert info.parents == made.parents
                assert set(info.children) == children[info.id]
                assert repr(sorted(info.metrics.items())) == repr(sorted(made.metrics.items()))
                assert all(self.model.commits[parent].time_ns < info.time_ns for parent in info.parents)

    @invariant()
    def runs_and_totals_agree(self) -> None:
        counts: dict[str, int] = {}
        for made in self.model.commits.values():
            run = self.model.run_of(made)
            counts[run] = counts.get(run, 0) + 1
        for handle in self.handles:
            runs = {info.name: info for info in handle.runs()}
            assert {f"runs/{name}/last" for name in runs} == {ref for ref in self.model.refs if ref.endswith("/last")}
            for name, info in runs.items():
                heads = self.model.heads(name)
                assert info.commits == counts.get(name, 0)
                assert info.rule == self.model.facts.get(("rule", name))
                assert (info.last.id, info.best and info.best.id) == (heads["last"], heads.get("best"))
                ended = self.model.facts.get(("finished", name))
                is_void = ended is None or self.model.commits[heads["last"]].tick > ended[0]
                assert info.finished == (None if is_void else ended[1])
            assert handle.status().commits == len(self.model.commits)

    @invariant()
    def the_newest_operations_are_told(self) -> None:
        self.operations_are_told(self.handles[0], OPERATIONS_LOOKED_AT)

    def operations_are_told(self, store: casckpt.Store, most: int) -> None:
        expected = self.model.done[::-1][:most]
        found = list(store.operations(len(expected)))
        numbers = {len(self.model.done) - 1 - at: operation.number for at, operation in enumerate(found)}
        changed: list[tuple[str, str | None, str | None]] = []
        for operation, done in zip(found, expected, strict=True):
            assert operation.op == done.op
            assert (operation.undone_by is None) == (done.undone_by is None)
            assert operation.undone_by == numbers.get(done.undone_by)
            assert (operation.undoes is None) == (done.undoes is None)
            if done.undoes in numbers:
                assert operation.undoes == numbers[done.undoes]
            assert operation.changes == len(done.changes) + done.found
            assert {change.ref: (change.old, change.new) for change in operation.refs} == {
                name: pair for (kind, name), pair in done.changes.items() if kind == "ref"
            }
            assert {change.commit for change in operation.drops} == {
                identity for kind, identity in done.changes if kind == "drop"
            }
            changed += [(change.ref, change.old, change.new) for change in operation.refs]
        assert [(one.ref, one.old, one.new) for one in store.reflog(limit=len(changed))] == changed

    @invariant()
    def states_come_back(self) -> None:
        made = list(self.model.commits.items())
        # The newest, and another one in turn; all of them at the end.
        for identity, commit in {**dict(made[-1:]), **dict(made[len(made) // 2 :][:1])}.items():
            for handle in self.handles:
                self.comes_back(handle, identity, commit)
        for name, identity in self.model.refs.items():
            assert self.handles[0].show(name).id == identity
        with pytest.raises(RevisionNotFound):
            self.handles[1].show("f" * 64)

    def comes_back(self, store: casckpt.Store, identity: str, made: Made) -> None:
        lost = self.model.facts.get(("drop", identity))
        if lost is None:
            assert_same_state(made.state, store.checkout(identity))
        else:
            with pytest.raises(CommitDropped if lost[1] is None else CommitThinned) as caught:
                store.checkout(identity)
            # An undo is promised until a collection has ended all graces.
            is_promised = "undo is promised until" in caught.value.reason
            assert is_promised or made.objects() & self.model.unsure

    @invariant()
    def fsck_finds_no_damage(self) -> None:
        report = self.handles[0].fsck()
        assert report.ok, report.findings
        assert report.commits == len(self.model.commits)


class LocalStoreMachine(StoreMachine):
    """The same in a folder, where there is an index to lose."""

    def make(self) -> Storage:
        self.folder = contextlib.ExitStack()
        self.path = self.folder.enter_context(ram_folder()) / "store"
        return LocalStorage(self.path)

    def again(self) -> Storage:
        return LocalStorage(self.path)

    @rule(how=st.sampled_from(["folder", "data", "clean", "damage"]))
    def lose_the_index(self, how: str) -> None:
        folder = self.path / "index"
        if how == "folder":
            shutil.rmtree(folder)
        elif how == "damage":
            # Not where a handle has it mapped: a new file, as a restored backup would be.
            data = bytearray((folder / "data.mdb").read_bytes())
            data[len(data) // 2] ^= 1
            (folder / "new").write_bytes(data)
            (folder / "new").rename(folder / "data.mdb")
        else:
            (folder / {"data": "data.mdb", "clean": "clean"}[how]).unlink(missing_ok=True)
        self.handles[1].close()
        self.handles[1] = casckpt.Store(Repository(self.again()))

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "folder"):
                self.folder.close()


StoreMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
LocalStoreMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)


class TestInMemory(StoreMachine.TestCase):
    pass


class TestInAFolder(LocalStoreMachine.TestCase):
    pass
