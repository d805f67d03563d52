"""Real commands that are killed at every request: the next one ends as if nothing had happened."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.remote.buckets import Bucket
from tests.remote.commands import Commands, Scene
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import COMMON, Server

REQUESTS = {"push": 4 + 3, "pull": 2 + 1 + 2, "gc": 13, "repair": 2 + 3}
"""Those of an undisturbed command: a push of three packs, a pull of a segment and two ranges, a repair of
three ranges."""
_numbers = itertools.count()


def place(server: Server) -> Bucket:
    return Bucket(server, COMMON, f"killed-{next(_numbers)}/remote")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["push", "pull", "gc", "repair"])
def test_a_command_that_is_killed_at_any_request_leaves_what_the_next_one_finishes(
    name: str,
    late: bool,
    scenes: dict[str, Scene],
    casckpt_commands: Commands,
    proxy: FaultProxy,
    moto: Server,
    ram_path: Path,
) -> None:
    scene, run = scenes[name], casckpt_commands.run
    bucket = place(moto)
    path = scene.lay(bucket, ram_path / "undisturbed")
    assert run(path, bucket, proxy.endpoint, *scene.words).code == 0
    count = len(proxy.log)
    wanted = scene.remote_state(bucket), scene.local_state(path)
    assert count == REQUESTS[name]
    for number in range(count):
        bucket = place(moto)
        path = scene.lay(bucket, ram_path / str(number))
        proxy.clear()
        fault = proxy.add("kill", skip=number, late=late)
        assert run(path, bucket, proxy.endpoint, *scene.words, kill=fault).code == -9
        scene.check_readers(bucket)
        if not scene.is_damaged:
            scene.local_state(path)
        proxy.clear()
        again = run(path, bucket, proxy.endpoint, *scene.words)
        assert again.code == 0, again
        assert (scene.remote_state(bucket), scene.local_state(path)) == wanted
