"""Memory for staging and checkouts: private, zeroed, on page boundaries."""

from __future__ import annotations

import mmap

import pytest

from casckpt.storage.libc import address_of
from casckpt.storage.pages import pages


@pytest.mark.parametrize("nbytes", [1, 4096, 5000, 3 << 20])
def test_pages_are_zeroed_and_aligned(nbytes: int) -> None:
    memory = memoryview(pages(nbytes))
    assert memory == bytes(nbytes)
    assert address_of(memory) % mmap.PAGESIZE == 0
    memory[-1] = 7
    assert memory[nbytes - 1] == 7


@pytest.mark.parametrize("nbytes", [4096, 8 << 20])
def test_pages_belong_to_this_process_alone(nbytes: int) -> None:
    memory = pages(nbytes)
    address = address_of(memoryview(memory))
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file]
    ranges = [(*(int(end, 16) for end in line[0].split("-")), line[1]) for line in lines]
    assert [protection for start, end, protection in ranges if start <= address < end] == ["rw-p"]
