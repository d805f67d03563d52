"""What processes do that push to one remote and collect it, until SIGKILL takes them."""

from __future__ import annotations

import os
from pathlib import Path

import casckpt
from casckpt.ops.push import push
from casckpt.ops.remote_gc import Waits, remote_gc
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.view import RemoteView
from casckpt.storage.addresses import Access, parse
from casckpt.storage.objects import Objects
from casckpt.storage.opening import open_objects
from tests.remote.servers import DEAD, KEY, REGION, SECRET

PRELUDE = """
import lmdb, numpy, numpy.random, obstore.store, torch
import casckpt.store, casckpt.ops.push, casckpt.ops.commit, casckpt.ops.remote_gc, casckpt.odb.pipeline
import casckpt.state.flatten, casckpt.storage.local, casckpt.storage.local_objects, casckpt.storage.object
import tests.remote.gc_worker
"""
WAITS = Waits(delay_s=0, grace_s=0.5, keep_roots=100, keep_roots_s=0)


def opened(url: str, endpoint: str) -> Objects:
    """A folder, or a bucket on a server of the tests."""
    if not endpoint:
        return open_objects(parse(url), Access()).objects
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_METADATA_ENDPOINT=DEAD)
    return open_objects(parse(url), Access(endpoint=endpoint, region=REGION)).objects


def push_on(path: str, url: str, endpoint: str, number: int, count: int) -> None:
    """Commit and push until the own run has so many commits; prints what was acknowledged."""
    objects = opened(url, endpoint)
    exists = (Path(path) / "format").exists()
    with casckpt.open(path) if exists else casckpt.init(path) as store:
        own = f"own{number}"
        done = sum(commit.run == own for commit in store.log()) if exists else 0
        for step in range(max(done - 1, 0), count):
            if step >= done:  # else killed before it was pushed, or before that was said
                store.commit({"x": [step, number]}, run="shared", step=step)
                store.commit({"x": [number, step], "text": f"{number} {step} " * 900}, run=own, step=step)
            push(store._repository, objects, "origin", [own])
            push(store._repository, objects, "origin", ["shared"], policy="newest")
            print(store.show(own).id, store.show("shared").id, flush=True)


def collect_on(path: str, url: str, endpoint: str, stop: str) -> None:
    """Collect again and again."""
    objects = opened(url, endpoint)
    exists = (Path(path) / "format").exists()
    with casckpt.open(path) if exists else casckpt.init(path) as store:
        while not Path(stop).exists():
            view = RemoteView(objects, RemoteFolder(store._repository.storage, "origin"))
            report = remote_gc(store._repository.database, view, now=True, waits=WAITS)
            print(report.condemned, report.removed, report.rewritten, report.roots, flush=True)
