"""Files back on disk: exact, private, in one step, and never by a way that leads out of the target."""

from __future__ import annotations

import fcntl
import os
import random
import re
import stat
import subprocess
from collections.abc import Iterator
from hashlib import shake_256
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import DamagedLeaf, IntegrityError, NotFoundError, TargetExists, UnsafePath, UsageError
from casckpt.odb.fetch import Want
from casckpt.odb.repository import Repository
from casckpt.ops import write_files
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.load import Loader
from casckpt.state.flat import Blob, FlatComponent, FlatState
from casckpt.state.values import encode_key
from casckpt.storage.local import LocalStorage
from tests.crash.folders import ram_folder, start_python

MIB = 1 << 20
# Around every border: inside the tree, in groups, in chunks of their own, in windows, in pages, with threads.
SIZES = (0, 1, 64, 65, 4096, 200_000, 262_143, 262_144, 262_145, MIB, MIB + 1, 3 * MIB + 4095, 9_000_001, 70 * MIB + 5)


def content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def make_tree(folder: Path) -> dict[str, bytes]:
    """A folder with files of all sizes, and what they hold."""
    files = {f"a/b/{size}": content(str(size), size) for size in SIZES}
    files |= {f"small/{number}": content(f"s{number}", 97 * number) for number in range(150)}
    files |= {"run.sh": b"#!/bin/sh\n", "Größe ☃": b"x", "a.b/c": b"y", "a/.hidden": b"z"}
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "run.sh").chmod(0o755)
    (folder / "empty" / "inside").mkdir(parents=True)
    return files


def found(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(folder: Path) -> list[str]:
    """Names that a checkout should not have left."""
    return [name for name in os.listdir(folder) if name.endswith((".part", ".old"))]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    casckpt.init(tmp_path / "store").close()
    repository = Repository(LocalStorage(tmp_path / "store"), threads=2)
    yield repository
    repository.close()


@pytest.fixture
def store(repository: Repository) -> casckpt.Store:
    return casckpt.Store(repository)


class Held:
    private = True

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read(self, start: int, stop: int) -> memoryview:
        return self._data[start:stop]


def commit_nodes(repository: Repository, names: list[str], nodes: list[object], *blobs: tuple[str, bytes]) -> None:
    """Commit a tree by hand, as somebody may who means harm."""
    made = tuple(Blob(path, "bytes", len(data), Held(data)) for path, data in blobs)
    flat = FlatState(
        FlatComponent("", ["dict", [encode_key(name, name, 0) for name in names], nodes], [], made), (), ()
    )
    commit_state(repository, flat, CommitOptions("hostile"), "off", None)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("compress", ["off", "always"])
def test_files_come_back_byte_for_byte(tmp_path: Path, threads: int, compress: str) -> None:
    files = make_tree(tmp_path / "in")
    with casckpt.init(tmp_path / "store", threads=threads) as store:
        info = store.commit_path(tmp_path / "in", compress=compress)  # type: ignore[arg-type]
        heard: list[tuple[int, int]] = []
        report = store.checkout_path("@", tmp_path / "out", progress=lambda done, total: heard.append((done, total)))
    total = sum(map(len, files.values()))
    assert (report.files, report.nbytes, report.commit, report.leftover) == (len(files), total, info.id, None)
    assert found(tmp_path / "out" / "in") == files
    assert (tmp_path / "out" / "in" / "empty" / "inside").is_dir()
    assert heard[-1] == (total, total) and heard == sorted(heard)
    assert not beside(tmp_path)


def test_a_part_of_a_commit_comes_back_alone(store: casckpt.Store, tmp_path: Path) -> None:
    files = make_tree(tmp_path / "in")
    store.commit_path(tmp_path / "in")
    report = store.checkout_path("@:in/small", tmp_path / "small")
    assert found(tmp_path / "small") == {name[6:]: data for name, data in files.items() if name.startswith("small/")}
    assert report.files == 150 and report.nbytes == sum(97 * number for number in range(150))
    store.checkout_path("@:in/a/b/9000001", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == files["a/b/9000001"]
    store.checkout_path("@:in/empty", tmp_path / "empty")
    assert os.listdir(tmp_path / "empty") == ["inside"]
    with pytest.raises(NotFoundError, match="'in/b'"):
        store.checkout_path("@:in/b", tmp_path / "none")
    assert not (tmp_path / "none").exists() and not beside(tmp_path)


def test_a_part_is_had_although_another_is_damaged(store: casckpt.Store, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content(name, 400_000))
    store.commit_path(tmp_path / "good", tmp_path / "bad", compress="off")
    store.close()
    (pack,) = (tmp_path / "store" / "packs").rglob("*.pack")
    data = bytearray(pack.read_bytes())
    data[data.index(content("bad", 400_000)[:4096]) + 1000] ^= 1  # however the file was cut
    pack.chmod(0o600)
    pack.write_bytes(data)
    with casckpt.open(tmp_path / "store") as again:
        again.checkout_path("@:good", tmp_path / "out")
        assert found(tmp_path / "out") == {"file": content("good", 400_000)}
        for target in ("all", "out"):
            with pytest.raises(DamagedLeaf, match="bad/file"):
                again.checkout_path("@", tmp_path / target, replace=True)
    assert found(tmp_path / "out") == {"file": content("good", 400_000)}
    assert not (tmp_path / "all").exists() and not beside(tmp_path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_are_private_whatever_the_umask(store: casckpt.Store, tmp_path: Path, umask: int) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("run.sh", "sub/plain", "sub/large.sh"):
        (tmp_path / "in" / name).write_bytes(content(name, 300_000 if "large" in name else 10))
    for name, mode in (("run.sh", 0o4755), ("sub/plain", 0o646), ("sub/large.sh", 0o711), ("sub", 0o2777)):
        (tmp_path / "in" / name).chmod(mode)
    store.commit_path(tmp_path / "in")
    before = os.umask(umask)
    try:
        store.checkout_path("@", tmp_path / "out")
        store.checkout_path("@:in/run.sh", tmp_path / "one.sh")
        store.checkout_path("@:in/sub/plain", tmp_path / "one")
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode for path in (tmp_path / "out").rglob("*")}
    modes |= {name: (tmp_path / name).stat().st_mode for name in ("out", "one", "one.sh")}
    assert {name for name, mode in modes.items() if stat.S_IMODE(mode) != 0o700} == {"out/in/sub/plain", "one"}
    assert stat.S_IMODE(modes["one"]) == stat.S_IMODE(modes["out/in/sub/plain"]) == 0o600


UNPRIVILEGED = """
import os, sys
import casckpt

with casckpt.open(sys.argv[1], threads=2) as store:
    store.checkout_path("@", sys.argv[2] + "/imported")  # all that is imported late, which others cannot read
    os.setgid(65534)
    os.setuid(65534)
    os.umask(0o777)
    store.checkout_path("@", sys.argv[2] + "/out")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_umask_that_denies_the_owner_is_in_nobodys_way(tmp_path: Path) -> None:
    with ram_folder() as folder:
        make_tree(tmp_path / "in")
        with casckpt.init(folder / "store") as store:
            store.commit_path(tmp_path / "in")
        (folder / "target").mkdir()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        process = start_python(UNPRIVILEGED, folder / "store", folder / "target")
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert found(folder / "target" / "out") == found(folder / "target" / "imported")
        assert (folder / "target" / "out").stat().st_uid == 65534


def test_an_empty_folder_is_replaced_and_nothing_else(store: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "in")
    taken = {name: tmp_path / name for name in ("full", "file", "link", "dangling", "fifo")}
    taken["full"].mkdir()
    (taken["full"] / "old").write_bytes(b"old")
    taken["file"].write_bytes(b"old")
    (tmp_path / "nothing").mkdir()
    taken["link"].symlink_to("nothing")
    taken["dangling"].symlink_to("nowhere")
    os.mkfifo(taken["fifo"])
    for path in taken.values():
        for revision in ("@", "@:in/file"):
            before = path.lstat()
            with pytest.raises(TargetExists):
                store.checkout_path(revision, path)
            assert path.lstat() == before
    with pytest.raises(TargetExists):
        store.checkout_path("@:in/file", tmp_path / "nothing")
    assert os.listdir(tmp_path / "nothing") == [] and (taken["full"] / "old").read_bytes() == b"old"
    store.checkout_path("@", tmp_path / "nothing")
    assert found(tmp_path / "nothing") == {"in/file": b"new"}
    assert not beside(tmp_path)


def test_what_is_replaced_may_be_a_file_or_a_folder(store: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "in")
    target = tmp_path / "target"
    for revision, expected in (("@:in", {"file": b"new"}), ("@:in/file", b"new")) * 2:
        for old in ("absent", "file", "folder", "again"):
            if old == "file":
                subprocess.run(["rm", "-rf", target], check=True)
                target.write_bytes(b"old")
            elif old == "folder":
                subprocess.run(["rm", "-rf", target], check=True)
                (target / "sub").mkdir(parents=True)
                (target / "sub" / "link").symlink_to(tmp_path / "in")
            store.checkout_path(revision, target, replace=True)
            assert (found(target) if target.is_dir() else target.read_bytes()) == expected
            assert not beside(tmp_path)
    assert (tmp_path / "in" / "file").read_bytes() == b"new", "a link in what was replaced was followed"


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo"])
def test_a_link_or_device_is_never_replaced(store: casckpt.Store, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "file")
    target = tmp_path / "target"
    os.mkfifo(target) if kind == "fifo" else target.symlink_to("file" if kind == "link" else "nowhere")
    before = target.lstat()
    with pytest.raises(UnsafePath, match="regular file or a folder"):
        store.checkout_path("@", target, replace=True)
    assert target.lstat() == before and not beside(tmp_path)


def test_a_store_is_never_replaced(store: casckpt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "file")
    (tmp_path / "work").mkdir()
    casckpt.init(tmp_path / "work" / ".casckpt").close()
    casckpt.init(tmp_path / "other").close()
    (tmp_path / "alias").symlink_to(tmp_path)
    for target in (tmp_path, tmp_path / "store", tmp_path / "work", tmp_path / "other", "/"):
        with pytest.raises(UsageError, match="store"):
            store.checkout_path("@", target, replace=True)
    with pytest.raises(UsageError, match="store"):
        store.checkout_path("@", tmp_path / "alias" / "store" / ".." / "other", replace=True)
    assert store.show().run == "main" and not beside(tmp_path)


def test_the_working_folder_is_never_replaced(
    store: casckpt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    store.commit_path(tmp_path / "in")
    (tmp_path / "here" / "below").mkdir(parents=True)
    for here, target in (("here", "."), ("here/below", ".."), ("here/below", tmp_path / "here")):
        monkeypatch.chdir(tmp_path / here)
        with pytest.raises(UsageError, match="working folder"):
            store.checkout_path("@", target, replace=True)
    assert (tmp_path / "here" / "below").is_dir()


def test_the_folder_of_the_target_must_be_there(store: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "file")
    for target in (tmp_path / "nowhere" / "target", tmp_path / "file" / "target"):
        with pytest.raises((UsageError, casckpt.errors.StorageError)):
            store.checkout_path("@", target)


def test_zeros_become_holes(store: casckpt.Store, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for at in (3 * MIB, 300 * MIB + 17):
            file.seek(at)
            file.write(content(str(at), 5000))
        file.truncate(400 * MIB + 5)
    (tmp_path / "zeros").write_bytes(bytes(2 * MIB))
    store.commit_path(path, tmp_path / "zeros", compress="off")
    store.checkout_path("@", tmp_path / "out")
    back = tmp_path / "out" / "sparse"
    assert back.stat().st_size == path.stat().st_size
    assert back.stat().st_blocks * 512 <= 2 * MIB + 65536
    assert (tmp_path / "out" / "zeros").stat().st_blocks == 0
    assert (tmp_path / "out" / "zeros").read_bytes() == bytes(2 * MIB)
    with path.open("rb") as one, back.open("rb") as other:
        while piece := one.read(8 * MIB):
            assert piece == other.read(8 * MIB)


class Zeros:
    private = True

    def read(self, start: int, stop: int) -> memoryview:
        return memoryview(bytes(stop - start))


def test_a_chunk_of_zeros_is_read_only_a_few_times(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = (Blob("z", "bytes", 2048 * MIB, Zeros()),)
    flat = FlatState(FlatComponent("", ["dict", ["z"], [["file", 0, False]]], [], blobs), (), ())
    commit_state(repository, flat, CommitOptions("zeros"), "off", None)
    reads: list[Want] = []
    inner = Loader.read

    def read(self: Loader, wants: list[Want], *arguments: Any, **words: Any) -> None:
        reads.extend(wants)
        inner(self, wants, *arguments, **words)

    monkeypatch.setattr(Loader, "read", read)
    casckpt.Store(repository).checkout_path("zeros", tmp_path / "out")
    assert (tmp_path / "out").stat().st_size == 2048 * MIB and (tmp_path / "out").stat().st_blocks == 0
    assert 0 < len(reads) < 200, "not in proportion to the data"


def test_memory_is_bounded_by_windows(store: casckpt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = []
    inner = write_files.pages
    monkeypatch.setattr(write_files, "pages", lambda nbytes: windows.append(nbytes) or inner(nbytes))
    (tmp_path / "large").write_bytes(shake_256(b"large").digest(90 * MIB))
    store.commit_path(tmp_path / "large", compress="off")
    store.checkout_path("@", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "large").read_bytes()
    assert 0 < len(windows) <= 2 * write_files.READERS + 1
    assert set(windows) == {write_files.WINDOW_BYTES}


def test_many_files_need_few_descriptors(store: casckpt.Store, tmp_path: Path) -> None:
    import resource

    for number in range(300):
        folder = tmp_path / "in" / f"{number % 150}" / "x"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(content(str(number), 270_000 if number % 3 == 0 else 3000))
    store.commit_path(tmp_path / "in")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 160, limits[1]))
    try:
        store.checkout_path("@", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found(tmp_path / "out" / "in") == found(tmp_path / "in")


def test_every_file_and_folder_is_flushed_before_the_name(
    store: casckpt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("tiny", "sub/grouped", "sub/large"):
        (tmp_path / "in" / name).write_bytes(content(name, {"tiny": 3, "sub/grouped": 999, "sub/large": 300_000}[name]))
    store.commit_path(tmp_path / "in")
    log: list[str] = []
    fsync, rename, flush = os.fsync, os.rename, write_files.flush_all

    def name_of(fd: int) -> str:
        return re.sub(r"\.out\.\d+-\w+\.part", "ASIDE", os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))

    monkeypatch.setattr(os, "fsync", lambda fd: (log.append(name_of(fd)), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda *words, **more: (log.append("rename"), rename(*words, **more)))
    monkeypatch.setattr(write_files, "flush_all", lambda fd: (log.append("all of " + name_of(fd)), flush(fd)))
    store.checkout_path("@", tmp_path / "out")
    files = ("", "/in", "/in/sub", "/in/tiny", "/in/sub/grouped", "/in/sub/large")
    assert set(log[:-2]) == {f"ASIDE{name}" for name in files}
    assert log[-2:] == ["rename", "."]
    (tmp_path / "out").rename(tmp_path / "before")
    log.clear()
    monkeypatch.setattr(write_files, "SYNCED_EACH_MAX", 4)
    store.checkout_path("@", tmp_path / "out")
    assert log == ["all of ASIDE", "rename", "."]


def test_bytes_that_no_blob_has_are_an_error(repository: Repository, tmp_path: Path) -> None:
    for number, blob in enumerate((1, 7, 1 << 62)):
        commit_nodes(repository, ["a"], [["file", blob, False]], ("a", b"x" * (number + 1)))
        with pytest.raises(IntegrityError):
            casckpt.Store(repository).checkout_path("hostile", tmp_path / "out")
        assert not (tmp_path / "out").exists() and not beside(tmp_path)


def test_two_files_may_have_the_same_bytes_by_one_blob(repository: Repository, tmp_path: Path) -> None:
    data = content("shared", 700_000)
    commit_nodes(repository, ["a", "b"], [["file", 0, False], ["file", 0, True]], ("a", data))
    casckpt.Store(repository).checkout_path("hostile", tmp_path / "out")
    assert found(tmp_path / "out") == {"a": data, "b": data}
    assert not os.path.samefile(tmp_path / "out" / "a", tmp_path / "out" / "b")


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", ".CASCKPT", "", "x" * 300, "\ud800"])
def test_a_hostile_name_leaves_nothing(repository: Repository, tmp_path: Path, name: str) -> None:
    commit_nodes(repository, [name, "ok"], [["file", 0, False], ["file", None, False]], ("a", b"x"))
    with pytest.raises(UnsafePath):
        casckpt.Store(repository).checkout_path("hostile", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_what_a_killed_checkout_left_is_removed_by_the_next(store: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "file")
    dead, live = (tmp_path / f".out.{pid}-0123456789ab.part" for pid in (1, 2))
    others = [
        ".out.1-0123456789ab.old",
        ".out.part",
        ".outs.1-0123456789ab.part",
        ".out.1-0123456789ab.part.x",
        "out.1",
    ]
    (dead / "sub").mkdir(parents=True)
    (dead / "sub" / "link").symlink_to(tmp_path / "store")
    (tmp_path / ".out.3-0123456789ab.part").write_bytes(b"half")
    (tmp_path / ".out.4-0123456789ab.part").symlink_to(tmp_path / "store")
    live.mkdir()
    for name in others:
        (tmp_path / name).write_bytes(b"another's")
    held = os.open(live, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    store.checkout_path("@", tmp_path / "out")
    kept = {".out.4-0123456789ab.part", live.name, *others, "file", "out", "store"}
    assert set(os.listdir(tmp_path)) == kept and len(os.listdir(tmp_path / "store")) > 3
    os.close(held)
    store.checkout_path("@", tmp_path / "out", replace=True)
    assert set(os.listdir(tmp_path)) == kept - {live.name}


def test_a_name_of_255_bytes_can_be_a_target(store: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"new")
    store.commit_path(tmp_path / "file")
    target = tmp_path / ("é" * 127)
    for _ in range(2):
        store.checkout_path("@", target, replace=True)
        assert target.read_bytes() == b"new" and not beside(tmp_path)
