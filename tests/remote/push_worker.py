"""What processes that push do; run in children of a nursery, so that SIGKILL takes them at the request asked for."""

from __future__ import annotations

import os
import signal

import casckpt
from casckpt.ops.push import push
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Objects
from tests.support.remotes import Counting, Crashing

PRELUDE = """
import numpy, numpy.random, torch
import casckpt, casckpt.ops.push, casckpt.ops.commit, casckpt.odb.pipeline, casckpt.storage.local_objects
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


def push_often(path: str, remote: str, number: int, count: int) -> None:
    """Commit and push again and again, to a run of its own and to one that all share; prints what was acknowledged."""
    objects = FolderObjects(remote)
    with casckpt.init(path) as store:
        for step in range(count):
            own = store.commit({"x": [number, step], "text": "y" * 3000}, run=f"own{number}", step=step).id
            push(store._repository, objects, "origin", [f"own{number}"])
            shared = store.commit({"x": [step, number]}, run="shared", step=step).id
            push(store._repository, objects, "origin", ["shared"], policy="newest")
            print(own, shared, flush=True)
