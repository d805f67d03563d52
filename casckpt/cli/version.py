"""What `--version` says."""

from __future__ import annotations

import sys

import casckpt
from casckpt.cli.call import Answer, Call

_DEPENDENCIES = ("blake3", "click", "lmdb", "msgpack", "numpy", "torch", "zstandard")


def version_answer(call: Call) -> Answer:
    """The version; with -v also what casckpt runs on, read without importing it."""
    found = {"casckpt": casckpt.__version__}
    if call.verbose:
        import platform

        found["python"] = platform.python_version()
        found["platform"] = f"{sys.platform} {platform.machine()}"
        found |= {name: version for name in _DEPENDENCIES if (version := _installed(name)) is not None}
    lines = [f"{name} {version}" for name, version in found.items()]
    return Answer(lambda: {"versions": found}, lambda _: lines, command="version")


def _installed(name: str) -> str | None:
    from importlib import metadata  # late: it takes longer to import than all of click

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
