"""Chunks that a checkout shares with packs: only what was verified there, and nobody's writes reach the other."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.ops import write_files
from casckpt.storage.clone import duplicate
from casckpt.storage.flock import Descriptor
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage

MIB = 1 << 20
MKFS = shutil.which("mkfs.btrfs")


def commit_random(store: casckpt.Store, folder: Path, nbytes: int, compress: str = "off") -> bytes:
    data = random.Random(nbytes).randbytes(nbytes)
    (folder / "file").write_bytes(data)
    store.commit_path(folder / "file", compress=compress)  # type: ignore[arg-type]
    return data


class Clones:
    """Stands in for a file system that can: copies, and knows how much."""

    def __init__(self) -> None:
        self.nbytes = 0

    def __call__(self, source: Descriptor, start: int, target: Descriptor, offset: int, nbytes: int) -> None:
        assert not (start | offset | nbytes) % 4096
        self.nbytes += nbytes
        os.pwrite(target.fd, os.pread(source.fd, nbytes, start), offset)


@pytest.mark.parametrize("threads", [1, 2])
def test_whole_blocks_are_shared_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    clones = Clones()
    monkeypatch.setattr(write_files, "clone_range", clones)
    with casckpt.init(tmp_path / "store", threads=threads) as store:
        data = commit_random(store, tmp_path, 40 * MIB + 4097)
        store.checkout_path("@", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert clones.nbytes == 40 * MIB


def test_encoded_chunks_are_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clones = Clones()
    monkeypatch.setattr(write_files, "clone_range", clones)
    with casckpt.init(tmp_path / "store") as store:
        (tmp_path / "file").write_bytes(b"compressible " * 100_000)
        store.commit_path(tmp_path / "file", compress="always")
        store.checkout_path("@", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "file").read_bytes()
    assert clones.nbytes == 0


def test_nothing_is_shared_of_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with casckpt.init(tmp_path / "store") as store:
        data = commit_random(store, tmp_path, 3 * MIB)
    (pack,) = (tmp_path / "store" / "packs").rglob("*.pack")
    bad = bytearray(pack.read_bytes())
    bad[bad.index(data[MIB : 2 * MIB]) + 5] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(bad)
    clones = Clones()
    monkeypatch.setattr(write_files, "clone_range", clones)
    with casckpt.open(tmp_path / "store") as store, pytest.raises(casckpt.errors.DamagedLeaf):
        store.checkout_path("@", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert clones.nbytes == 0


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EXDEV, errno.EIO])
def test_a_file_system_that_cannot_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    calls = []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(write_files, "clone_range", refuse)
    with casckpt.init(tmp_path / "store", threads=1) as store:
        data = commit_random(store, tmp_path, 10 * MIB)
        store.checkout_path("@", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert len(calls) == 1


def test_a_duplicate_outlives_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    file = LocalStorage(tmp_path).open_read("file")
    copy = duplicate(file)
    file.close()
    assert copy is not None and os.pread(copy.fd, 7, 0) == b"content"
    assert duplicate(file) is None
    memory = MemoryStorage()
    memory.make_root()
    memory.create("file").close()
    assert duplicate(memory.open_read("file")) is None


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that shares blocks, on a disk that is a file."""
    if MKFS is None or os.getuid() != 0:
        pytest.skip("needs root and mkfs.btrfs")
    image, folder = tmp_path / "disk", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(1 << 30)
    folder.mkdir()
    subprocess.run([MKFS, "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a file here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_checkout_takes_no_room_where_blocks_are_shared_and_is_ones_own(btrfs: Path) -> None:
    def free() -> int:
        os.sync()
        found = os.statvfs(btrfs)
        return found.f_bfree * found.f_frsize

    with casckpt.init(btrfs / "store", threads=2) as store:
        data = commit_random(store, btrfs, 100 * MIB + 5)
        before = free()
        store.checkout_path("@", btrfs / "out")
        assert before - free() < 2 * MIB
        assert (btrfs / "out").read_bytes() == data
        with (btrfs / "out").open("r+b") as file:
            file.seek(50 * MIB)
            file.write(bytes(5 * MIB))
        assert store.fsck("full").ok
        store.checkout_path("@", btrfs / "again")
        assert (btrfs / "again").read_bytes() == data
