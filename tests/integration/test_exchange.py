"""Imports that are killed, and exports that are larger than the memory they may take."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt

ROOT = Path(__file__).resolve().parents[2]
MOST_BEYOND = 64_000_000
CHECKPOINTS = 40


def checkpoints(folder: Path) -> None:
    for step in range(CHECKPOINTS):
        np.savez(folder / f"step_{step}.npz", w=np.random.default_rng(step).standard_normal(20_000))


def history(store: casckpt.Store, run: str) -> list[Any]:
    """What of a run does not depend on when it was made, oldest first."""
    return [(one.step, one.message, one.tree, store.metadata(f"id:{one.id}")) for one in reversed(list(store.log(run)))]


def imported(path: Path) -> int:
    with casckpt.open(path) as store:
        return len(list(store.log("r"))) if store.runs() else 0


@pytest.mark.parametrize("form", ["files", "state"])
def test_an_import_that_was_killed_is_finished_by_the_next(tmp_path: Path, form: Any) -> None:
    source = tmp_path / "source"
    source.mkdir()
    checkpoints(source)
    with casckpt.init(tmp_path / "whole") as whole:
        whole.import_path(source, run="r", form=form)
        wanted = history(whole, "r")
    casckpt.init(tmp_path / "store").close()
    words = [sys.executable, "-m", "casckpt.cli", "-C", str(tmp_path / "store")]
    words += ["import", str(source), "-r", "r", "--as", form]
    for reached in (1, CHECKPOINTS // 2):
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while imported(tmp_path / "store") < reached and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with casckpt.open(tmp_path / "store") as store:
            found = history(store, "r")
            assert found == wanted[: len(found)] and len(found) >= reached
            assert store.fsck("full").ok
    done = subprocess.run([*words, "--json"], cwd=ROOT, capture_output=True, check=True)
    report = json.loads(done.stdout)["data"]
    assert sum(one["skipped"] for one in report["checkpoints"]) == len(found)
    with casckpt.open(tmp_path / "store") as store:
        assert history(store, "r") == wanted


measures = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc"),
]


class TestMemoryIsBounded:
    """And what is written is exact: that, the process checks."""

    pytestmark = measures

    @pytest.mark.parametrize("form", ["safetensors", "npz", "h5"])
    def test_of_exports_and_of_imports_of_them(self, tmp_path: Path, form: str) -> None:
        try:
            command = [sys.executable, "-m", "tests.integration.exported", form, str(tmp_path)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
            assert done.returncode == 0, done.stderr
            measured = [json.loads(line) for line in done.stdout.splitlines()]
            print(measured)
            assert len(measured) >= 2
            assert [said for said in measured if said["grown"] - said.get("state", 0) > MOST_BEYOND] == []
        finally:
            shutil.rmtree(tmp_path)
