"""Files on the disk: how much they take, in and out of the page cache, a scratch folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_READ = 8 << 20


def files(place: Path) -> list[Path]:
    """A file itself, or all files below a folder."""
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())


def allocated(place: Path) -> int:
    """Bytes that the files take on the disk; 0 for what is absent."""
    return sum(path.stat().st_blocks * 512 for path in files(place))


def flush(place: Path) -> None:
    """Bring the files to the disk, so that what comes next does not pay for it."""
    for path in files(place):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def chill(place: Path) -> None:
    """Take the files out of the page cache; dirty pages would stay, so they are flushed first."""
    flush(place)
    for path in files(place):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def warm(place: Path) -> None:
    """Bring the files into the page cache."""
    for path in files(place):
        with path.open("rb", buffering=0) as file:
            while file.read(_READ):
                pass


def remove(place: Path) -> None:
    """Remove a file or a folder, if there."""
    if place.is_file():
        place.unlink()
    else:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """A fresh folder inside `folder` (default: the temporary folder), removed at the end."""
    with tempfile.TemporaryDirectory(prefix="casckpt-bench-", dir=folder) as name:
        yield Path(name)
