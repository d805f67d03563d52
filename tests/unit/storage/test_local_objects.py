"""A folder as a remote: what the contract does not ask, since only a folder has it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from casckpt.errors import RemoteDenied, RemoteNotFound, RemoteUnavailable, RemoteUnfit
from casckpt.storage import local_objects
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Outcome


def refuse(code: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_everything_is_flushed_before_and_after_it_has_its_name(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noting(name: str, real: object, show: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            calls.append(f"{name} {show(*arguments)}")  # type: ignore[operator]
            return real(*arguments, **options)  # type: ignore[operator]

        return call

    folder = str(tmp_path)
    flushed = lambda fd: "folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"  # noqa: E731
    monkeypatch.setattr(os, "fsync", noting("fsync", os.fsync, flushed))
    monkeypatch.setattr(os, "link", noting("link", os.link, lambda _, to: os.path.relpath(to, folder)))
    monkeypatch.setattr(os, "mkdir", noting("mkdir", os.mkdir, lambda path: os.path.relpath(path, folder)))
    assert objects.create("packs/ab/c", b"data") is Outcome.CREATED
    assert calls == [
        *("mkdir packs", "fsync folder", "mkdir packs/ab", "fsync folder", "mkdir tmp", "fsync folder"),
        *("fsync file", "fsync file", "link packs/ab/c", "fsync folder"),
    ]
    calls.clear()
    objects.create("packs/ab/d", b"data")
    assert calls == ["fsync file", "link packs/ab/d", "fsync folder"]
    # Whoever linked a name may have been killed before its folder was flushed.
    for tells in (
        lambda: objects.create("packs/ab/d", b"data"),
        lambda: objects.size("packs/ab/d"),
        lambda: list(objects.list("packs/ab/")),
    ):
        calls.clear()
        tells()
        assert calls == ["fsync folder"]


def test_a_folder_that_cannot_be_flushed_leaves_open_whether_its_names_last(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.create("root/1", b"a")
    monkeypatch.setattr(local_objects, "sync_folder", refuse(errno.EIO))
    assert objects.create("root/1", b"a") is Outcome.UNKNOWN
    for tells in (lambda: objects.size("root/1"), lambda: list(objects.list("root/"))):
        with pytest.raises(RemoteUnavailable):
            tells()
    monkeypatch.setattr(local_objects, "sync_folder", refuse(errno.EROFS))
    assert objects.size("root/1") == 1
    monkeypatch.setattr(local_objects, "sync_folder", refuse(errno.EIO))
    reader = FolderObjects(tmp_path, read_only=True)
    assert [one.key for one in reader.list("root/")] == ["root/1"]


def test_nothing_unfinished_is_listed_or_left(objects: FolderObjects, tmp_path: Path) -> None:
    objects.create("root/1", b"a")
    (tmp_path / "tmp" / "1-unfinished").write_bytes(b"part")
    assert [one.key for one in objects.list("")] == ["root/1"]
    objects.create("root/1", b"b")
    assert names(tmp_path) == ["root/1", "tmp/1-unfinished"]


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path: Path) -> None:
    for name, age_s in (("old", 90_000), ("new", 3_000)):
        (tmp_path / "tmp").mkdir(exist_ok=True)
        path = tmp_path / "tmp" / name
        path.write_bytes(b"part")
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    FolderObjects(tmp_path).create("root/1", b"a")
    assert names(tmp_path) == ["root/1", "tmp/new"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "unmounted")
    for call in (lambda: objects.create("root/1", b""), lambda: list(objects.list("root/"))):
        with pytest.raises(RemoteNotFound):
            call()
    assert objects.size("root/1") is None
    assert not (tmp_path / "unmounted").exists()


def test_without_hard_links_a_rename_spares_what_is_there(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    assert objects.create("root/1", b"first") is Outcome.CREATED
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # another writer's comes between the look and the rename
    assert objects.create("root/1", b"later") is Outcome.EXISTS
    assert (tmp_path / "root/1").read_bytes() == b"first"
    assert names(tmp_path) == ["root/1"]


def test_with_neither_a_folder_is_no_remote(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casckpt.storage import libc

    monkeypatch.setattr(os, "link", refuse(errno.ENOTSUP))
    monkeypatch.setattr(libc, "rename_with", refuse(errno.EINVAL))
    with pytest.raises(RemoteUnfit):
        objects.create("root/1", b"first")
    assert names(tmp_path) == []


def test_a_link_whose_answer_was_lost_is_known_by_its_file(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link_twice(*arguments: str, **options: bool) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", link_twice)
    assert objects.create("root/1", b"first") is Outcome.CREATED


def test_what_is_named_and_perhaps_not_durable_is_unknown(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.create("root/1", b"a")
    monkeypatch.setattr(local_objects, "sync_folder", refuse(errno.EIO))
    assert objects.create("root/2", b"b") is Outcome.UNKNOWN


def test_a_failed_flush_stores_nothing(objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.create("root/1", b"a")
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(RemoteUnavailable):
        objects.create("root/2", b"b")
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(RemoteUnavailable, match="No space"):
        objects.create("root/3", b"b")
    assert names(tmp_path) == ["root/1"]


def test_what_is_not_allowed_is_denied(objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.create("root/1", b"a")
    frozen = FolderObjects(tmp_path, read_only=True)
    assert frozen.get("root/1", limit=1) == b"a"
    for call in (lambda: frozen.create("root/2", b""), lambda: frozen.delete(["root/1"])):
        with pytest.raises(RemoteDenied):
            call()
    monkeypatch.setattr(os, "unlink", refuse(errno.EACCES))
    with pytest.raises(RemoteDenied):
        objects.delete(["root/1"])


def test_keys_and_links_lead_nowhere_else(objects: FolderObjects, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(b"secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/1").symlink_to(outside)
    os.mkfifo(tmp_path / "root/2")
    for key in ("../" + outside.name, "/etc/passwd", "root/../../x", "root//1", ""):
        with pytest.raises(ValueError, match="not a storage name"):
            objects.get(key, limit=100)
    for key in ("root/1", "root/2"):
        with pytest.raises(RemoteUnavailable):
            objects.get(key, limit=100)
        assert objects.size(key) is None
        assert objects.create(key, b"x") is Outcome.EXISTS
    assert list(objects.list("root/")) == []
    assert outside.read_bytes() == b"secret"


def test_folders_that_somebody_removes_are_made_again(objects: FolderObjects, tmp_path: Path) -> None:
    objects.create("packs/aa/1", b"x")
    shutil.rmtree(tmp_path / "packs")
    with pytest.raises(RemoteUnavailable):
        objects.create("packs/aa/1", b"x")
    assert objects.create("packs/aa/1", b"x") is Outcome.CREATED
    assert names(tmp_path) == ["packs/aa/1"]


def test_others_may_read_what_the_umask_lets_them(objects: FolderObjects, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        objects.create("root/1", b"a")
    finally:
        os.umask(before)
    assert (tmp_path / "root/1").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o750


def test_one_object_deleted_during_a_listing_is_left_out(objects: FolderObjects) -> None:
    for name in "abc":
        objects.create(f"root/{name}", b"")
    listing = objects.list("root/")
    assert next(listing).key == "root/a"
    objects.delete(["root/b"])
    assert [one.key for one in listing] == ["root/c"]


def test_many_threads_make_one_folder(objects: FolderObjects) -> None:
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda number=number: outcomes.append(objects.create(f"packs/aa/{number}", b"x")))  # type: ignore[misc]
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Outcome.CREATED] * 8
