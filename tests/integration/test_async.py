"""Commits in the background, in whole processes: what is stored, what a fork sees, what the end of a program keeps."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.errors import CommitElsewhere

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
# Python 3.12 and later warn of every fork of a process with threads; that it works is what is tested.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    casckpt.init(tmp_path / "store").close()
    return tmp_path / "store"


def fill(state: dict[str, Any], step: int) -> None:
    """Overwrite a whole state in place, as an optimizer does."""
    for number, tensor in enumerate(state["model"].values()):
        tensor.fill_(1000 * step + number)
    state["buffer"][:] = bytes([step]) * len(state["buffer"])
    state["history"].append(float(step))
    state["step"] = step


def assert_is_filled(found: dict[str, Any], step: int) -> None:
    for number, tensor in enumerate(found["model"].values()):
        assert torch.equal(tensor, torch.full_like(tensor, 1000 * step + number))
    assert found["buffer"] == bytes([step]) * 4000
    assert found["history"] == [float(number) for number in range(step + 1)]
    assert found["step"] == step


@pytest.mark.parametrize("when_busy", ["wait", "coalesce"])
def test_no_commit_mixes_two_steps(path: Path, when_busy: Any) -> None:
    sizes = [*[600_000] * 6, *[1000] * 30, 3]
    tied = torch.zeros(5000)
    model = {f"w{number}": torch.zeros(size) for number, size in enumerate(sizes)}
    state: dict[str, Any] = {"model": model, "buffer": bytearray(4000), "history": [], "step": 0}
    with casckpt.open(path) as store:
        pending = []
        for step in range(50):
            fill(state, step)
            tied.fill_(step)
            pending.append(
                store.commit({**state, "ema": [tied, tied[100:]]}, step=step, wait=False, when_busy=when_busy)
            )
        store.wait()
        made = [info for info in (one.result() for one in pending) if info is not None]
        assert len(made) == sum(not one.skipped for one in pending)
        assert made[-1].step == 49 and (when_busy == "coalesce" or len(made) == 50)
        assert [info.id for info in store.log("main")] == [info.id for info in reversed(made)]
        for info in made:
            found = store.checkout(info.id)
            assert info.step is not None
            whole, part = found.pop("ema")
            assert torch.equal(whole, torch.full((5000,), float(info.step)))
            assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
            assert_is_filled(found, info.step)


def test_the_same_state_has_the_same_tree_in_the_background(path: Path) -> None:
    state: dict[str, Any] = {"model": {"a": torch.rand(700_000), "b": torch.rand(40, 50).T}, "x": np.arange(9)[::2]}
    with casckpt.open(path) as store:
        pending = store.commit(state, wait=False)
        info = pending.result()
        assert info is not None
        again = store.commit(state)
        assert again.tree == info.tree
        assert again.nbytes == info.nbytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the figure is in /proc")
def test_the_staging_memory_is_used_again(path: Path) -> None:
    state = {"model": {str(number): torch.rand(MIB) for number in range(16)}}
    levels = []
    with casckpt.open(path) as store:
        for step in range(20):
            state["model"]["0"][0] = step
            store.commit(state, wait=False).result()
            levels.append(anonymous_bytes())
        assert max(levels[4:]) - levels[3] < 24 * MIB
        before = anonymous_bytes()
    gc.collect()
    assert before - anonymous_bytes() > 48 * MIB


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def in_child(run: Callable[[], None]) -> None:
    """Run something in a forked child, without tensors: the threads of torch do not survive a fork."""
    child = os.fork()
    if not child:
        code = 1
        signal.alarm(60)  # ends it where it hangs
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


class Held:
    """A state whose commit in the background does not end before `release`: a lock of the store is held."""

    def __init__(self, store: casckpt.Store) -> None:
        self._lock = store._repository.storage.lock("journal", exclusive=True, wait_s=60)

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(None, None, None)


@forks
def test_a_forked_child_has_no_pending_work(path: Path) -> None:
    with casckpt.open(path) as store:
        done = store.commit({"w": np.zeros(100_000)}, step=1, wait=False)
        done.result()
        with Held(store):
            pending = store.commit({"w": np.ones(100_000)}, step=2, wait=False)

            def child() -> None:
                store.wait()
                with pytest.raises(CommitElsewhere):
                    pending.result()
                with pytest.raises(CommitElsewhere):
                    pending.exception(timeout_s=0)
                assert not pending.done()
                info = done.result()
                assert info is not None and info.step == 1

            in_child(child)
            assert not pending.done()
        info = pending.result()
        assert info is not None and info.step == 2
        assert np.array_equal(store.checkout()["w"], np.ones(100_000))


@forks
def test_a_forked_child_commits_in_its_own_background(path: Path) -> None:
    with casckpt.open(path) as store:
        store.commit({"w": np.zeros(100_000)}, run="parent", step=1, wait=False)

        def child() -> None:
            child_commit = store.commit({"w": np.ones(100_000)}, run="child", step=5, wait=False)
            info = child_commit.result(60)
            assert info is not None
            store.close()

        in_child(child)
        assert store.commit({"w": np.zeros(100_000)}, run="parent", step=2).step == 2
        assert [info.step for info in store.log("parent")] == [2, 1]
        assert np.array_equal(store.checkout("child")["w"], np.ones(100_000))


@forks
def test_a_fork_while_another_thread_commits_leaves_no_lock_behind(path: Path) -> None:
    with casckpt.open(path) as store:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                store.commit({"w": np.zeros(10_000)}, run="parent", wait=False, when_busy="coalesce")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(5):
                in_child(store.wait)
        finally:
            stop.set()
            thread.join()


@forks
def test_a_failure_of_the_parent_is_not_one_of_the_child(path: Path) -> None:
    store = casckpt.open(path)
    failed = store.commit({}, parents=("nowhere",), wait=False)
    failed._outcome.wait(60)
    in_child(store.wait)
    with pytest.raises(casckpt.errors.RevisionNotFound):
        store.wait()
    store.close()


SCRIPT = """
import sys, torch, casckpt
store = casckpt.open(sys.argv[1])
store.commit({"w": torch.full((3_000_000,), 1.0)}, step=1, wait=False)
store.commit({"w": torch.full((3_000_000,), 2.0)}, step=2, wait=False, when_busy="coalesce")
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('the training failed')", 1),
        ("del store", 0),
        ("import threading; threading.Thread(target=sys.exit, daemon=True).start()", 0),
    ],
)
def test_the_end_of_a_program_makes_durable_what_was_handed_over(path: Path, end: str, code: int) -> None:
    done = run(SCRIPT + end, path)
    assert done.returncode == code, done.stderr
    assert ("the training failed" in done.stderr) == ("training" in end)
    with casckpt.open(path) as store:
        newest = next(iter(store.log("main")))
        assert newest.step == 2
        assert torch.equal(store.checkout(newest.id)["w"], torch.full((3_000_000,), 2.0))


@pytest.mark.parametrize("end", ["", "del store", "os._exit(0)"])
def test_a_failure_that_nobody_saw_is_logged_at_exit(path: Path, end: str) -> None:
    script = "import os, sys, casckpt; store = casckpt.open(sys.argv[1])\n"
    done = run(script + "store.commit({}, parents=('nowhere',), wait=False)\n" + end, path)
    assert done.returncode == 0
    told = "work in the background failed: no revision named 'nowhere'" in done.stderr
    assert told == ("_exit" not in end)


def test_a_failure_that_was_seen_is_not_logged_at_exit(path: Path) -> None:
    script = """
import sys, casckpt
store = casckpt.open(sys.argv[1])
pending = store.commit({}, parents=("nowhere",), wait=False)
assert pending.exception() is not None
"""
    done = run(script, path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_last_commit_may_be_made_while_the_interpreter_exits(path: Path) -> None:
    script = """
import atexit, sys, numpy, casckpt
store = casckpt.open(sys.argv[1])
atexit.register(lambda: store.commit({"w": numpy.ones(500_000)}, step=7, wait=False).result())
"""
    done = run(script, path)
    assert (done.returncode, done.stderr) == (0, "")
    with casckpt.open(path) as store:
        assert store.show().step == 7


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
