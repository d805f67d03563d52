from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from casckpt.odb.staging import BlockWriter, Pool, Staging
from casckpt.storage.base import Buffer
from casckpt.storage.memory import MemoryStorage
from tests.unit.odb.support import content, noise

BLOCK = 4096


class Odd(BaseException):
    """Nothing that anybody expects of a file."""


class Disk:
    """A file whose write number `bad` (from 0) raises."""

    def __init__(self, bad: int | None = None, error: BaseException | None = None) -> None:
        self.storage = MemoryStorage()
        self.file = self.storage.create("file")
        self.offsets: list[int] = []
        self._bad = bad
        self._error = error

    def write_at(self, data: Buffer, offset: int) -> int:
        self.offsets.append(offset)
        if self._error is not None and len(self.offsets) - 1 == self._bad:
            raise self._error
        return self.file.write_at(data, offset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Buffers:
    """Blocks of noise, and which of them were released."""

    def __init__(self) -> None:
        self.released: list[int] = []

    def submit(self, writer: BlockWriter, number: int) -> None:
        writer.submit(memoryview(block(number)), number * BLOCK, self.release(number))

    def release(self, number: int) -> Callable[[], None]:
        return lambda: self.released.append(number)


def block(number: int) -> bytes:
    return noise(f"block {number}", BLOCK)


def submit_all(writer: BlockWriter, buffers: Buffers, count: int) -> int:
    """Submit blocks up to the first error; how many were."""
    for number in range(count):
        try:
            buffers.submit(writer, number)
        except BaseException:
            return number + 1
    return count


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_blocks_are_written_in_order_and_each_is_released_once_it_is() -> None:
    disk, buffers = Disk(), Buffers()
    writer = BlockWriter(disk)
    for number in range(20):
        buffers.submit(writer, number)
    writer.end()
    assert disk.offsets == [number * BLOCK for number in range(20)]
    assert buffers.released == list(range(20))
    assert content(disk.storage, "file") == b"".join(map(block, range(20)))


def test_nothing_is_released_before_it_is_written() -> None:
    disk, buffers = Disk(), Buffers()
    writer = BlockWriter(disk)
    may_write = threading.Event()
    inner = disk.write_at

    def write_at(data: Buffer, offset: int) -> int:
        assert may_write.wait(60)
        assert offset // BLOCK not in buffers.released
        return inner(data, offset)

    disk.write_at = write_at  # type: ignore[method-assign]
    for number in range(5):
        buffers.submit(writer, number)
    assert buffers.released == []
    may_write.set()
    writer.end()
    assert buffers.released == list(range(5))


def test_what_is_written_at_once_comes_after_what_was_submitted() -> None:
    disk, buffers = Disk(), Buffers()
    writer = BlockWriter(disk)
    buffers.submit(writer, 0)
    writer.write(memoryview(block(1)), BLOCK)
    assert content(disk.storage, "file") == block(0) + block(1)
    buffers.submit(writer, 2)  # the thread starts anew
    writer.end()
    assert disk.offsets == [0, BLOCK, 2 * BLOCK]


@pytest.mark.parametrize("bad", range(6))
@pytest.mark.parametrize("error", [Odd("odd"), KeyboardInterrupt(), MemoryError(), SystemExit(3)])
def test_whatever_a_write_raises_is_raised_by_the_next_call_and_nothing_is_written_any_more(
    error: BaseException, bad: int
) -> None:
    disk, buffers = Disk(bad, error), Buffers()
    writer = BlockWriter(disk)
    count = submit_all(writer, buffers, 6)
    for end in (writer.end, writer.end):
        with pytest.raises(type(error)) as raised:
            end()
        assert raised.value is error
    with pytest.raises(type(error)):
        buffers.submit(writer, count)
    writer.stop()
    assert disk.offsets == [number * BLOCK for number in range(bad + 1)]
    assert sorted(buffers.released) == list(range(count + 1))


@pytest.mark.parametrize("bad", range(6))
def test_a_writing_thread_without_the_memory_to_go_on_is_an_error_and_keeps_no_buffer(
    monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """What it had not written yet would be a hole in a pack that looks whole."""
    inner = BlockWriter._do

    def do(self: BlockWriter, given: Any) -> None:
        if given.offset == bad * BLOCK:
            raise MemoryError
        inner(self, given)

    monkeypatch.setattr(BlockWriter, "_do", do)
    disk, buffers = Disk(), Buffers()
    writer = BlockWriter(disk)
    count = submit_all(writer, buffers, 6)
    with pytest.raises(MemoryError):
        writer.end()
    assert disk.offsets == [number * BLOCK for number in range(bad)]
    assert sorted(buffers.released) == [number for number in range(count) if number != bad]


@pytest.mark.parametrize("bad", range(6))
def test_a_buffer_that_cannot_be_given_back_is_an_error(bad: int) -> None:
    disk = Disk()
    writer = BlockWriter(disk)

    def release() -> None:
        raise MemoryError

    def submit_some() -> None:
        for number in range(6):
            writer.submit(memoryview(block(number)), number * BLOCK, release if number == bad else None)
        writer.end()

    with pytest.raises(MemoryError):
        submit_some()
    writer.stop()
    assert disk.offsets[: bad + 1] == [number * BLOCK for number in range(bad + 1)]


def test_stopping_gives_up_what_is_not_written_and_releases_it() -> None:
    disk, buffers = Disk(), Buffers()
    writer = BlockWriter(disk)
    begun, may_write = threading.Event(), threading.Event()
    inner = disk.write_at

    def write_at(data: Buffer, offset: int) -> int:
        begun.set()
        assert may_write.wait(60)
        return inner(data, offset)

    disk.write_at = write_at  # type: ignore[method-assign]
    for number in range(5):
        buffers.submit(writer, number)
    assert begun.wait(60)
    stopping = threading.Thread(target=writer.stop)
    stopping.start()
    while not writer._stopped:
        pass
    may_write.set()
    stopping.join()
    assert disk.offsets == [0]
    assert buffers.released == list(range(5))
    buffers.submit(writer, 5)
    assert disk.offsets == [0]
    assert buffers.released[-1] == 5


def test_an_interrupt_while_the_thread_starts_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = threading.Thread.start
    started: list[threading.Thread] = []

    def start(self: threading.Thread) -> None:
        inner(self)
        started.append(self)
        raise KeyboardInterrupt

    disk, buffers = Disk(), Buffers()
    writer = BlockWriter(disk)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            buffers.submit(writer, 0)
    writer.stop()
    started[0].join(10)
    assert not started[0].is_alive()


def test_without_a_thread_the_caller_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    disk, buffers = Disk(2, Odd()), Buffers()
    writer = BlockWriter(disk)
    buffers.submit(writer, 0)
    buffers.submit(writer, 1)
    assert buffers.released == [0, 1]
    with pytest.raises(Odd):
        buffers.submit(writer, 2)
    assert buffers.released == [0, 1, 2]


def test_a_pool_hands_out_so_many_buffers_and_waits_for_one_to_come_back() -> None:
    pool = Pool(2, BLOCK)
    first, second = pool.take(), pool.try_take()
    assert second is not None
    assert pool.try_take() is None
    taken: list[Staging] = []
    waiting = threading.Thread(target=lambda: taken.append(pool.take()))
    waiting.start()
    first.release()
    waiting.join(60)
    assert taken == [first]
    second.release()
    assert pool.try_take() is second


def test_a_buffer_outlives_its_pool() -> None:
    pool = Pool(1, BLOCK)
    staging = pool.take()
    staging.view[:3] = b"abc"
    del pool
    staging.release()
    assert bytes(staging.view[:3]) == b"abc"
