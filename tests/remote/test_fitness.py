"""Which places can be remotes: no server is believed, each is tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casckpt.errors import RemoteDenied, RemoteNotFound, RemoteUnavailable, RemoteUnfit
from casckpt.storage.fitness import Fitness, probe
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Listed, Outcome
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import READER_KEY, READER_SECRET


def test_memory_and_folders_are_fit(tmp_path: Path) -> None:
    assert probe(MemoryObjects()) == Fitness(creates_once=True, deletes=True, leftover="")
    assert probe(FolderObjects(tmp_path)) == Fitness(creates_once=True, deletes=True, leftover="")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_real_services_are_fit_and_left_as_they_were(
    bucket: Bucket, moto_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    for place in (bucket, moto_bucket):
        assert probe(place.objects()) == Fitness(creates_once=True, deletes=True, leftover="")
        assert place.contents() == {}


def test_a_missing_bucket_is_told_from_an_empty_one(
    bucket: Bucket, moto_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    for place in (bucket, moto_bucket):
        objects = Bucket(place.server, "no-such-bucket", "a").objects()
        for ask in (lambda: probe(objects), lambda: list(objects.list("root/"))):  # noqa: B023
            with pytest.raises(RemoteNotFound):
                ask()
        with pytest.raises(RemoteNotFound):
            objects.create("root/1", b"x")


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RemoteNotFound):
        probe(FolderObjects(tmp_path / "unmounted"))


def test_who_may_not_delete_may_push(moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    proxy.add("status", method="POST", times=9, status=403, code="AccessDenied")
    found = probe(moto_bucket.objects(proxy.endpoint))
    assert not found.deletes
    assert list(moto_bucket.contents()) == [found.leftover]
    assert found.leftover.startswith("packs/")


def test_who_may_not_write_is_denied(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, READER_KEY, READER_SECRET)
    with pytest.raises(RemoteDenied):
        probe(bucket.objects())


def test_a_service_without_conditions_is_refused_with_a_way_out(
    moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    proxy.add("status", method="PUT", times=9, status=501, code="NotImplemented")
    with pytest.raises(RemoteUnfit, match="conditional writes"):
        probe(moto_bucket.objects(proxy.endpoint))


def test_a_service_that_ignores_conditions_is_refused(
    moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As several S3-like servers do: the condition is taken off on its way, and moto overwrites."""
    set_keys(monkeypatch)
    objects = moto_bucket.objects(proxy.endpoint)
    proxy.strip = b"if-none-match"
    with pytest.raises(RemoteUnfit, match="over one that is there"):
        probe(objects)
    assert moto_bucket.contents() == {}


def test_who_alone_writes_may_use_it(moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    objects = moto_bucket.objects(proxy.endpoint)
    assert probe(objects, single_writer=True).creates_once
    proxy.strip = b"if-none-match"
    assert probe(objects, single_writer=True) == Fitness(creates_once=False, deletes=True, leftover="")
    assert moto_bucket.contents() == {}


class Overwrites(MemoryObjects):
    """Says that the key was taken, and stores all the same."""

    def create(self, key: str, data: Buffer) -> Outcome:
        outcome = super().create(key, data)
        self._objects[key] = bytes(data), 0
        return outcome


class WithoutParts(MemoryObjects):
    """Gives the whole for a part."""

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        return super().get(key, limit=limit)


class Forgetful(MemoryObjects):
    """Lists what was there a while ago."""

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        return iter(())


class FromTheStart(MemoryObjects):
    """Lists everything, wherever it is asked to begin."""

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        return super().list(prefix)


class Sizeless(MemoryObjects):
    """Knows no lengths."""

    def size(self, key: str) -> int | None:
        return 0


class Keeps(MemoryObjects):
    """Says that it deleted what it keeps."""

    def delete(self, keys: object) -> None:
        pass


class Taken(MemoryObjects):
    """Says that everything is there."""

    def create(self, key: str, data: Buffer) -> Outcome:
        return Outcome.EXISTS


class Silent(MemoryObjects):
    """Never answers an upload."""

    def create(self, key: str, data: Buffer) -> Outcome:
        return Outcome.UNKNOWN


@pytest.mark.parametrize("wrong", [Overwrites, WithoutParts, Forgetful, FromTheStart, Sizeless, Keeps, Taken])
def test_a_place_that_breaks_a_promise_is_refused(wrong: type[MemoryObjects]) -> None:
    objects = wrong()
    with pytest.raises(RemoteUnfit) as refused:
        probe(objects)
    assert "folder" in refused.value.advice
    assert not objects._objects or wrong is Keeps


def test_a_place_that_does_not_answer_is_not_judged() -> None:
    with pytest.raises(RemoteUnavailable):
        probe(Silent())
