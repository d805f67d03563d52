"""Repositories that come from a remote: a new store that one is cloned into, and a remote that is read as a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from casckpt.errors import UsageError

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.fetch_reports import PullReport
    from casckpt.ops.settings import StoreSettings
    from casckpt.ops.values import Progress


def clone_remote(
    url: str,
    path: str | os.PathLike[str],
    *names: str,
    name: str = "origin",
    depth: int | None = None,
    only: str | Sequence[str] | None = None,
    threads: int | None = None,
    limit_rate: int | str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Repository, PullReport]:
    """The repository of a new store that a remote was cloned into, open, and what was done; see `casckpt.clone`."""
    from casckpt.ops.clone import clone
    from casckpt.ops.connecting import connect
    from casckpt.ops.remote_changes import add_remote, checked_remote
    from casckpt.storage.local import LocalStorage

    at = connect(checked_remote(name, url, options), limit_rate=limit_rate)
    repository, report = clone(
        LocalStorage(path), at.objects, name, names, depth=depth, only=_patterns(only), threads=threads,
        progress=progress, concurrency=at.remote.concurrency,
        configure=lambda storage: add_remote(storage, name, url, options, probe=False, again=True),
    )  # fmt: skip
    return repository, replace(report, fetched=at.counted(report.fetched))


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a text is the address of a remote, not the path of a folder."""
    return isinstance(path, str) and ("://" in path or path.startswith("memory:"))


def open_remote_store(
    url: str | os.PathLike[str],
    threads: int | None,
    settings: StoreSettings | None,
    *,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
    **options: Any,
) -> tuple[Repository, StoreSettings]:
    """The repository of a remote that is read as a store, and what holds for it; see `casckpt.open`."""
    from casckpt.ops.connecting import connect
    from casckpt.ops.remote_changes import checked_remote
    from casckpt.ops.remote_store import CACHE_BYTES, open_remote
    from casckpt.ops.settings import StoreSettings

    if not is_address(url):
        raise UsageError(problem=f"cache and what is known of a remote are for one, and {os.fspath(url)} is a folder")
    settings = settings or StoreSettings()
    at = connect(checked_remote("origin", str(url), options))
    repository = open_remote(
        at.objects,
        cache=None if cache is None else os.fspath(cache),
        cache_bytes=CACHE_BYTES if cache_bytes is None else cache_bytes,
        threads=settings.threads if threads is None else threads,
        run=settings.run,
        concurrency=at.remote.concurrency,
    )
    return repository, settings


def plan_clone(
    url: str,
    path: str | os.PathLike[str],
    *names: str,
    name: str = "origin",
    depth: int | None = None,
    only: str | Sequence[str] | None = None,
    limit_rate: int | str | None = None,
    **options: Any,
) -> PullReport:
    """What `clone_remote` would do; nothing is written."""
    from casckpt.ops.clone import rehearse
    from casckpt.ops.connecting import connect
    from casckpt.ops.remote_changes import checked_remote
    from casckpt.storage.local import LocalStorage

    at = connect(checked_remote(name, url, options), limit_rate=limit_rate)
    report = rehearse(LocalStorage(path), at.objects, name, names, depth=depth, only=_patterns(only))
    return replace(report, fetched=at.counted(report.fetched))


def _patterns(only: str | Sequence[str] | None) -> Sequence[str] | None:
    return (only,) if isinstance(only, str) else only
