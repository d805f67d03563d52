"""Commands as processes of their own, a store and a bucket for each, and what must be true of both afterwards.

The processes make small packs, so that a small store takes many requests, and hardly pause before another try.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import casckpt
from casckpt.odb.repository import Repository
from casckpt.ops.clone import clone
from casckpt.ops.fetch import fetch
from casckpt.ops.push import push
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from tests.remote.buckets import Bucket
from tests.remote.faultproxy import Fault
from tests.remote.servers import KEY, REGION, SECRET
from tests.support.buckets import chain, live_packs
from tests.support.histories import State, same, training
from tests.support.nursery import Child, Nursery, nursery

PACK_BYTES, METADATA_PACK_BYTES = 128 << 10, 8 << 10
_LONGEST_S = 120
_PRELUDE = f"""
import os
os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = {KEY!r}, {SECRET!r}
import numpy, obstore.store, torch
import casckpt.cli.__main__, casckpt.odb.pipeline, casckpt.ops.commit, casckpt.storage.object
import casckpt.cli.commands.clone, casckpt.cli.commands.pull, casckpt.cli.commands.push, casckpt.cli.commands.remote
import casckpt.ops.clone, casckpt.ops.pull, casckpt.ops.push, casckpt.ops.remote_gc, casckpt.view.syncing
"""
_SMALL = f"""
from casckpt.remote import roots, sending
from casckpt.storage import retrying
sending.PACK_BYTES, sending.METADATA_PACK_BYTES = {PACK_BYTES}, {METADATA_PACK_BYTES}
roots._FIRST_PAUSE_S = sending._FIRST_PAUSE_S = retrying._FIRST_S = 0.01
"""
# The streams of the nursery are about other files than those that its children have in their place.
_COMMAND = """
import sys
from casckpt.cli.__main__ import entry
sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
entry()
"""


@dataclass(frozen=True)
class Ended:
    """A command that is over: its exit code, negative for a signal, and what it said."""

    code: int
    said: Mapping[str, Any]

    @property
    def error(self) -> str:
        """The code of its error, empty if it had none."""
        return str(self.said.get("error", {}).get("code", ""))


class Commands:
    """Runs commands on stores whose remote `origin` is a bucket behind an endpoint."""

    def __init__(self, processes: Nursery, before: str = "") -> None:
        self._processes = processes
        self._program = before + _COMMAND

    def run(self, store: Path, bucket: Bucket, endpoint: str, *words: object, kill: Fault | None = None) -> Ended:
        """Run a command to its end.

        Args:
            kill: the fault of a proxy that may end it.
        """
        at = {"url": bucket.url, "endpoint": endpoint, "region": REGION}
        places = [word for key, value in at.items() for word in ("-c", f"remote.origin.{key}={value}")]
        child = self._processes.start(self._program, "-C", store, "--json", *places, *words)
        if kill is not None:
            kill.pid = child.pid
        return _ended(child)

    def clone(self, folder: Path, bucket: Bucket, endpoint: str) -> Ended:
        """Run `casckpt clone` to its end."""
        words = ("clone", bucket.url, folder, "--endpoint", endpoint, "--region", REGION, "--json")
        return _ended(self._processes.start(self._program, *words))


def _ended(child: Child) -> Ended:
    """What a command said, once it is over."""
    output, errors = child.communicate(_LONGEST_S)
    assert child.returncode is not None
    assert child.returncode == -9 or not errors, errors
    return Ended(child.returncode, json.loads(output) if output else {})


@contextmanager
def commands(*, small: bool = True, before: str = "") -> Iterator[Commands]:
    """A nursery of commands.

    Args:
        small: let packs be small.
        before: a program that each process runs before its command.
    """
    with nursery(_PRELUDE + _SMALL * small) as processes:
        yield Commands(processes, before)


def filled(contents: Mapping[str, bytes]) -> MemoryObjects:
    """Objects with these contents."""
    objects = MemoryObjects()
    for key, data in contents.items():
        objects.create(key, data)
    return objects


def contents_of(objects: MemoryObjects) -> dict[str, bytes]:
    """All that is in a remote."""
    return {one.key: objects.get(one.key, limit=1 << 30) for one in objects.list("")}


@dataclass(frozen=True)
class Scene:
    """A store and its remote before a command, and a machine that fetched before; each round has copies of its own.

    Args:
        words: the command.
        states: of the commits of run `a`, the oldest first.
        reader: the files of the store that fetched.
        is_damaged: whether the store is damaged until the command has ended.
    """

    words: Sequence[str]
    states: Sequence[State]
    store: Path
    remote: Mapping[str, bytes]
    reader: Mapping[str, bytes | None]
    is_damaged: bool = False

    def lay(self, bucket: Bucket, folder: Path) -> Path:
        """Put the remote into a bucket and the store into a folder; where the store is."""
        client = bucket.server.client()
        for key, data in self.remote.items():
            client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/{key}", Body=data)
        return Path(shutil.copytree(self.store, folder))

    def check_readers(self, bucket: Bucket) -> None:
        """Assert that who reads now finds everything whole: a new machine, and one that fetched before."""
        contents = bucket.contents()
        if contents == self.remote:
            return  # as it was
        objects = filled(contents)
        self._new_machine(objects)
        before = casckpt.Store(Repository(MemoryStorage(self.reader)))
        fetch(before._repository, objects, "origin")
        self._check_commits(before, "origin/a")

    def _new_machine(self, objects: MemoryObjects) -> casckpt.Store:
        """A clone of a remote, all of it checked."""
        live_packs(objects)
        store = casckpt.Store(clone(MemoryStorage(), objects)[0])
        self._check_commits(store, "a")
        return store

    def _check_commits(self, store: casckpt.Store, name: str) -> None:
        """Assert that a store is sound, and that a commit of run `a` and all before it are what they were."""
        report = store.fsck("full")
        assert report.ok, report
        last = store.show(name).step
        assert last is not None
        for back in range(last + 1):
            assert same(store.checkout(f"{name}~{back}"), self.states[last - back])

    def remote_state(self, bucket: Bucket) -> dict[str, Any]:
        """What a remote is, all of it read and checked; what was left behind and nobody sees does not count."""
        objects = filled(bucket.contents())
        roots = chain(objects)
        root = roots[-1]
        database = self._new_machine(objects)._repository.database
        return {
            "pushes": sum(not one.push.note.startswith("gc:") for one in roots),
            "refs": {name: ref.commit.hex() for name, ref in root.refs.items()},
            "commits": {one.hex() for one in database.commit_ids()},
            "drops": {one.commit.hex() for one in root.drops},
            "condemned": root.condemned,
        }

    def local_state(self, path: Path) -> dict[str, Any]:
        """What a store is, all of it read and checked."""
        with casckpt.open(path) as store:
            self._check_commits(store, "a")
            database = store._repository.database
            return {
                "refs": {name: commit.hex() for name, commit in database.refs().items()},
                "commits": {one.hex() for one in database.commit_ids()},
            }


def build_scenes(folder: Path) -> dict[str, Scene]:
    """A push, a pull, a collection of the remote and a repair from it, by name, their stores below a folder."""
    states, objects = list(training(4, size=20_000)), MemoryObjects()
    with casckpt.init(folder / "pusher") as store:
        for step, state in enumerate(states[:2]):
            store.commit(state, run="a", step=step)
        push(store._repository, objects, "origin", ["a"])
        half = contents_of(objects)
        reader = casckpt.Store(clone(MemoryStorage(), objects)[0])
        files = reader._repository.storage.snapshot()  # type: ignore[attr-defined]
        clone(LocalStorage(folder / "puller"), objects)[0].close()
        shutil.copytree(folder / "pusher", folder / "damaged")
        for pack in (folder / "damaged" / "packs").iterdir():
            pack.unlink()
        for step, state in enumerate(states[2:], 2):
            store.commit(state, run="a", step=step)
    shutil.copytree(folder / "pusher", folder / "collector")
    shutil.copytree(folder / "pusher", folder / "other")
    with casckpt.open(folder / "other") as store:
        for step, state in enumerate(training(2, seed=1, size=20_000)):
            store.commit(state, run="b", step=step)
        push(store._repository, objects, "origin", everything=True)
        whole = contents_of(objects)
    with casckpt.open(folder / "collector") as store:
        fetch(store._repository, objects, "origin")
        push(store._repository, objects, "origin", mirror=True)
    return {
        "push": Scene(("push", "origin", "a"), states, folder / "pusher", half, files),
        "pull": Scene(("pull", "origin"), states, folder / "puller", whole, files),
        "repair": Scene(
            ("fsck", "--repair", "--from", "origin"), states, folder / "damaged", half, files, is_damaged=True
        ),
        "gc": Scene(
            ("remote", "gc", "origin", "--now", "--yes"), states, folder / "collector", contents_of(objects), files
        ),
    }
