from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from casckpt.errors import FileChanged
from casckpt.format.chunking import CHUNK, SMALL
from casckpt.ops import sources
from casckpt.ops.sources import FileSource
from casckpt.state.flat import Cut
from tests.support.build import noise

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def source(path: Path) -> FileSource:
    return FileSource(path, "out/file", path.lstat())


def cuts(path: Path) -> list[Cut]:
    return list(source(path).cuts())


def spans(path: Path) -> Iterator[tuple[int, Cut]]:
    """Start and cut of every chunk."""
    for before, cut in pairwise([Cut(0, "bytes", ends=False), *cuts(path)]):
        yield before.stop, cut


def chunk_ends(path: Path) -> list[int]:
    """The ends of all chunks, those in holes too."""
    ends = []
    for start, cut in spans(path):
        ends += range(start + CHUNK, cut.stop, CHUNK) if cut.is_zero else []
        ends.append(cut.stop)
    return ends


def test_a_large_tensor_is_cut_from_its_own_start_and_small_ones_are_not(path: Path) -> None:
    arrays = {
        "a": np.frombuffer(noise("a", 2 * MIB + 400), np.float32),
        "b": np.frombuffer(noise("b", 4000), np.float32),
        "c": np.frombuffer(noise("c", SMALL), np.float32),
        "d": np.frombuffer(noise("d", SMALL - 4), np.float32),
    }
    path.write_bytes(save(arrays))
    data = path.read_bytes()
    found = {data[start : cut.stop]: cut for start, cut in spans(path)}
    large = [arrays["a"].tobytes()[at : at + CHUNK] for at in range(0, 2 * MIB + 400, CHUNK)]
    for chunk in (*large, arrays["c"].tobytes()):
        assert found.pop(chunk).element == "float32"
    assert {cut.element for cut in found.values()} == {"bytes"}
    assert b"".join(found) == data.replace(arrays["a"].tobytes(), b"").replace(arrays["c"].tobytes(), b"")


def test_every_tensor_and_every_stretch_between_says_where_it_ends(path: Path) -> None:
    first, last = noise("first", 3 * MIB), noise("last", 2 * MIB)
    path.write_bytes(save({"a": np.frombuffer(first, np.uint8), "b": np.frombuffer(last, np.uint8)}))
    ends = [cut.stop for cut in cuts(path) if cut.ends]
    size = path.stat().st_size
    assert ends == [size - 5 * MIB, size - 2 * MIB, size]


def test_the_last_cut_is_the_end_of_the_file(path: Path) -> None:
    for size in (SMALL, CHUNK, CHUNK + 1, 5 * CHUNK + 17):
        path.write_bytes(noise("x", size))
        found = cuts(path)
        assert found[-1].stop == size
        assert found[-1].ends
        assert all(0 < cut.stop - start <= CHUNK for start, cut in spans(path))


def test_holes_are_cut_like_zeros_and_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("wb") as file:
        file.seek(40 * MIB + 12_345)
        file.write(noise("island", 3 * MIB))
        file.truncate(100 * MIB + 1)
    dense = path.with_name("dense")
    dense.write_bytes(path.read_bytes())
    assert chunk_ends(path) == chunk_ends(dense)
    data = path.read_bytes()
    holes = [(start, cut.stop) for start, cut in spans(path) if cut.is_zero]
    assert len(holes) == 2
    assert sum(stop - start for start, stop in holes) > 90 * MIB
    assert not any(any(data[start:stop]) or (stop - start) % CHUNK for start, stop in holes)
    read = 0
    preadv = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        read += sum(map(len, buffers))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    cuts(path)
    assert read < 20 * MIB


def test_a_tensor_in_a_hole_is_not_read(path: Path) -> None:
    header = save({"w": np.zeros(8, np.uint8)})[:-8].replace(b"[8]", f"[{64 * MIB}]".encode())
    text = header[8:].rstrip(b" ").replace(b"[0,8]", f"[0,{64 * MIB}]".encode())
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    start = path.stat().st_size
    os.truncate(path, start + 64 * MIB)
    found = cuts(path)
    # The first page of the tensor shares its block with the header.
    assert found == [
        Cut(start, "bytes", ends=True),
        Cut(start + MIB, "uint8", ends=False),
        Cut(start + 64 * MIB, "uint8", ends=True, is_zero=True),
    ]
    assert chunk_ends(path) == [start, *range(start + MIB, start + 64 * MIB + 1, MIB)]


def test_a_file_that_takes_its_whole_room_is_not_asked_for_holes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(noise("dense", 3 * MIB))
    monkeypatch.setattr(os, "lseek", None)
    assert cuts(path)[-1].stop == 3 * MIB


@pytest.mark.parametrize("seek_data", [None, -1])
def test_where_holes_cannot_be_asked_for_everything_is_data(
    path: Path, monkeypatch: pytest.MonkeyPatch, seek_data: int | None
) -> None:
    with path.open("wb") as file:
        file.truncate(3 * MIB)
    monkeypatch.setattr(sources, "_SEEK_DATA", seek_data)
    assert [(cut.stop, cut.is_zero) for cut in cuts(path)] == [(MIB, False), (2 * MIB, False), (3 * MIB, False)]


def test_a_file_that_grows_shrinks_or_is_replaced_is_noticed(path: Path) -> None:
    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    def shrink() -> None:
        os.truncate(path, 100)

    def replace() -> None:
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        other.replace(path)

    def fill_a_hole() -> None:
        with path.open("r+b") as file:
            file.seek(5 * MIB)
            file.write(b"x")
        os.utime(path, ns=(1, 1))

    for change in (grow, shrink, replace, fill_a_hole):
        path.unlink(missing_ok=True)
        path.write_bytes(noise("data", MIB))
        os.truncate(path, 12 * MIB)
        made = source(path)
        change()
        with pytest.raises(FileChanged, match="out/file"):
            list(made.cuts())
        with pytest.raises(FileChanged):
            made.read(0, 10)


def test_a_hole_that_is_filled_after_it_was_passed_is_noticed(path: Path) -> None:
    os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 12 * MIB)
    found = source(path).cuts()
    assert next(found).is_zero
    with path.open("r+b") as file:
        file.write(b"x")
    with pytest.raises(FileChanged):
        list(found)


def test_a_pipe_in_place_of_the_file_makes_nobody_wait(path: Path) -> None:
    path.write_bytes(bytes(SMALL))
    made = source(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileChanged):
        made.read(0, 10)
    with pytest.raises(FileChanged):
        list(made.cuts())


def test_no_descriptor_stays_open(path: Path) -> None:
    path.write_bytes(noise("data", 3 * MIB))
    made = source(path)
    before = len(os.listdir("/proc/self/fd"))
    half_way = made.cuts()
    next(half_way)
    half_way.close()
    list(made.cuts())
    made.read(0, MIB)
    assert len(os.listdir("/proc/self/fd")) == before
