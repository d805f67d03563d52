"""Any order of commits, names, undos, reopening, crashes and losses of the index: the store is what a dict says."""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import casckpt
from casckpt.errors import (
    AlreadyUndone,
    CommitDropped,
    CommitProtected,
    CommitThinned,
    ConflictError,
    NotFoundError,
    NothingToUndo,
    RefExists,
    RevisionNotFound,
    RunExists,
    UndoConflict,
)
from casckpt.format.frame import encode_frame
from casckpt.odb import journal
from casckpt.odb.repository import Repository
from casckpt.odb.repository import initialize as make_store
from casckpt.storage.base import Storage, write_all
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.strategies import assert_same_state, states

SEAL_FRAMES = 6
RUNS = ("a", "b", "c-2.d")
NAMES = (*RUNS, "x")
METRICS = ("loss", "acc")
OPERATIONS_LOOKED_AT = 4
HANDLES = st.integers(0, 1)


Fact = tuple[str, str]
"""What can change: ("ref", name), ("rule", run), ("finished", run), ("renamed", run);
("note", id), ("pin", id) or ("drop", id)."""


@dataclass
class Made:
    """A commit as it must be. `tick` says when it was made, as the number of changes before it."""

    state: Any
    run: str
    parents: tuple[str, ...]
    step: int | None
    kind: str
    status: str
    metrics: dict[str, float]
    time_ns: int
    tick: int = 0


@dataclass
class Done:
    """An operation as it must be told."""

    op: str
    changes: dict[Fact, tuple[Any, Any]]
    undoes: int | None = None
    undone_by: int | None = None


@dataclass
class Model:
    """What a store must say: its commits, the facts of now, and what made them so."""

    commits: dict[str, Made] = field(default_factory=dict)
    facts: dict[Fact, Any] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    tick: int = 0

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
        gone = {identity for identity, (_, parts) in self.of("drop").items() if parts is None}
        for (kind, _), (old, _) in done.changes.items():
            if kind == "ref" and old in gone:
                return UndoConflict
        if any(self.facts.get(fact) != new for fact, (_, new) in done.changes.items()):
            return UndoConflict
        again = {name for (kind, name), (old, _) in done.changes.items() if kind == "drop" and old is not None}
        return CommitProtected if (again - gone) & self.held() else None

    def newest(self) -> int | None:
        """What an undo without a number takes back."""
        numbers = reversed(range(len(self.done)))
        in_effect = (number for number in numbers if self.done[number].undone_by is None)
        return next((number for number in in_effect if self.done[number].op not in ("commit", "undo")), None)

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

    def beats(self, made: Made, metric: str, mode: str) -> bool:
        value = made.metrics.get(metric, math.nan)
        old = self.refs.get(f"runs/{made.run}/best")
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

    @initialize()
    def begin(self) -> None:
        self.seal_frames, journal.SEAL_FRAMES = journal.SEAL_FRAMES, SEAL_FRAMES
        self.storage = self.make()
        make_store(self.storage, time_ns=1, by="test")
        self.handles = [casckpt.Store(Repository(self.again())) for _ in range(2)]
        self.model = Model()
        self.crashes = 0

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        journal.SEAL_FRAMES = self.seal_frames
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
            options["parents"] = parents = tuple(self.pick(data) for _ in range(1 + (line == "two")))
        elif line == "expect" and last is not None:
            options["expect"] = last
        state = data.draw(states(depth=2), "state")
        if bulk is not None:  # too much for a frame, so that there are packs, and chunks that several commits share
            state = {"bulk": random.Random(bulk).randbytes(70_000), "state": state}
        info = self.handles[handle].commit(
            state, run=run, step=step, kind=kind, status=status, metrics=metrics, best=best, **options
        )
        assert info.id not in self.model.commits
        self.model.commit(info.id, Made(state, run, parents, step, kind, status, metrics, info.time_ns), best)

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

    # -- taking back

    @rule(handle=HANDLES)
    def undo(self, handle: int) -> None:
        number = self.model.newest()
        if number is None:
            with pytest.raises(NothingToUndo):
                self.handles[handle].undo()
        else:
            self.take_back(handle, number, None)

    @precondition(lambda self: self.model.done)
    @rule(data=st.data(), handle=HANDLES)
    def undo_by_number(self, data: st.DataObject, handle: int) -> None:
        number = data.draw(st.integers(max(0, len(self.model.done) - 12), len(self.model.done) - 1), "operation")
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
        if refused is not None:
            with pytest.raises(refused):
                store.undo(given)
            return
        assert store.undo(given, dry_run=True).undone == store.undo(given).undone
        self.model.undo(number)

    @rule(handle=HANDLES, count=st.integers(1, SEAL_FRAMES))
    def commit_often(self, handle: int, count: int) -> None:
        for number in range(count):
            last = self.model.refs.get("runs/a/last")
            info = self.handles[handle].commit({"n": number}, run="a")
            parents = () if last is None else (last,)
            self.model.commit(
                info.id, Made({"n": number}, "a", parents, None, "step", "completed", {}, info.time_ns), None
            )

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
            assert operation.changes == len(done.changes)
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
            with pytest.raises(CommitDropped if lost[1] is None else CommitThinned):
                store.checkout(identity)

    @invariant()
    def fsck_finds_no_damage(self) -> None:
        report = self.handles[0].fsck()
        assert report.ok, report.findings
        assert report.commits == len(self.model.commits)


class LocalStoreMachine(StoreMachine):
    """The same in a folder, where there is an index to lose."""

    def make(self) -> Storage:
        self.path = Path(tempfile.mkdtemp()) / "store"
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
            if hasattr(self, "path"):
                shutil.rmtree(self.path.parent)


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
LocalStoreMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)


class TestInMemory(StoreMachine.TestCase):
    pass


class TestInAFolder(LocalStoreMachine.TestCase):
    pass
