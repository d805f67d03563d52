from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import (
    DamagedBundle,
    IntegrityError,
    NotFoundError,
    RemoteDenied,
    RemoteUntrusted,
    StorageError,
    TooLarge,
)
from casckpt.format.bundle import BundleHead
from casckpt.format.ids import CommitId, ObjectId
from casckpt.format.remote import root_key
from casckpt.remote import bundle_objects
from casckpt.remote.bundle_objects import BundleReader, BundleWriter
from casckpt.storage.objects import Outcome

HEAD = BundleHead(1_790_000_000_000_000_000, "host:1", (CommitId(ObjectId(b"\x07" * 32)),))
INDEX = f"index/{'ab' * 32}.{'0' * 8}"
PACK = f"packs/cd/{'cd' * 32}.{'1' * 8}"
OBJECTS = {root_key(1): b"root one", root_key(2): b"root two", INDEX: b"index" * 100, PACK: bytes(range(256)) * 300}


def make(path: Path, objects: dict[str, bytes] = OBJECTS, head: BundleHead = HEAD) -> Path:
    with path.open("w+b") as file, BundleWriter(file, str(path), head) as bundle:
        for key, data in objects.items():
            assert bundle.create(key, data) is Outcome.CREATED
    return path


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make(tmp_path / "x.bundle")


def test_what_was_put_in_comes_out(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        assert reader.head == HEAD
        assert reader.nbytes == bundle.stat().st_size
        assert {one.key: reader.get(one.key, limit=1 << 20) for one in reader.list("")} == OBJECTS
        assert reader.get(PACK, 10, 20, limit=10) == OBJECTS[PACK][10:20]
        assert reader.get(root_key(1), 5, 100, limit=3) == b"one"
        assert reader.get(root_key(1), 50, 60, limit=1) == b""
        assert reader.get_ranges(PACK, [(0, 4), (256, 260)]) == [bytes(range(4))] * 2
        assert reader.size(PACK) == len(OBJECTS[PACK])


def test_a_bundle_lists_by_prefix_and_from_a_key_on(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        assert [one.key for one in reader.list("root/")] == [root_key(1), root_key(2)]
        assert [one.key for one in reader.list("root/", after=root_key(1))] == [root_key(2)]
        assert [one.nbytes for one in reader.list("index/")] == [500]
        assert list(reader.list("nothing/")) == []


def test_any_unzip_can_look_into_it(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "bundle"
        assert archive.read(PACK) == OBJECTS[PACK]


def test_equal_contents_make_equal_files(tmp_path: Path) -> None:
    assert make(tmp_path / "a").read_bytes() == make(tmp_path / "b").read_bytes()


def test_the_head_is_no_object_of_the_remote(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        assert reader.size("bundle") is None
        with pytest.raises(FileNotFoundError):
            reader.get("bundle", limit=1)
        with pytest.raises(FileNotFoundError):
            reader.get_ranges(root_key(3), [])


def test_more_than_was_allowed_is_refused(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        with pytest.raises(RemoteUntrusted):
            reader.get(root_key(1), limit=7)
        for start, stop in ((0, 501), (-1, 3), (4, 3)):
            with pytest.raises(RemoteUntrusted):
                reader.get_ranges(INDEX, [(0, 1), (start, stop)])


def test_a_bundle_that_is_made_never_changes(bundle: Path) -> None:
    with BundleReader(bundle) as reader:
        assert reader.read_only
        with pytest.raises(RemoteDenied):
            reader.create(root_key(3), b"")
        with pytest.raises(RemoteDenied):
            reader.delete([root_key(1)])


def test_what_is_being_made_can_be_read_at_once(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w+b") as file, BundleWriter(file, "x", HEAD) as bundle:
        assert bundle.create(root_key(1), b"one") is Outcome.CREATED
        assert bundle.create(root_key(1), b"two") is Outcome.EXISTS
        assert bundle.get(root_key(1), limit=3) == b"one"
        assert bundle.create(PACK, memoryview(bytearray(b"pack"))) is Outcome.CREATED
        assert bundle.get_ranges(PACK, [(1, 3)]) == [b"ac"]
        assert [one.key for one in bundle.list("root/")] == [root_key(1)]
        assert bundle.size(INDEX) is None
        with pytest.raises(IntegrityError):
            bundle.create("../outside", b"")
        with pytest.raises(RemoteDenied):
            bundle.delete([PACK])


def test_several_threads_may_put_objects_in(tmp_path: Path) -> None:
    wanted = {root_key(number): os.urandom(1 + number * 37) for number in range(1, 81)}
    with (tmp_path / "x").open("w+b") as file, BundleWriter(file, "x", HEAD) as bundle:

        def put(part: int) -> None:
            for key in list(wanted)[part::4]:
                bundle.create(key, wanted[key])
                assert bundle.get(key, limit=1 << 20) == wanted[key]

        threads = [threading.Thread(target=put, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with BundleReader(tmp_path / "x") as reader:
        assert {one.key: reader.get(one.key, limit=1 << 20) for one in reader.list("")} == wanted


class FullDisk(io.BytesIO):
    """Takes so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: object, /) -> int:
        if self.tell() + memoryview(data).nbytes > self.room:  # type: ignore[arg-type]
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def test_after_a_failure_nothing_more_is_written() -> None:
    file: BinaryIO = FullDisk(2000)
    bundle = BundleWriter(file, "x", HEAD)
    assert bundle.create(root_key(1), bytes(1000)) is Outcome.CREATED
    for key, data in ((PACK, bytes(1000)), (root_key(2), b"")):
        with pytest.raises(StorageError):
            bundle.create(key, data)
    with pytest.raises(StorageError):
        bundle.get(root_key(1), limit=9999)
    with pytest.raises(StorageError):
        bundle.__exit__(None, None, None)


def test_a_directory_that_finds_no_room_is_an_error() -> None:
    file: BinaryIO = FullDisk(1300)
    with pytest.raises(StorageError), BundleWriter(file, "x", HEAD) as bundle:
        bundle.create(root_key(1), bytes(900))


def test_a_bundle_has_a_greatest_number_of_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_objects, "MEMBERS_MAX", 3)
    with pytest.raises(TooLarge):
        make(tmp_path / "x")


def test_a_file_cut_short_anywhere_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    short = tmp_path / "short"
    for stop in [*range(200), *range(200, len(data) - 900, 5000), *range(len(data) - 900, len(data))]:
        short.write_bytes(data[:stop])
        with pytest.raises(DamagedBundle):
            BundleReader(short)


HEAD_MEMBER = {"bundle": HEAD.encode()}


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/" + root_key(1),
        "root/1",
        "root/0000000000000000000\u0661",
        "root/00000000000000000001/",
        "packs/ab/" + "cd" * 32 + ".00000000",
        "index\\x",
        "Bundle",
        "readme.txt",
    ],
)
def test_a_member_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedBundle):
        BundleReader(zipped(tmp_path / "x", {**HEAD_MEMBER, name: b"x"}))


def test_members_must_be_stored_as_they_are(tmp_path: Path) -> None:
    members = {**HEAD_MEMBER, root_key(1): bytes(1 << 20)}
    BundleReader(zipped(tmp_path / "x", members)).close()
    with pytest.raises(DamagedBundle, match="not stored as it is"):
        BundleReader(zipped(tmp_path / "x", members, zipfile.ZIP_DEFLATED))


def test_a_member_twice_or_over_another_is_refused(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    directory = data.index(b"PK\1\2")
    with zipfile.ZipFile(tmp_path / "twice", "w") as archive:
        for name, content in [*HEAD_MEMBER.items(), (root_key(1), b"a")]:
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(root_key(1), b"b")
    with pytest.raises(DamagedBundle, match="two members"):
        BundleReader(tmp_path / "twice")
    # The second root says it lies where the first one does.
    places = [at for at in range(directory, len(data)) if data.startswith(b"PK\1\2", at)]
    over = bytearray(data)
    over[places[2] + 42 : places[2] + 46] = data[places[1] + 42 : places[1] + 46]
    (tmp_path / "over").write_bytes(over)
    with pytest.raises(DamagedBundle, match="overlaps"):
        BundleReader(tmp_path / "over")


def test_an_archive_without_a_head_or_with_a_wrong_one_is_no_bundle(tmp_path: Path) -> None:
    for members in ({root_key(1): b"x"}, {"bundle": b"casckpt bundle\n"}, {"bundle": bytes(2 << 20)}, {}):
        with pytest.raises(DamagedBundle):
            BundleReader(zipped(tmp_path / "x", members))


def test_a_directory_that_would_fill_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_objects, "_DIRECTORY_MAX", 200)
    with pytest.raises(DamagedBundle, match="directory"):
        BundleReader(make(tmp_path / "x"))


def test_only_regular_files_are_opened(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        BundleReader(tmp_path / "absent")
    with pytest.raises(StorageError):
        BundleReader(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError):
        BundleReader(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(bundle)
    BundleReader(tmp_path / "link").close()


@given(st.data())
def test_a_mutated_bundle_is_refused_or_gives_bytes_of_the_file(data: st.DataObject) -> None:
    file = io.BytesIO()
    small = {key: content[:40] for key, content in OBJECTS.items()}
    with BundleWriter(file, "x", HEAD) as writer:
        for key, content in small.items():
            writer.create(key, content)
    whole = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(whole)
        with contextlib.suppress(IntegrityError), BundleReader(path) as reader:
            for one in reader.list(""):
                assert bytes(whole).find(reader.get(one.key, limit=len(whole))) >= 0
