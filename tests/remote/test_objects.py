"""The contract of `Objects` over everything that is one, and around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from casckpt.storage.limited import Bucket as Rate
from casckpt.storage.limited import Limited
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.metered import Metered
from casckpt.storage.object import ServiceObjects
from casckpt.storage.objects import Objects
from casckpt.storage.retrying import Retrying
from tests.remote.buckets import Bucket, set_keys

pytest.register_assert_rewrite("tests.remote.objects_contract")

from tests.remote.objects_contract import Look, ObjectsContract  # noqa: E402


class TestMemory(ObjectsContract):
    @pytest.fixture
    def objects(self) -> MemoryObjects:
        return MemoryObjects()

    @pytest.fixture
    def look(self, objects: MemoryObjects) -> Look:
        return lambda: {key: data for key, (data, _) in objects._objects.items()}


class TestFolder(ObjectsContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> FolderObjects:
        return FolderObjects(tmp_path)

    @pytest.fixture
    def look(self, tmp_path: Path) -> Look:
        def look() -> dict[str, bytes]:
            files = [path for path in tmp_path.rglob("*") if path.is_file()]
            return {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files}

        return look

    def fill(self, objects: Objects, keys: list[str]) -> None:
        # A thousand flushes would take seconds, and are not what is asked here.
        for key in keys:
            path = Path(objects.url, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    @pytest.fixture
    def others(self, tmp_path: Path) -> list[Objects]:
        return [FolderObjects(tmp_path) for _ in range(8)]


class ServiceContract(ObjectsContract):
    @pytest.fixture
    def place(self) -> Bucket:
        raise NotImplementedError

    @pytest.fixture
    def objects(self, place: Bucket, monkeypatch: pytest.MonkeyPatch) -> Objects:
        set_keys(monkeypatch)
        return place.objects()

    @pytest.fixture
    def look(self, place: Bucket) -> Look:
        return place.contents

    @pytest.fixture
    def others(self, objects: Objects, place: Bucket) -> list[Objects]:
        return [objects, *(place.objects() for _ in range(3))]


class TestSeaweed(ServiceContract):
    @pytest.fixture
    def place(self, bucket: Bucket) -> Bucket:
        return bucket


class TestMoto(ServiceContract):
    many = 10

    @pytest.fixture
    def place(self, moto_bucket: Bucket) -> Bucket:
        return moto_bucket


class TestBucketWithoutPrefix(ServiceContract):
    many = 10

    @pytest.fixture
    def place(self, moto_root: Bucket) -> Bucket:
        return moto_root


class TestWrapped(ServiceContract):
    """All that stands around a backend changes nothing of what it promises."""

    many = 10

    @pytest.fixture
    def place(self, moto_bucket: Bucket) -> Bucket:
        return moto_bucket

    @pytest.fixture
    def objects(self, place: Bucket, monkeypatch: pytest.MonkeyPatch) -> Objects:
        set_keys(monkeypatch)
        return self.wrapped(place.objects())

    @pytest.fixture
    def others(self, objects: Objects, place: Bucket) -> list[Objects]:
        return [objects, *(self.wrapped(place.objects()) for _ in range(3))]

    def wrapped(self, objects: ServiceObjects) -> Objects:
        return Retrying(Limited(Metered(objects), Rate(1e9)))
