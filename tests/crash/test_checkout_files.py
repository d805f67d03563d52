"""A checkout of files that is killed, fails or is interrupted leaves the whole old or the whole new, and no rest."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import StorageError
from tests.crash.checkouts import SCENES, Scene, check_out, count_calls, hooked, leftovers, make_store, read, write
from tests.crash.folders import ram_folder, start_python

KILLS = "import sys; from tests.crash.checkouts import kill_at_every_call; kill_at_every_call(*sys.argv[1:])"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with ram_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def store(place: Path) -> Iterator[casckpt.Store]:
    with make_store(place, threads=1) as made:
        yield made


@pytest.fixture
def folder(place: Path, store: casckpt.Store) -> Path:
    return place / "out"


scenes = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())


@pytest.mark.parametrize("name", SCENES)
def test_a_checkout_killed_at_any_call_leaves_the_whole_old_or_the_whole_new(name: str) -> None:
    with ram_folder() as folder:
        process = start_python(KILLS, folder, name)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert int(output) >= 8


def raising(at: int, error: OSError, *, lasting: bool = False) -> Callable[..., Any]:
    """A hook that lets one call fail, or that one and all that follow."""

    def hook(number: int, _name: str, make: Callable[[], Any], _arguments: tuple[Any, ...]) -> Any:
        if number == at or (lasting and number > at):
            raise error
        return make()

    return hook


@scenes
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_any_call_leaves_the_old_target_and_nothing_else(
    store: casckpt.Store, folder: Path, scene: Scene, code: int
) -> None:
    failed = 0
    for at in range(len(count_calls(store, scene, folder))):
        write(folder / "target", scene.before)
        error = OSError(code, os.strerror(code))
        report, caught = None, None
        with hooked(raising(at, error), swaps=scene.swaps) as made:
            try:
                report = check_out(store, scene, folder)
            except StorageError as raised:
                caught = raised
        now, left = read(folder / "target"), [str(folder / name) for name in leftovers(folder)]
        if report is not None:  # the new was in its place, and the old could not be removed
            assert now == scene.new
            assert left == ([] if report.leftover is None else [report.leftover]), made[at]
        else:
            failed += 1
            assert caught is not None and caught.errno == code
            # An empty folder that was replaced is not made again if the flush after it fails.
            assert now == scene.before or (now is None and scene.before == {} and made[at] == "fsync"), made[at]
            assert not left, made[at]
        for path in left:
            write(Path(path), None)
    assert failed >= 6


@scenes
def test_a_disk_that_fails_for_good_never_leaves_a_mix(store: casckpt.Store, folder: Path, scene: Scene) -> None:
    for at in range(len(count_calls(store, scene, folder))):
        write(folder / "target", scene.before)
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        with suppress(StorageError), hooked(raising(at, error, lasting=True), swaps=scene.swaps):
            check_out(store, scene, folder)
        now, left = read(folder / "target"), leftovers(folder)
        # What is not in its place is beside it, but for an empty folder, of which nothing can be lost.
        displaced = now is None and (scene.before == {} or (not scene.swaps and scene.before in left.values()))
        assert now in (scene.before, scene.new) or displaced
        for name in left:
            write(folder / name, None)


@scenes
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_at_any_call_leaves_the_whole_old_or_new_and_nothing_else(
    store: casckpt.Store, folder: Path, scene: Scene, after: bool
) -> None:
    def hook(number: int, _name: str, make: Callable[[], Any], _arguments: tuple[Any, ...]) -> Any:
        if number == at and not after:
            signal.raise_signal(signal.SIGINT)
        try:
            return make()
        finally:
            if number == at and after:
                signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for at in range(len(count_calls(store, scene, folder))):
            write(folder / "target", scene.before)
            with hooked(hook, swaps=scene.swaps) as made, pytest.raises(KeyboardInterrupt):
                check_out(store, scene, folder)
            assert read(folder / "target") in (scene.before, scene.new), made[at]
            assert not leftovers(folder), made[at]
    finally:
        signal.signal(signal.SIGINT, handler)


def test_an_interrupted_worker_pool_leaves_no_thread_and_no_file() -> None:
    from tests.crash import checkouts

    data = os.urandom(1 << 20) * 40
    with ram_folder() as folder:
        (folder / "in").write_bytes(data)
        (folder / "out").mkdir()
        with casckpt.init(folder / "store", threads=3) as store:
            store.commit_path(folder / "in", compress="off")

            def progress(_done: int, _total: int) -> None:
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                store.checkout_path("@", folder / "out" / "target", progress=progress)
            assert not os.listdir(folder / "out")
            assert not [thread for thread in threading.enumerate() if thread.name == "casckpt-writer"]
            store.checkout_path("@", folder / "out" / "target")
            assert checkouts.read(folder / "out" / "target") == data


def test_a_file_that_comes_meanwhile_is_never_overwritten(store: casckpt.Store, folder: Path) -> None:
    for name in ("file, absent", "file, absent, no swap", "folder, absent"):
        scene = SCENES[name]
        calls = count_calls(store, scene, folder)
        for at in range(len(calls) - 1):
            if calls[at:].count("renameat2") + calls[at:].count("rename") == 0:
                break

            def hook(
                number: int, _name: str, make: Callable[[], Any], _arguments: tuple[Any, ...], at: int = at
            ) -> Any:
                if number == at:
                    with open(folder / "target", "wb") as file:
                        file.write(b"somebody else's")
                return make()

            write(folder / "target", None)
            with hooked(hook, swaps=scene.swaps), pytest.raises(casckpt.errors.TargetExists):
                check_out(store, scene, folder)
            assert read(folder / "target") == b"somebody else's" and not leftovers(folder)
    write(folder / "target", None)
