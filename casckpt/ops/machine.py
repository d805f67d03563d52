"""What is unusual about the machine: Python and its libraries, cores, memory, limits."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
from collections.abc import Iterator

from casckpt.odb.repository import THREADS_MAX
from casckpt.ops.checks import NOTE, OK, WARNING, Check
from casckpt.units import format_bytes

LIBRARIES = ("blake3", "click", "lmdb", "msgpack", "numpy", "pyfastcdc", "tomlkit", "zstandard", "torch")
OPTIONAL = ("torch",)
FILES_WANTED = 256
MEMORY_WANTED = 256 << 20
_VECTORS = ("avx512f", "avx2", "sse4_1", "asimd", "neon")
"""Instructions that hashing and encoding use where they are there, the fastest first."""


def machine_checks() -> Iterator[Check]:
    """The checks of the machine, in the order in which they are shown."""
    yield Check(OK, "machine.python", f"{platform.python_implementation()} {platform.python_version()} on {_system()}")
    yield _libraries()
    yield _cores()
    yield _memory()
    yield _files()


def _system() -> str:
    name = os.uname()
    return f"{name.sysname} {name.release} {name.machine}"


def _libraries() -> Check:
    from importlib import metadata  # slow to import

    found, absent = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            absent.append(name)
    missing = [name for name in absent if name not in OPTIONAL]
    says = ", ".join(found)
    if missing:
        why = f"{', '.join(missing)} not installed: what needs it will fail"
        return Check(WARNING, "machine.libraries", says, why, f"pip install {' '.join(missing)}")
    if absent:
        why = "without torch there are no tensors to commit"
        return Check(NOTE, "machine.libraries", says, why, "pip install torch")
    return Check(OK, "machine.libraries", says)


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = _read("/proc/cpuinfo", 1 << 16).split()
    vector = next((name for name in _VECTORS if name in words), "")
    says = f"{usable} of {os.cpu_count()} cores usable, {min(usable, THREADS_MAX)} used by one operation"
    if words and not vector:
        why = "no vector instructions were found, so hashing is several times slower than the disk"
        return Check(WARNING, "machine.cpu", says, why, "run on another machine if speed matters")
    return Check(OK, "machine.cpu", f"{says}, {vector}" if vector else says)


def _memory() -> Check:
    limit = memory_limit()
    if limit is None:
        return Check(OK, "machine.memory", "no limit on memory")
    left, most = limit
    says = f"{format_bytes(max(left, 0))} left of a limit of {format_bytes(most)}"
    if left < MEMORY_WANTED:
        why = "a commit takes up to 64 MiB beyond the state, and wait=False a copy of the state too"
        return Check(WARNING, "machine.memory", says, why, "raise the limit of the job or container")
    return Check(OK, "machine.memory", says)


def memory_limit() -> tuple[int, int] | None:
    """(bytes left, bytes in all) that the control group of this process allows; None if nothing limits it."""
    group = next((line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    tightest: tuple[int, int] | None = None
    folder = f"/sys/fs/cgroup{group}".rstrip("/")
    while folder.startswith("/sys/fs/cgroup"):
        most, used = _read(f"{folder}/memory.max").strip(), _read(f"{folder}/memory.current").strip()
        if most.isdigit() and used.isdigit():
            found = int(most) - int(used), int(most)
            tightest = found if tightest is None else min(tightest, found)
        folder = os.path.dirname(folder)
    return tightest


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES_WANTED:
        why = f"reading a commit from many packs opens many files; {FILES_WANTED} are enough"
        most = FILES_WANTED if hard < 0 else min(hard, 4096)
        return Check(WARNING, "machine.files", f"{soft} open files allowed", why, f"ulimit -n {most}")
    return Check(OK, "machine.files", "open files not limited" if soft < 0 else f"{soft} open files allowed")


def _read(path: str, most: int = 1 << 14) -> str:
    """The start of a file of the system, empty where there is none."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(most).decode(errors="replace")
    return ""
