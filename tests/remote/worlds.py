"""The world of the protocol model with the real code in it: stores that push and fetch, collectors, and what must hold.

One remote in memory, four machines and a collector or two. Who goes on next, and what becomes of the request, is said
from outside; after every step `check` looks at the bytes of the remote.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from unittest.mock import patch

import casckpt
from casckpt.errors import (
    BusyError,
    NotFastForward,
    NotOnRemote,
    OutcomeUnknown,
    RemoteUnavailable,
    RolledBack,
)
from casckpt.format import chunking
from casckpt.format.commit import Commit
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId, ObjectId, checksum
from casckpt.format.remote import RemoteRoot, root_key, root_seq
from casckpt.format.remote_index import Segment
from casckpt.odb.repository import Repository, initialize, writer_name
from casckpt.odb.workers import Workers
from casckpt.ops.fetch import fetch
from casckpt.ops.publishing import publish
from casckpt.ops.push import push
from casckpt.ops.reach import Reach
from casckpt.ops.remote_gc import Waits, remote_gc
from casckpt.plan import remote_gc as plans
from casckpt.plan.policy import Retention
from casckpt.remote import roots, sending
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.view import RemoteView
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Outcome
from tests.remote.actors import Actor, Fault, Killed, TurnTaking
from tests.support.build import noise

LEAF = 1200
"""Bytes of a leaf, which is a chunk of its own here."""
SHARED = 6
"""So many leaves that commits have in common, each some of them."""
REF = "runs/{}/last"
LETS_GO = "lets go of a run"
_EXPECTED = (NotFastForward, OutcomeUnknown, RemoteUnavailable, Killed, BusyError)
"""How a command may end that has not done its work. A reader may also find that something was removed."""


@contextmanager
def small_world() -> Iterator[None]:
    """Small leaves are chunks, nobody waits, a command works in one thread, and few packs and segments are many.

    Time and chance are the same in every such world.
    """
    numbers, ticks = random.Random(0), count(1_800_000_000_000, 1)
    with ExitStack() as stack:
        for target, name, value in (
            (chunking, "SMALL", 1000),
            (roots, "_FIRST_PAUSE_S", 0),
            (sending, "_FIRST_PAUSE_S", 0),
            (Workers, "_start", lambda workers: None),
            (plans, "SMALL_PACKS", 4),
            (plans, "SEGMENTS", 3),
        ):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(patch("os.urandom", numbers.randbytes))
        stack.enter_context(patch("time.time_ns", lambda: next(ticks) * 10**6))
        yield


class Bucket(MemoryObjects):
    """The remote: its clock goes on by a second with every file, and it watches what is written and removed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000_000_000
        self.has_changed = False
        self.condemned: set[str] = set()
        """All keys that a root of the chain condemned."""
        self.has_dropped = False
        self.late_roots = 0
        """Roots that came with the number of one that had been removed as old."""
        self.let_go: list[RemoteRoot] = []
        """The roots before those that took refs away on purpose."""

    @property
    def head(self) -> RemoteRoot | None:
        numbers = [root_seq(key) for key in self._objects if key.startswith("root/")]
        return RemoteRoot.decode(self.bytes_of(root_key(max(numbers)))) if numbers else None

    def bytes_of(self, key: str) -> bytes:
        return self._objects[key][0]

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def create(self, key: str, data: Buffer) -> Outcome:
        head = self.head if key.startswith("root/") else None
        outcome = super().create(key, data)
        self.now_s += 1
        if outcome is Outcome.CREATED:
            self.has_changed = True
            self._objects[key] = self._objects[key][0], self.now_s * 10**9
            if key.startswith("root/"):
                self._follows(head, RemoteRoot.decode(data))
        return outcome

    def _follows(self, head: RemoteRoot | None, root: RemoteRoot) -> None:
        """A root came: it follows the newest, or has the number of one that was removed as old."""
        if head is None:
            assert root.seq == 1
        elif root.seq < head.seq:
            self.late_roots += 1
        else:
            assert root.seq == head.seq + 1
            assert root.prev == checksum(self.bytes_of(root_key(head.seq)))
            assert root.epoch >= head.epoch
            assert root.epoch > head.epoch or set(root.condemned) <= set(head.condemned)
            if root.push.note == LETS_GO:
                self.let_go.append(head)
            self.has_dropped |= bool(root.drops)
            self.condemned.update(root.condemned)

    def delete(self, keys: Sequence[str]) -> None:
        head = self.head
        assert head is not None
        for key in keys:
            is_old_root = key.startswith("root/") and key < root_key(head.seq)
            assert is_old_root or key in self.condemned, f"{key} was never condemned"
        self.has_changed = True
        super().delete(keys)


class Machine:
    """A store that works with the remote, and who does."""

    def __init__(self, world: World, name: str, run: str, policy: str) -> None:
        self.actor = Actor(name)
        self.run = run
        self.policy = policy
        self._world = world
        self.objects = TurnTaking(self.actor, world.bucket, world.late)
        disk = MemoryStorage()
        initialize(disk, time_ns=1, by="test")
        self._repository = Repository(disk)
        self._store = casckpt.Store(self._repository)

    @property
    def _folder(self) -> RemoteFolder:
        return RemoteFolder(self._repository.storage, "origin")

    def close(self) -> None:
        self._store.close()

    def forget_seen(self) -> None:
        """Take the remote as it is, after an alarm that must have been a false one.

        A late writer may use the number of a root that was removed as old, and then that root may be taken for one of
        the chain by whoever looks for the first time. Roots stay for 30 days, and nobody is as late; but here they go
        at once.
        """
        assert self._world.bucket.late_roots
        self._folder.remove("seen")
        self._folder.remove("root")

    def push(self, shared: int) -> None:
        """Commit and push; where only a fast-forward counts, onto what the remote has."""
        if self.policy == "ff":
            if not self._has_fetched():
                return
            self._follow()
        self._commit(shared)
        push(
            self._repository,
            self.objects,
            "origin",
            [self.run],
            policy=self.policy,  # type: ignore[arg-type]
            concurrency=1,
        )
        tip = self._repository.database.ref(REF.format(self.run))
        assert tip is not None
        self._world.acknowledged.add(tip)

    def fetch(self) -> None:
        """Fetch; what a ref names and is not dropped is there then, byte by byte."""
        if not self._has_fetched():
            return
        database = self._repository.database
        database.refresh()
        reach = Reach(database)
        for commit in set(database.refs("remotes/origin/").values()):
            found = database.commit(commit)
            assert found is not None
            assert database.drop(commit) is not None or reach.is_whole(commit, found)

    def collect(self, policy: Retention | None, waits: Waits, *, now: bool) -> None:
        view = RemoteView(self.objects, self._folder)
        remote_gc(self._repository.database, view, policy, now=now, waits=waits)

    def let_go(self, run: str) -> None:
        """Take a run away on purpose."""

        def change(root: RemoteRoot) -> RemoteRoot:
            refs = {name: ref for name, ref in root.refs.items() if f"/{run}/" not in name}
            return root if len(refs) == len(root.refs) else replace(root, refs=refs)

        view = RemoteView(self.objects, self._folder)
        if view.refresh() is not None:
            append_root(view, change, new_push_id(), note=LETS_GO)

    def _has_fetched(self) -> bool:
        """Fetch; False if something that was to come was let go of, or dropped by a policy, meanwhile.

        Or if a late root was taken for the newest: see `forget_seen`.
        """
        try:
            fetch(self._repository, self.objects, "origin", concurrency=1)
        except NotOnRemote:
            bucket = self._world.bucket
            assert bucket.let_go or bucket.has_dropped or bucket.late_roots
            return False
        return True

    def _follow(self) -> None:
        """Set the run to where the remote has it."""
        database, ref = self._repository.database, REF.format(self.run)
        database.refresh()

        def settle() -> Entry:
            moves = RefMove(ref, database.ref(ref), database.ref(f"remotes/origin/{ref}"))
            return Entry("test", 1, refs=(moves,) if moves[1] != moves[2] else (), by=writer_name())

        publish(self._repository, settle, dry_run=False)

    def _commit(self, shared: int) -> None:
        number = self._world.number()
        state = {"own": noise(f"own {number}", LEAF), "step": number}
        state |= {f"shared {one}": noise(f"shared {one}", LEAF) for one in range(SHARED) if shared >> one & 1}
        self._store.commit({"part": state}, run=self.run, step=number)
        self._world.learn(self._repository)


class World:
    """A remote and everybody who works with it; the world is small until it ends."""

    def __init__(self) -> None:
        self._small = ExitStack()
        self._small.enter_context(small_world())
        self.bucket = Bucket()
        self.late: list[Callable[[], object]] = []
        self.acknowledged: set[CommitId] = set()
        self._made = 0
        self._commits: dict[CommitId, Commit] = {}
        self._needs: dict[CommitId, frozenset[ObjectId]] = {}
        """The objects of each commit that was ever made."""
        self._segments: dict[str, Segment] = {}
        self.machines = [
            Machine(self, "first", "main", "ff"),
            Machine(self, "second", "main", "ff"),
            Machine(self, "third", "race", "newest"),
            Machine(self, "fourth", "race", "newest"),
            Machine(self, "collector", "", "ff"),
            Machine(self, "other collector", "", "ff"),
        ]
        self.pushers, self.collectors = self.machines[:4], self.machines[4:]

    def number(self) -> int:
        self._made += 1
        return self._made

    def learn(self, repository: Repository) -> None:
        """Take in what the commits of a store need."""
        database = repository.database
        database.refresh()
        reach = Reach(database)
        for identity, commit in database.commits():
            if identity not in self._needs and database.drop(identity) is None:
                ids = {ObjectId(identity), ObjectId(commit.tree)}
                for _, component in reach.tree(identity, commit).components:
                    joined = b"".join(reach.ids_of(identity, component))
                    ids |= {ObjectId(joined[at : at + 32]) for at in range(0, len(joined), 32)}
                self._commits[identity], self._needs[identity] = commit, frozenset(ids)

    def begin(self, machine: Machine, work: Callable[[], object]) -> None:
        """Let a machine start on something, if it is idle."""
        if not machine.actor.is_busy:
            machine.actor.begin(work)
            self._after(machine)

    def step(self, machine: Machine, fault: Fault = Fault.NONE) -> None:
        """One request of a machine, if it is at work."""
        if machine.actor.is_busy:
            machine.actor.step(fault)
            self._after(machine)

    def deliver(self, number: int) -> None:
        """A request arrives that had been late."""
        if self.late:
            self.late.pop(number % len(self.late))()
            self.check()

    def _after(self, machine: Machine) -> None:
        error = machine.actor.error
        machine.actor.error = None
        if isinstance(error, RolledBack):
            machine.forget_seen()
        elif error is not None and not isinstance(error, _EXPECTED):
            raise error
        if self.bucket.has_changed:
            self.check()

    def finish(self) -> None:
        """Everybody ends what he is at, and late requests arrive."""
        for machine in self.machines:
            while machine.actor.is_busy:
                self.step(machine)
        while self.late:
            self.deliver(0)

    def kill(self) -> None:
        """Everybody ends where he is, and the world with them."""
        for machine in self.machines:
            while machine.actor.is_busy:
                machine.actor.step(Fault.CRASH)
            machine.close()
        self._small.close()

    # -- what must hold

    def check(self) -> None:
        """What the newest root names is there, and everything that was acknowledged is named."""
        self.bucket.has_changed = False
        root = self.bucket.head
        if root is None:
            assert not self.acknowledged
            return
        packs, rows = set(), set[ObjectId]()
        for one in root.segments:
            assert one.key in self.bucket, "a live segment is not there"
            segment = self._segment(one.key)
            packs.update(segment.packs)
            rows.update(row.id for row in segment.rows())
        for pack in packs:
            assert pack.key in self.bucket, "a live pack is not there"
            assert len(self.bucket.bytes_of(pack.key)) == pack.nbytes
        live = {pack.key for pack in packs} | {one.key for one in root.segments}
        assert live.isdisjoint(root.condemned), "something live is condemned"
        reached = self._reached(root)
        dropped = {drop.commit for drop in root.drops}
        for commit in reached:
            assert commit in rows, "a commit that refs lead to is not there"
            assert commit in dropped or self._needs[commit] <= rows, "the state of a commit is not there"
        let_go = {commit for before in self.bucket.let_go for commit in self._reached(before)}
        assert self.acknowledged <= reached | let_go, "a commit that was acknowledged is lost"

    def _reached(self, root: RemoteRoot) -> set[CommitId]:
        line = [ref.commit for ref in root.refs.values()]
        found: set[CommitId] = set()
        while line:
            commit = line.pop()
            if commit not in found:
                found.add(commit)
                line += self._commits[commit].parents
        return found

    def _segment(self, key: str) -> Segment:
        if key not in self._segments:
            self._segments[key] = Segment.decode(self.bucket.bytes_of(key))
        return self._segments[key]


def play(seed: int, steps: int = 300) -> World:
    """One schedule by chance; AssertionError, or an error that nobody should see, where something is wrong."""
    chance = random.Random(seed)
    world = World()
    standing: dict[Machine, int] = {}
    try:
        for step in range(steps):
            if world.late and chance.random() < 0.1:
                world.deliver(chance.randrange(100))
            machine = chance.choice(world.machines)
            if standing.get(machine, 0) > step and chance.random() < 0.98:
                continue
            if not machine.actor.is_busy:
                world.begin(machine, _work(world, machine, chance))
            is_collecting = machine in world.collectors
            if not is_collecting and chance.random() < 0.08:
                standing[machine] = step + chance.randint(20, 100)
            for _ in range(chance.randint(1, 10 if is_collecting else 2)):
                world.step(machine, chance.choices(list(Fault), (92, 2, 1, 1.5, 1.5, 0.5))[0])
        world.finish()
    finally:
        world.kill()
    return world


def _work(world: World, machine: Machine, chance: random.Random) -> Callable[[], object]:
    if machine in world.collectors:
        if chance.random() < 0.15:
            return partial(machine.let_go, chance.choice(["main", "race"]))
        policy = chance.choice([None, None, Retention(keep_last=2, grace="0s")])
        delay_s, grace_s = chance.choice([0, 0, 10]), chance.choice([0, 0, 20])
        waits = Waits(delay_s=delay_s, grace_s=grace_s, keep_roots=chance.randint(1, 3), keep_roots_s=0)
        return partial(machine.collect, policy, waits, now=chance.random() < 0.7)
    if chance.random() < 0.2:
        return machine.fetch
    return partial(machine.push, chance.getrandbits(SHARED))
