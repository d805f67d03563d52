"""What processes that pull and clone do; run in children of a nursery, so that SIGKILL takes them at a request."""

from __future__ import annotations

import os
import signal

import casckpt
from casckpt.ops.clone import clone
from casckpt.ops.pull import pull
from casckpt.storage.local import LocalStorage
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Objects
from tests.support.remotes import Counting, Crashing

PRELUDE = """
import lmdb, numpy, torch
import casckpt.store, casckpt.ops.clone, casckpt.ops.pull, casckpt.odb.session, casckpt.ops.reach
import casckpt.plan.reclaim, casckpt.storage.local, casckpt.storage.local_objects
import tests.remote.pull_worker
"""


def _objects(remote: str, at: int, is_late: bool) -> Counting:
    """A folder whose reader dies by SIGKILL at a request, before or after it was answered."""
    objects: Objects = FolderObjects(remote)
    if at >= 0:
        objects = Crashing(objects, at, is_late=is_late, die=lambda: os.kill(os.getpid(), signal.SIGKILL))
    return Counting(objects)


def pull_once(path: str, remote: str, at: int = -1, is_late: bool = False) -> None:
    """Pull all into a store; prints the number of requests."""
    objects = _objects(remote, at, is_late)
    with casckpt.open(path) as store:
        pull(store._repository, objects, "origin", everything=True, concurrency=1)
    print(len(objects.requests), flush=True)


def clone_once(path: str, remote: str, at: int = -1, is_late: bool = False) -> None:
    """Clone into a folder; prints the number of requests."""
    objects = _objects(remote, at, is_late)
    clone(LocalStorage(path), objects, concurrency=1)[0].close()
    print(len(objects.requests), flush=True)
