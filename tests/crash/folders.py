"""Real folders for crashed stores, and real processes that use them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.crash.recorder import Snapshot

ROOT = Path(__file__).resolve().parents[2]
CRASH_PRELUDE = """
import warnings
warnings.simplefilter("error")
import casckpt.store
from tests.crash import promises
promises.state_of(201)
"""
"""What the processes of a nursery have done that use stores as `promises` does; none has been opened."""


@contextmanager
def ram_folder() -> Iterator[Path]:
    """An empty folder, in RAM where there is such a place: a flush costs nothing there."""
    with TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as path:
        yield Path(path)


def write_tree(folder: Path, files: Snapshot) -> Path:
    """Make a snapshot a real folder."""
    for name, content in sorted(files.items()):
        path = folder / name
        if content is None:
            path.mkdir(mode=0o700, parents=True)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def start_python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs a program of this test suite."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
