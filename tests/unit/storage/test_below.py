"""Nothing that is in a folder, or comes into it, leads a write out of it."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import UnsafePath
from casckpt.storage import below
from casckpt.storage.below import Below
from casckpt.storage.libc import is_zero


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "top").mkdir()
    (tmp_path / "outside").mkdir()
    fd = os.open(tmp_path / "top", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_link_on_the_way_is_never_followed(top: int, tmp_path: Path) -> None:
    (tmp_path / "top" / "a").symlink_to(tmp_path / "outside")
    (tmp_path / "top" / "real").mkdir()
    (tmp_path / "top" / "real" / "b").symlink_to("..")
    with Below(top) as folder:
        for names in ((b"a", b"x"), (b"real", b"b", b"x"), (b"a", b"deep", b"x")):
            for make in (
                lambda names=names: folder.create(names, executable=False),
                lambda names=names: folder.make_folder(names),
                lambda names=names: folder.link(names, b"target"),
            ):
                with pytest.raises(OSError):
                    make()
    assert os.listdir(tmp_path / "outside") == []
    assert sorted(os.listdir(tmp_path / "top")) == ["a", "real"]


def test_a_folder_that_somebody_swaps_for_a_link_is_written_to_where_it_went(top: int, tmp_path: Path) -> None:
    with Below(top) as folder:
        folder.make_folder((b"a",))
        folder.make_folder((b"a", b"b"))
        (tmp_path / "top" / "a").rename(tmp_path / "top" / "moved")
        (tmp_path / "top" / "a").symlink_to(tmp_path / "outside")
        folder.create((b"a", b"b", b"x"), executable=False).close()
    assert (tmp_path / "top" / "moved" / "b" / "x").is_file()
    with Below(top) as folder, pytest.raises(NotADirectoryError):
        folder.create((b"a", b"x"), executable=False)
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("there", ["file", "link", "dangling", "folder"])
def test_what_is_there_is_never_opened(top: int, tmp_path: Path, there: str) -> None:
    name, outside = tmp_path / "top" / "x", tmp_path / "outside" / "x"
    outside.write_bytes(b"precious")
    if there == "folder":
        name.mkdir()
    elif there == "file":
        name.write_bytes(b"precious")
    else:
        name.symlink_to(outside if there == "link" else tmp_path / "outside" / "new")
    with Below(top) as folder:
        with pytest.raises(FileExistsError):
            folder.create((b"x",), executable=False)
        with pytest.raises(FileExistsError):
            folder.make_folder((b"x",))
        with pytest.raises(FileExistsError):
            folder.link((b"x",), b"target")
    assert outside.read_bytes() == b"precious" and os.listdir(tmp_path / "outside") == ["x"]


def test_few_folders_are_open_at_once(top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(below, "_OPEN_MAX", 3)
    before = len(os.listdir("/proc/self/fd"))
    with Below(top) as folder:
        deep = tuple(f"{number}".encode() for number in range(60))
        for end in range(1, 61):
            folder.make_folder(deep[:end])
        for end in (1, 60, 30, 59):
            folder.create((*deep[:end], b"file"), executable=end == 30).close()
            assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.access(os.fsdecode(b"/".join((f"/proc/self/fd/{top}".encode(), *deep[:30], b"file"))), os.X_OK)


@pytest.mark.parametrize("size", [0, 1, 2, 4096, 100_001])
def test_zeros_are_told_from_all_else(size: int) -> None:
    memory = memoryview(bytearray(size))
    assert is_zero(memory)
    for at in {0, 1, size // 2, size - 1} & set(range(size)):
        memory[at] = 1
        assert not is_zero(memory)
        memory[at] = 0


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes names for equal that differ in case or normal form."""
    taken: set[tuple[int, str]] = set()

    def as_there(inner: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def make(parent: int, name: bytes) -> int:
            key = os.fstat(parent).st_ino, unicodedata.normalize("NFC", os.fsdecode(name).casefold())
            if key in taken:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            taken.add(key)
            return inner(parent, name)

        return make

    monkeypatch.setattr(below, "new_file", as_there(below.new_file))
    monkeypatch.setattr(below, "new_folder", as_there(below.new_folder))


COLLISIONS = [("Model", "model"), ("caf\u00e9", "cafe\u0301"), ("a/x", "A/x"), ("A/x", "a")]


def commit_names(folder: Path, names: tuple[str, str]) -> casckpt.Store:
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_text(name)
    store = casckpt.init(folder / "store")
    store.commit_path(folder / "in")
    return store


@pytest.mark.parametrize("names", COLLISIONS)
def test_names_that_differ_are_kept_where_the_file_system_can(tmp_path: Path, names: tuple[str, str]) -> None:
    with commit_names(tmp_path, names) as store:
        store.checkout_path("@", tmp_path / "out")
    assert {(tmp_path / "out" / "in" / name).read_text() for name in names} == set(names)


@pytest.mark.parametrize("names", COLLISIONS)
@pytest.mark.usefixtures("folding")
def test_names_that_the_file_system_takes_for_one_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    refused = pytest.raises(UnsafePath, match="takes its name for that of another")
    with commit_names(tmp_path, names) as store, refused:
        store.checkout_path("@", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in", "store"]
