"""Pieces of files as one range of memory."""

from __future__ import annotations

import errno
import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from casckpt.storage import mapping as module
from casckpt.storage.libc import MAP_FIXED, address_of, map_memory
from casckpt.storage.local import LocalStorage
from casckpt.storage.mapping import Mapping, can_map
from casckpt.storage.posix import PosixReadFile

PAGE = 4096
A = random.Random(1).randbytes(16 * PAGE + 100)
B = random.Random(2).randbytes(8 * PAGE)

pytestmark = pytest.mark.skipif(
    not can_map() or module.mmap.PAGESIZE != PAGE, reason="places are laid out for pages of 4 KiB"
)


@pytest.fixture
def a(tmp_path: Path) -> Iterator[PosixReadFile]:
    (tmp_path / "a").write_bytes(A)
    file = LocalStorage(tmp_path).open_read("a")
    yield file
    file.close()


@pytest.fixture
def b(tmp_path: Path) -> Iterator[PosixReadFile]:
    (tmp_path / "b").write_bytes(B)
    file = LocalStorage(tmp_path).open_read("b")
    yield file
    file.close()


def mapped_ranges(path: Path) -> list[int]:
    """Lengths of the ranges in which this process has a file mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ends = [line[0].split("-") for line in lines if len(line) > 5 and line[5] == str(path)]
    return [int(end, 16) - int(start, 16) for start, end in ends]


def test_a_mapping_begins_as_zeros_that_can_be_written() -> None:
    mapping = Mapping(3 * PAGE)
    memory = mapping.memory
    assert (memory.nbytes, memory.format, memory.readonly, mapping.pieces) == (3 * PAGE, "B", False, 0)
    assert memory == bytes(3 * PAGE)
    memory[PAGE : PAGE + 3] = b"abc"
    assert mapping.memory[PAGE : PAGE + 4] == b"abc\0"


def test_a_range_larger_than_the_machine_costs_nothing() -> None:
    mapping = Mapping(1 << 42)
    mapping.memory[-1] = 1
    assert mapping.memory[(1 << 42) - 2 :] == b"\0\1"


def test_pieces_of_several_files_lie_side_by_side(a: PosixReadFile, b: PosixReadFile) -> None:
    mapping = Mapping(7 * PAGE)
    assert b.map_into(mapping, 2 * PAGE, 2 * PAGE, 0)
    assert a.map_into(mapping, 5 * PAGE, PAGE, 2 * PAGE)
    assert a.map_into(mapping, 0, 2 * PAGE, 5 * PAGE)
    expected = B[2 * PAGE : 4 * PAGE] + A[5 * PAGE : 6 * PAGE] + bytes(2 * PAGE) + A[: 2 * PAGE]
    assert mapping.memory == expected
    assert mapping.pieces == 3


def test_pieces_that_follow_each_other_are_one_mapping(a: PosixReadFile, tmp_path: Path) -> None:
    mapping = Mapping(8 * PAGE)
    for at in range(0, 8 * PAGE, 2 * PAGE):
        assert a.map_into(mapping, 4 * PAGE + at, 2 * PAGE, at)
    assert mapped_ranges(tmp_path / "a") == [8 * PAGE]
    assert mapping.pieces == 1
    assert mapping.memory == A[4 * PAGE : 12 * PAGE]


def test_a_memory_may_end_inside_a_page(a: PosixReadFile) -> None:
    mapping = Mapping(2 * PAGE + 100)
    assert a.map_into(mapping, 14 * PAGE, 2 * PAGE + 100, 0)
    assert mapping.memory == A[14 * PAGE :]


def test_writing_never_reaches_the_file(a: PosixReadFile, tmp_path: Path) -> None:
    mapping = Mapping(4 * PAGE)
    assert a.map_into(mapping, 0, 4 * PAGE, 0)
    mapping.memory[:] = bytes(4 * PAGE)
    again = Mapping(4 * PAGE)
    assert a.map_into(again, 0, 4 * PAGE, 0)
    assert mapping.memory == bytes(4 * PAGE)
    assert again.memory == A[: 4 * PAGE]
    assert (tmp_path / "a").read_bytes() == A


def test_a_mapping_outlives_the_file_and_its_name(a: PosixReadFile, tmp_path: Path) -> None:
    mapping = Mapping(4 * PAGE)
    assert a.map_into(mapping, 0, 4 * PAGE, 0)
    a.close()
    os.unlink(tmp_path / "a")
    assert mapping.memory == A[: 4 * PAGE]


@pytest.mark.parametrize("keep", ["view", "numpy", "torch"])
def test_memory_lives_as_long_as_its_last_user(a: PosixReadFile, tmp_path: Path, keep: str) -> None:
    mapping = Mapping(4 * PAGE)
    assert a.map_into(mapping, 0, 4 * PAGE, 0)
    makers = {
        "view": lambda memory: memory[PAGE:],
        "numpy": lambda memory: np.frombuffer(memory, np.uint8)[PAGE:],
        "torch": lambda memory: torch.frombuffer(memory, dtype=torch.uint8)[PAGE:],
    }
    user = makers[keep](mapping.memory)
    del mapping
    gc.collect()
    assert mapped_ranges(tmp_path / "a") == [4 * PAGE]
    assert bytes(user) == A[PAGE : 4 * PAGE]
    user[0] = 0
    del user
    gc.collect()
    assert mapped_ranges(tmp_path / "a") == []


def test_nothing_beyond_the_end_of_the_file_is_laid(a: PosixReadFile) -> None:
    mapping = Mapping(4 * PAGE)
    mapping.memory[0] = 7
    assert not a.map_into(mapping, 14 * PAGE, 3 * PAGE, 0)
    assert not a.map_into(mapping, 32 * PAGE, PAGE, 0)
    assert not a.map_into(mapping, -PAGE, PAGE, 0)
    assert mapping.memory == b"\7" + bytes(4 * PAGE - 1)
    assert mapping.pieces == 0


def test_what_is_not_on_page_boundaries_is_not_laid(a: PosixReadFile) -> None:
    mapping = Mapping(4 * PAGE)
    for offset, nbytes, at in ((64, PAGE, 0), (0, PAGE, 64), (0, PAGE + 64, 0)):
        assert not a.map_into(mapping, offset, nbytes, at)
    assert mapping.memory == bytes(4 * PAGE)


def test_a_piece_outside_the_memory_is_a_mistake(a: PosixReadFile) -> None:
    mapping = Mapping(4 * PAGE)
    for nbytes, at in ((5 * PAGE, 0), (PAGE, 4 * PAGE), (PAGE, -PAGE), (0, 0)):
        with pytest.raises(ValueError, match="no piece of a mapping"):
            a.map_into(mapping, 0, nbytes, at)


def test_a_mapping_takes_so_many_pieces_and_not_more(a: PosixReadFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECES_MAX", 2)
    mapping = Mapping(8 * PAGE)
    assert a.map_into(mapping, 0, PAGE, 0)
    assert a.map_into(mapping, 2 * PAGE, PAGE, PAGE)
    assert a.map_into(mapping, 3 * PAGE, PAGE, 2 * PAGE)
    assert not a.map_into(mapping, 8 * PAGE, PAGE, 3 * PAGE)
    assert mapping.memory == A[:PAGE] + A[2 * PAGE : 4 * PAGE] + bytes(5 * PAGE)


def test_all_mappings_together_leave_the_process_its_own(a: PosixReadFile, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(module, "_PIECES_OF_ALL", 2)
    first, second = Mapping(2 * PAGE), Mapping(2 * PAGE)
    assert a.map_into(first, 0, PAGE, 0)
    assert a.map_into(first, 4 * PAGE, PAGE, PAGE)
    assert not a.map_into(second, 0, PAGE, 0)
    del first
    gc.collect()
    assert a.map_into(second, 0, PAGE, 0)
    assert second.memory == A[:PAGE] + bytes(PAGE)


def test_a_refused_piece_leaves_memory_to_read_into(a: PosixReadFile, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the kernel did before 6.13: the pages that were there are gone when the call fails.
    def fail_once(address: int, nbytes: int, protection: int, flags: int, fd: int, offset: int) -> int:
        if fd >= 0:
            map_memory(address, nbytes, 0, module.mmap.MAP_PRIVATE | module.mmap.MAP_ANONYMOUS | MAP_FIXED, -1, 0)
            raise OSError(errno.ENOMEM, "no")
        return map_memory(address, nbytes, protection, flags, fd, offset)

    mapping = Mapping(3 * PAGE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "map_memory", fail_once)
        assert not a.map_into(mapping, 0, PAGE, PAGE)
    assert mapping.memory == bytes(3 * PAGE)
    assert a.read_into(mapping.memory[PAGE : 2 * PAGE], 0) == PAGE
    assert mapping.memory == bytes(PAGE) + A[:PAGE] + bytes(PAGE)


def test_where_nothing_can_be_mapped_there_is_memory_to_fill(a: PosixReadFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USABLE", False)
    assert not can_map()
    mapping = Mapping(2 * PAGE)
    assert not a.map_into(mapping, 0, PAGE, 0)
    assert a.read_into(mapping.memory[:PAGE], 0) == PAGE
    assert mapping.memory == A[:PAGE] + bytes(PAGE)


def test_address_and_memory_agree() -> None:
    memory = Mapping(2 * PAGE).memory
    assert address_of(memory) % PAGE == 0
    assert address_of(memory[5:]) - address_of(memory) == 5
