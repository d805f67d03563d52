"""Clones from real servers: what they ask, and what they make of a network that fails under them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import RemoteUntrusted
from casckpt.ops.clone import clone
from casckpt.ops.fetch_reports import PullReport
from casckpt.ops.pull import pull
from casckpt.ops.push import push
from casckpt.ops.remote_store import open_remote
from casckpt.storage.local import LocalStorage
from casckpt.storage.object import ServiceObjects
from casckpt.storage.objects import Objects
from casckpt.storage.retrying import Retrying
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy
from tests.support.histories import same, training

STATES = list(training(3, size=200_000))


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "source") as store:
        for number, state in enumerate(STATES):
            store.commit(state, run="a", step=number)
        yield store


@pytest.fixture
def behind(source: casckpt.Store, moto_bucket: Bucket, proxy: FaultProxy) -> ServiceObjects:
    """A remote with three commits, behind the proxy."""
    push(source._repository, moto_bucket.objects(), "origin", ["a"])
    proxy.clear()
    return moto_bucket.objects(proxy.endpoint, timeout_s=2)


def cloned(path: Path, objects: Objects) -> PullReport:
    repository, report = clone(LocalStorage(path), objects)
    repository.close()
    with casckpt.open(path) as store:
        for back, state in enumerate(reversed(STATES)):
            assert same(store.checkout(f"a~{back}"), state)
        assert store.fsck("full").ok
    return report


def test_a_clone_from_seaweedfs_is_whole(source: casckpt.Store, bucket: Bucket, tmp_path: Path) -> None:
    push(source._repository, bucket.objects(), "origin", ["a"])
    report = cloned(tmp_path / "clone", bucket.objects())
    assert set(report.fetched.requests) == {"get", "list"}


def test_one_tensor_of_seaweedfs_moves_little_more_than_its_chunks(
    source: casckpt.Store, bucket: Bucket, tmp_path: Path
) -> None:
    push(source._repository, bucket.objects(), "origin", ["a"])
    size = sum(map(len, bucket.contents().values()))
    repository = open_remote(bucket.objects(), cache=str(tmp_path / "cache"))
    with casckpt.Store(repository) as store:
        found = store.tree("a~1")["data/log"].read()
        assert np.array_equal(found, STATES[1]["data"]["log"])
    cache = sum(pack.stat().st_size for pack in (tmp_path / "cache").rglob("*.pack"))
    assert cache < size / 4


def test_a_clone_asks_for_no_more_than_it_needs(behind: ServiceObjects, proxy: FaultProxy, tmp_path: Path) -> None:
    cloned(tmp_path / "clone", behind)
    methods = [request.method for request in proxy.log]
    packs = [request for request in proxy.log if "packs/" in request.path]
    segments = [request for request in proxy.log if "index/" in request.path]
    assert set(methods) == {"GET"}
    assert len(methods) <= 3 + len(segments) + len(packs)
    assert len(packs) <= 3
    with casckpt.open(tmp_path / "clone") as store:
        proxy.clear()
        pull(store._repository, behind, "origin")
        assert len(proxy.log) == 1


FAULTS = {
    "busy": {"kind": "status", "status": 503, "times": 2},
    "too many": {"kind": "status", "status": 429, "code": "TooManyRequests", "times": 2},
    "reset": {"kind": "reset", "times": 2},
    "cut": {"kind": "cut", "after": 5000, "times": 2},
    "cut in order": {"kind": "cut", "after": 5000, "orderly": True, "times": 2},
}


@pytest.mark.parametrize("path", ["root/", "index/", "packs/"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_fails_now_and_then_delays_a_clone_only(
    fault: str, path: str, behind: ServiceObjects, proxy: FaultProxy, tmp_path: Path
) -> None:
    met = proxy.add(**{"path": path, **FAULTS[fault]})  # type: ignore[arg-type]
    cloned(tmp_path / "clone", Retrying(behind, sleep=lambda _: None))
    assert met.hits


@pytest.mark.parametrize("path", ["root/", "index/", "packs/"])
def test_a_bit_that_flips_on_the_way_is_never_stored(
    path: str, behind: ServiceObjects, proxy: FaultProxy, tmp_path: Path
) -> None:
    met = proxy.add("corrupt_down", path=path + "[0-9a-f]", after=70)
    with pytest.raises(RemoteUntrusted):
        cloned(tmp_path / "clone", Retrying(behind, sleep=lambda _: None))
    assert met.hits == 1
    cloned(tmp_path / "clone", behind)
