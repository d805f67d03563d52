"""Any order of commits, tags, reopening, crashes and losses of the index: the store is what a few dicts say it is."""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import casckpt
from casckpt.errors import ConflictError, RefExists, RevisionNotFound
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
METRICS = ("loss", "acc")
HANDLES = st.integers(0, 1)


@dataclass
class Made:
    """A commit as it must be."""

    state: Any
    run: str
    parents: tuple[str, ...]
    step: int | None
    kind: str
    status: str
    metrics: dict[str, float]
    time_ns: int


@dataclass
class Model:
    """What a store must say."""

    commits: dict[str, Made] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    rules: dict[str, tuple[str, str]] = field(default_factory=dict)

    def commit(self, identity: str, made: Made, best: str | None) -> None:
        self.commits[identity] = made
        if best is not None:
            self.rules[made.run] = (best.split(":")[0], best.split(":")[1])
        self.refs[f"runs/{made.run}/last"] = identity
        if made.status != "completed":
            return
        if made.kind == "recovery":
            self.refs[f"runs/{made.run}/recovery"] = identity
        if made.run in self.rules and self.beats(made):
            self.refs[f"runs/{made.run}/best"] = identity

    def beats(self, made: Made) -> bool:
        metric, mode = self.rules[made.run]
        value = made.metrics.get(metric, math.nan)
        old = self.refs.get(f"runs/{made.run}/best")
        other = math.nan if old is None else self.commits[old].metrics.get(metric, math.nan)
        if math.isnan(value) or math.isnan(other):
            return not math.isnan(value)
        return value < other if mode == "min" else value > other

    def reachable(self) -> set[str]:
        found: set[str] = set()
        waiting = list(self.refs.values())
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
                assert_same_state(made.state, store.checkout(identity))
            assert store.fsck("full").ok
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
            self.model.refs[ref] = identity

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
            assert [info.id for info in log] == self.model.log()
            for info in log:
                made = self.model.commits[info.id]
                assert (info.run, info.step, info.kind, info.status) == (made.run, made.step, made.kind, made.status)
                assert info.parents == made.parents
                assert set(info.children) == children[info.id]
                assert repr(sorted(info.metrics.items())) == repr(sorted(made.metrics.items()))
                assert all(self.model.commits[parent].time_ns < info.time_ns for parent in info.parents)

    @invariant()
    def runs_and_totals_agree(self) -> None:
        counts: dict[str, int] = {}
        for made in self.model.commits.values():
            counts[made.run] = counts.get(made.run, 0) + 1
        for handle in self.handles:
            runs = {run.name: run for run in handle.runs()}
            assert {name: run.commits for name, run in runs.items()} == counts
            for name, run in runs.items():
                rule = self.model.rules.get(name)
                assert run.rule == (None if rule is None else ":".join(rule))
                assert run.last.id == self.model.refs[f"runs/{name}/last"]
                assert (run.best and run.best.id) == self.model.refs.get(f"runs/{name}/best")
            assert handle.status().commits == len(self.model.commits)

    @invariant()
    def states_come_back(self) -> None:
        made = list(self.model.commits.items())
        # The newest, and another one in turn; all of them at the end.
        for identity, commit in {**dict(made[-1:]), **dict(made[len(made) // 2 :][:1])}.items():
            for handle in self.handles:
                assert_same_state(commit.state, handle.checkout(identity))
        for name, identity in self.model.refs.items():
            assert self.handles[0].show(name).id == identity
        with pytest.raises(RevisionNotFound):
            self.handles[1].show("f" * 64)

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
