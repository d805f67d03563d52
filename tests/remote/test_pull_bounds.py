"""What a clone takes: memory by the pieces on their way, whatever is cloned, and requests by what is there."""

import tracemalloc
from pathlib import Path

import numpy as np

import casckpt
from casckpt.ops.clone import clone
from casckpt.ops.push import push
from casckpt.remote.ranges import PIECE_BYTES
from casckpt.storage.local import LocalStorage
from casckpt.storage.local_objects import FolderObjects
from tests.crash.folders import ram_folder
from tests.support.remote_content import Watched

MIB = 1 << 20
CONCURRENCY = 2


def test_memory_is_that_of_the_pieces_on_their_way(tmp_path: Path) -> None:
    noise = np.random.default_rng(3)
    with ram_folder() as folder:
        (folder / "remote").mkdir()
        objects = FolderObjects(folder / "remote")
        with casckpt.init(folder / "source") as store:
            store.commit({f"w{number}": noise.bytes(40 * MIB) for number in range(5)}, run="a")
            push(store._repository, objects, "origin", ["a"])
        watched = Watched(objects)
        tracemalloc.start()
        repository, report = clone(LocalStorage(folder / "clone"), watched, concurrency=CONCURRENCY)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        repository.close()
        assert report.fetched.nbytes > 200 * MIB
        assert peak < CONCURRENCY * PIECE_BYTES + 64 * MIB
        # Of each full pack one range.
        packs = {key for verb, key, _ in watched.requests if key.startswith("packs/")}
        assert watched.count("get", "packs/") <= len(packs) + 1
        assert watched.down < 202 * MIB
