"""The backup programs restic and borg: how they are called, and with what in their environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

Environment = dict[str, str]


def run(folder: Path, environment: Environment, *command: str) -> None:
    """Run a program in a folder."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")


def restic_environment(folder: Path, threads: int) -> Environment:
    """The repository is `store` in this folder; restic has no other way to be told of threads."""
    return {
        "RESTIC_PASSWORD": "benchmark",
        "RESTIC_REPOSITORY": str(folder / "store"),
        "RESTIC_CACHE_DIR": str(folder / "cache"),
        "GOMAXPROCS": str(threads),
    }


def borg_environment(folder: Path) -> Environment:
    """What borg knows of its repositories stays in this folder."""
    return {"BORG_BASE_DIR": str(folder / "cache"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
