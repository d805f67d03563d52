"""Real commands over a line that fails: each ends well, or says what is wrong and the next one ends well.

Whichever it is, nobody sees anything wrong meanwhile: who reads the remote finds all of it, and the store is sound.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.crash.folders import ram_folder
from tests.remote.buckets import Bucket
from tests.remote.commands import Commands, Scene
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import COMMON, Server

_numbers = itertools.count()
ALWAYS = 1000
LIST, ROOT, INDEX, PACKS = "list-type", "root/0", "index/", "packs/.*/"


def each(kind: str, method: str, *paths: str, **facts: Any) -> list[dict[str, Any]]:
    """A fault for each of these paths."""
    return [{"kind": kind, "method": method, "path": path, **facts} for path in paths]


BUSY = [
    *each("status", "", LIST, INDEX, times=2, status=503, code="SlowDown"),
    *each("status", "", PACKS, times=2, status=429, code="TooManyRequests"),
    *each("status", "", ROOT, times=2, status=500, code="InternalError"),
]
RESETS = each("reset", "", LIST, ROOT, INDEX, PACKS, times=2)
EXPIRED = {"times": ALWAYS, "code": "ExpiredToken"}
Faults = list[dict[str, Any]]
PUSHES: dict[str, tuple[Faults, str, int]] = {
    "busy": (BUSY, "", 0),
    "resets": (RESETS, "", 0),
    "cut uploads": (each("reset_up", "PUT", ROOT, INDEX, PACKS, after=100, times=2), "", 0),
    "cut answers": (each("cut", "GET", LIST, after=80, times=2), "", 0),
    "lost answers": (each("lost", "PUT", ROOT, INDEX, PACKS, times=2), "", 0),
    "twice": (each("twice", "PUT", ROOT, INDEX, PACKS, times=2), "", 0),
    "late at once": (each("ghost", "PUT", ROOT, INDEX, PACKS), "", 0),
    "late": (each("ghost", "PUT", ROOT, INDEX, PACKS, delay=0.2), "", 0),
    "never answers": (each("lost", "", ROOT, times=ALWAYS), "remote.unknown-outcome", 13),
    "down": (each("status", "PUT", PACKS, times=ALWAYS), "remote.unavailable", 9),
    "down at the root": (each("status", "PUT", ROOT, times=ALWAYS), "remote.unknown-outcome", 13),
    "expired": (each("status", "PUT", ROOT, status=400, **EXPIRED), "remote.denied", 9),
    "expired at once": (each("status", "", "", status=403, **EXPIRED), "remote.denied", 9),
    "expired, then renewed": (each("status", "PUT", ROOT, INDEX, status=400, code="ExpiredToken"), "", 0),
    "forbidden": (each("status", "PUT", PACKS, status=403, code="AccessDenied", times=ALWAYS), "remote.denied", 9),
}
PULLS: dict[str, tuple[Faults, str, int]] = {
    "busy": (BUSY, "", 0),
    "resets": (RESETS, "", 0),
    "lost answers": (each("lost", "GET", LIST, ROOT, INDEX, PACKS, times=2), "", 0),
    "cut": (each("cut", "GET", LIST, ROOT, INDEX, PACKS, after=50, times=2), "", 0),
    "cut in order": (each("cut", "GET", ROOT, INDEX, PACKS, after=100, orderly=True), "", 0),
    "flipped in packs": (each("corrupt_down", "GET", PACKS, after=90, skip=1), "remote.untrusted", 4),
    "flipped in the root": (each("corrupt_down", "GET", ROOT, after=90), "remote.untrusted", 4),
    "flipped in the index": (each("corrupt_down", "GET", INDEX, after=90), "remote.untrusted", 4),
    "down": (each("status", "GET", PACKS, times=ALWAYS, skip=1), "remote.unavailable", 9),
    "expired": (each("status", "GET", PACKS, status=403, skip=1, **EXPIRED), "remote.denied", 9),
}
CASES = [("push", name) for name in PUSHES] + [("pull", name) for name in PULLS]


@pytest.fixture(scope="module")
def wanted(scenes: dict[str, Scene], casckpt_commands: Commands, moto: Server) -> dict[str, Any]:
    """What a remote and a store are after a command that nothing disturbed, by its name."""
    found = {}
    for name in ("push", "pull"):
        bucket = place(moto)
        with ram_folder() as folder:
            path = scenes[name].lay(bucket, folder / "store")
            assert casckpt_commands.run(path, bucket, moto.endpoint, *scenes[name].words).code == 0
            found[name] = scenes[name].remote_state(bucket), scenes[name].local_state(path)
    return found


def place(server: Server) -> Bucket:
    return Bucket(server, COMMON, f"faulty-{next(_numbers)}/remote")


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case}" for name, case in CASES])
def test_a_command_over_a_bad_line_ends_well_or_says_why_and_the_next_one_does(
    name: str,
    case: str,
    scenes: dict[str, Scene],
    wanted: dict[str, Any],
    casckpt_commands: Commands,
    proxy: FaultProxy,
    moto: Server,
    ram_path: Path,
) -> None:
    scene, bucket = scenes[name], place(moto)
    path = scene.lay(bucket, ram_path / "store")
    faults, error, code = (PUSHES if name == "push" else PULLS)[case]
    added = [proxy.add(**fault) for fault in faults]
    ended = casckpt_commands.run(path, bucket, proxy.endpoint, *scene.words)
    assert (ended.error, ended.code) == (error, code), ended
    assert all(fault.hits for fault in added)
    if error:
        scene.check_readers(bucket)
        scene.local_state(path)
        proxy.clear()
        again = casckpt_commands.run(path, bucket, proxy.endpoint, *scene.words)
        assert again.code == 0, again
    assert (scene.remote_state(bucket), scene.local_state(path)) == wanted[name]


@pytest.mark.parametrize("flipped", [ROOT, INDEX, PACKS])
def test_a_flipped_bit_of_an_upload_is_refused_by_a_service_that_checks_and_sent_again(
    flipped: str,
    scenes: dict[str, Scene],
    wanted: dict[str, Any],
    casckpt_commands: Commands,
    weed_proxy: FaultProxy,
    bucket: Bucket,
    ram_path: Path,
) -> None:
    scene = scenes["push"]
    path = scene.lay(bucket, ram_path / "store")
    fault = weed_proxy.add("corrupt_up", method="PUT", path=flipped, after=90)
    ended = casckpt_commands.run(path, bucket, weed_proxy.endpoint, *scene.words)
    assert ended.code == 0, ended
    assert fault.hits == 1
    assert (scene.remote_state(bucket), scene.local_state(path)) == wanted["push"]


def test_a_flipped_bit_that_a_service_stored_is_found_by_verify_and_its_pack_never_named(
    scenes: dict[str, Scene],
    wanted: dict[str, Any],
    casckpt_commands: Commands,
    proxy: FaultProxy,
    moto: Server,
    ram_path: Path,
) -> None:
    scene, bucket = scenes["push"], place(moto)
    path = scene.lay(bucket, ram_path / "store")
    proxy.add("corrupt_up", method="PUT", path=PACKS, after=9000)
    one_by_one = ("-c", "remote.origin.concurrency=1")  # the first pack is full
    ended = casckpt_commands.run(path, bucket, proxy.endpoint, *scene.words, "--verify", *one_by_one)
    assert (ended.error, ended.code) == ("remote.untrusted", 4), ended
    scene.check_readers(bucket)
    again = casckpt_commands.run(path, bucket, proxy.endpoint, *scene.words)
    assert again.code == 0, again
    assert (scene.remote_state(bucket), scene.local_state(path)) == wanted["push"]
