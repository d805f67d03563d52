"""What processes that push do; run in children of a nursery, so that SIGKILL takes them at the request asked for."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

import casckpt
from casckpt.errors import RemoteUnavailable
from casckpt.ops.connecting import connect
from casckpt.ops.push import push
from casckpt.ops.remote_gc import Waits, remote_gc
from casckpt.ops.remotes import Remote
from casckpt.remote.view import RemoteView
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Objects
from tests.remote.servers import KEY, REGION, SECRET
from tests.support.remotes import Counting, Crashing

_NO_WAITS = Waits(delay_s=0, grace_s=0, keep_roots=3, keep_roots_s=0)
PRELUDE = """
import lmdb, numpy, numpy.random, obstore.store, torch
import casckpt.store, casckpt.ops.push, casckpt.ops.commit, casckpt.odb.pipeline, casckpt.ops.remote_gc
import casckpt.cli.__main__, casckpt.cli.commands.push, casckpt.ops.drill, casckpt.view.syncing
import casckpt.state.flatten, casckpt.storage.local, casckpt.storage.object
import tests.remote.push_worker, tests.support.histories
"""


def push_once(path: str, remote: str, at: int = -1, is_late: bool = False) -> None:
    """Push the run `a` of a store; die by SIGKILL at a request, before or after it took effect. Prints all requests."""
    objects: Objects = FolderObjects(remote)
    if at >= 0:
        objects = Crashing(objects, at, is_late=is_late, die=lambda: os.kill(os.getpid(), signal.SIGKILL))
    counting = Counting(objects)
    with casckpt.open(path) as store:
        push(store._repository, counting, "origin", ["a"], concurrency=1)
    print(len(counting.requests), flush=True)


def push_by_command(path: str, go: str) -> None:
    """`casckpt push` as it is typed, once a file is there."""
    from casckpt.cli import main

    _set_keys()
    # Those of the nursery were opened over other files.
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    while not os.path.exists(go):
        time.sleep(0.002)
    sys.argv = ["casckpt", "-C", path, "push", "origin", "a"]
    sys.exit(main())


def push_often(path: str, remote: str, endpoint: str, number: int, count: int) -> None:
    """Commit and push again and again, to a run of its own and to one that all share; prints what was acknowledged."""
    objects = _objects(remote, endpoint)
    with casckpt.init(path) as store:
        for step in range(count):
            own = store.commit({"x": [number, step], "text": "y" * 3000}, run=f"own{number}", step=step).id
            push(store._repository, objects, "origin", [f"own{number}"])
            shared = store.commit({"x": [step, number]}, run="shared", step=step).id
            push(store._repository, objects, "origin", ["shared"], policy="newest")
            print(own, shared, flush=True)


def collect_often(remote: str, endpoint: str, stop: str) -> None:
    """Collect a remote without any grace until a file is there; prints how often."""
    objects, number = _objects(remote, endpoint), 0
    with casckpt.memory() as store:
        while not os.path.exists(stop):
            # Others are first time and again: that is what is to be seen here.
            with suppress(RemoteUnavailable):
                remote_gc(store._repository.database, RemoteView(objects), now=True, waits=_NO_WAITS)
                number += 1
            time.sleep(0.02)
    print(number, flush=True)


def _objects(remote: str, endpoint: str) -> Objects:
    if not endpoint:
        return FolderObjects(remote)
    _set_keys()
    return connect(Remote("origin", remote, endpoint=endpoint, region=REGION)).objects


def _set_keys() -> None:
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
