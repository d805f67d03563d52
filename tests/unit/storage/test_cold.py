"""Large reads: from the page cache what it holds, past it what it does not, and buffered wherever that fails."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from casckpt.errors import StorageError
from casckpt.storage import cold
from casckpt.storage.libc import PROT_NONE, map_memory, page_is_resident, unmap_memory
from casckpt.storage.local import LocalStorage
from casckpt.storage.pages import pages
from casckpt.storage.posix import PosixReadFile

MIB = 1 << 20
CONTENT = random.Random(3).randbytes(12 * MIB + 100)


def resident_pages(path: Path) -> int:
    """How many pages of a file the page cache holds."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        address = map_memory(None, size, PROT_NONE, mmap.MAP_SHARED, file.fileno(), 0)
    count = sum(page_is_resident(address + at) for at in range(0, size, mmap.PAGESIZE))
    unmap_memory(address, size)
    return count


def forget(path: Path) -> None:
    """Empty the page cache of a file."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[PosixReadFile]:
    reader = LocalStorage(path.parent).open_read("a")
    yield reader
    reader.close()


@pytest.fixture
def cold_path(path: Path) -> Path:
    """The file, out of the page cache and on a file system that can read past it."""
    forget(path)
    if resident_pages(path):
        pytest.skip("this file system is memory")
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    return path


class Preads:
    """`os.preadv`, writing down what it is asked for and failing for descriptors other than `good`."""

    def __init__(self, good: int, code: int = 0) -> None:
        self.calls: list[tuple[bool, int, int]] = []
        self._good = good
        self._code = code
        self._real = os.preadv

    def __call__(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        self.calls.append((fd == self._good, len(buffers[0]), offset))
        if fd != self._good and self._code:
            raise OSError(self._code, os.strerror(self._code))
        return self._real(fd, buffers, offset)


def test_a_cold_file_is_read_past_the_page_cache(cold_path: Path, reader: PosixReadFile) -> None:
    target = memoryview(pages(12 * MIB))
    assert reader.read_into(target, 0) == 12 * MIB
    assert target == CONTENT[: 12 * MIB]
    assert resident_pages(cold_path) == 0


def test_the_end_of_a_cold_file_is_read_whole(cold_path: Path, reader: PosixReadFile) -> None:
    target = memoryview(pages(5 * MIB))
    assert reader.read_into(target, 8 * MIB) == 4 * MIB + 100
    assert target[: 4 * MIB + 100] == CONTENT[8 * MIB :]
    assert reader.read_into(target, 13 * MIB) == 0


def test_a_length_that_is_no_multiple_of_blocks_costs_one_buffered_read(
    cold_path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Preads(reader.fileno())
    monkeypatch.setattr(os, "preadv", calls)
    target = memoryview(pages(2 * MIB))[: MIB + 5]
    assert reader.read_into(target, 4096) == MIB + 5
    assert target == CONTENT[4096 : 4096 + MIB + 5]
    assert calls.calls == [(False, MIB, 4096), (True, 5, 4096 + MIB)]


def test_a_warm_file_is_read_by_one_call_for_each_step(
    path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert path.read_bytes() == CONTENT
    calls = Preads(reader.fileno())
    monkeypatch.setattr(os, "preadv", calls)
    target = memoryview(pages(12 * MIB))
    assert reader.read_into(target, 0) == 12 * MIB
    assert target == CONTENT[: 12 * MIB]
    assert calls.calls == [(True, 8 * MIB, 0), (True, 4 * MIB, 8 * MIB)]


def test_each_step_is_read_where_it_is(cold_path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(cold_path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        os.pread(file.fileno(), 8 * MIB, 0)
    calls = Preads(reader.fileno())
    monkeypatch.setattr(os, "preadv", calls)
    target = memoryview(pages(12 * MIB))
    assert reader.read_into(target, 0) == 12 * MIB
    assert target == CONTENT[: 12 * MIB]
    assert calls.calls == [(True, 8 * MIB, 0), (False, 4 * MIB, 8 * MIB)]


@pytest.mark.parametrize("length", [4096, 128 << 10])
def test_small_reads_are_left_to_the_page_cache(path: Path, reader: PosixReadFile, length: int) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    target = memoryview(pages(length))
    assert reader.read_into(target, 0) == length
    assert target == CONTENT[:length]
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_refused_direct_read_is_done_buffered_and_not_tried_again(
    cold_path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls = Preads(reader.fileno(), code)
    monkeypatch.setattr(os, "preadv", calls)
    target = memoryview(pages(MIB))
    for offset in (0, 10 * MIB):
        assert reader.read_into(target, offset) == MIB
        assert target == CONTENT[offset : offset + MIB]
    assert [good for good, _, _ in calls.calls] == [False, True, True]


def test_a_disk_error_is_no_reason_to_try_another_way(
    cold_path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", Preads(reader.fileno(), errno.EIO))
    with pytest.raises(StorageError) as caught:
        reader.read_into(memoryview(pages(MIB)), 0)
    assert caught.value.errno == errno.EIO


def test_without_a_second_descriptor_all_is_read_buffered(
    path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(path)
    asked: list[str] = []

    def refuse(name: str, flags: int, mode: int = 0o777) -> int:
        asked.append(name)
        raise FileNotFoundError(errno.ENOENT, "no /proc here", name)

    calls = Preads(reader.fileno())
    monkeypatch.setattr(os, "preadv", calls)
    monkeypatch.setattr(os, "open", refuse)
    target = memoryview(pages(MIB))
    for offset in (0, MIB):
        assert reader.read_into(target, offset) == MIB
        assert target == CONTENT[offset : offset + MIB]
    assert [good for good, _, _ in calls.calls] == [True, True]
    assert len(asked) == 1


def test_a_system_without_direct_reads_is_not_asked(
    path: Path, reader: PosixReadFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "_O_DIRECT", 0)
    before = sorted(os.listdir("/proc/self/fd"))
    target = memoryview(pages(MIB))
    assert reader.read_into(target, 0) == MIB
    assert target == CONTENT[:MIB]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_closing_gives_everything_back(path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    reader = LocalStorage(path.parent).open_read("a")
    reader.read_into(memoryview(pages(MIB)), 0)
    reader.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert str(path) not in Path("/proc/self/maps").read_text()
    reader.close()
