"""What real commands take: requests, counted where they pass, and memory."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from tests.remote.buckets import Bucket
from tests.remote.commands import Commands, commands
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import COMMON, Server

CONCURRENCY = 4
STATE_BYTES = 300_000_000
ALLOWED_BYTES = CONCURRENCY * (32 << 20) + 64_000_000
_numbers = itertools.count()
_WATCH = """
import os, threading, time

def resident():
    with open("/proc/self/status") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(("RssAnon:", "RssShmem:")))

def watch():
    while True:
        highest[0] = max(highest[0], resident())
        time.sleep(0.001)

def leave(code):
    with open({peak!r}, "w") as file:
        print(highest[0] - level, file=file)
    end(code)

highest = [level := resident()]
threading.Thread(target=watch, daemon=True).start()
end, os._exit = os._exit, leave
"""
"""Measures as `benchmarks.memory` does: the highest level of anonymous memory above that before the command."""


@pytest.fixture(scope="module")
def casckpt_commands() -> Iterator[Commands]:
    with commands(small=False) as found:
        yield found


def taken(proxy: FaultProxy) -> Counter[str]:
    """Requests of the log by what they are about; forgets the log."""
    found: Counter[str] = Counter()
    for one in proxy.log:
        folder = next((name for name in ("packs", "index", "root") if f"/{name}/" in one.path), "other")
        found["LIST" if "list-type" in one.path else f"{one.method} {folder}"] += 1
    proxy.clear()
    return found


def test_a_push_and_a_clone_take_no_more_requests_than_they_may(
    casckpt_commands: Commands, proxy: FaultProxy, moto: Server, ram_path: Path
) -> None:
    bucket = Bucket(moto, COMMON, f"measured-{next(_numbers)}/remote")
    noise = np.random.default_rng(0)
    path = ram_path / "store"

    def run(where: Path, *words: object) -> Counter[str]:
        ended = casckpt_commands.run(where, bucket, proxy.endpoint, *words)
        assert ended.code == 0, ended
        return taken(proxy)

    with casckpt.init(path) as store:
        store.add_remote("origin", bucket.url, probe=False)
        store.commit({"x": noise.standard_normal(3_000_000)}, run="a")
    found = run(path, "push")
    assert found == {"LIST": 2, "PUT other": 1, "PUT packs": 2, "PUT index": 1, "PUT root": 1}
    assert run(path, "push") == {"LIST": 1}
    with casckpt.open(path) as store:
        store.commit({"x": noise.standard_normal(1_000_000)}, run="a")
    found = run(path, "push")
    assert found == {"LIST": 2, "PUT packs": 2, "PUT index": 1, "PUT root": 1}
    assert casckpt_commands.clone(ram_path / "clone", bucket, proxy.endpoint).code == 0
    assert taken(proxy) == {"LIST": 1, "GET root": 1, "GET other": 1, "GET index": 2, "GET packs": 4}
    with casckpt.open(path) as store, casckpt.open(ram_path / "clone") as copy:
        assert copy.show("a").id == store.show("a").id


@pytest.mark.parametrize("more", [[], ["--verify"]], ids=["push", "push verified"])
def test_a_push_and_a_clone_take_memory_for_what_is_on_its_way_and_not_for_the_state(
    more: list[str], bucket: Bucket, ram_path: Path
) -> None:
    path, endpoint, peak = ram_path / "store", bucket.server.endpoint, ram_path / "peak"
    noise = np.random.default_rng(0)
    with casckpt.init(path) as store:
        store.add_remote("origin", bucket.url, probe=False)
        part = STATE_BYTES // 10
        store.commit({str(number): np.frombuffer(noise.bytes(part), np.uint8) for number in range(10)}, run="a")
    with commands(small=False, before=_WATCH.format(peak=str(peak))) as found:
        ended = found.run(path, bucket, endpoint, "push", *more)
        assert ended.said["data"]["up"] > STATE_BYTES
        pushed = int(peak.read_text())
        assert found.clone(ram_path / "clone", bucket, endpoint).code == 0
        cloned = int(peak.read_text())
    assert pushed <= ALLOWED_BYTES
    assert cloned <= ALLOWED_BYTES
    with casckpt.open(ram_path / "clone") as copy:
        assert copy.fsck("full").ok
