"""The Python API: open a store and use it. Every method delegates to one operation."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from casckpt.browse import Browse
from casckpt.bundling import Bundling
from casckpt.comparing import Comparing
from casckpt.distant import clone_remote, is_address, open_remote_store
from casckpt.errors import OpaqueWarning, RevisionWarning, SchemaWarning, StoreNotFound
from casckpt.exchange import Exchange
from casckpt.lifetime import Lifetime
from casckpt.naming import Naming
from casckpt.odb.repository import Repository, initialize, writer_name
from casckpt.ops.background import Background
from casckpt.ops.maintain import Maintainer
from casckpt.ops.on_demand import OnDemand
from casckpt.ops.pending import PendingCommit
from casckpt.ops.resolve import resolve
from casckpt.ops.settings import StoreSettings, store_settings
from casckpt.ops.values import CommitInfo, Progress, RunInfo, Status, Verify, WhenBusy
from casckpt.storage.base import Storage
from casckpt.storage.local import LocalStorage
from casckpt.syncing import Syncing
from casckpt.upkeep import Upkeep

if TYPE_CHECKING:
    from pathlib import Path

    from casckpt.odb.coder import Compress
    from casckpt.ops.checks import Check, DoctorReport
    from casckpt.ops.commit import CommitWords
    from casckpt.ops.comparison import Comparison
    from casckpt.ops.connecting import ProbeReport
    from casckpt.ops.doctor import doctor
    from casckpt.ops.drill import DrillReport
    from casckpt.ops.fetch_reports import FetchReport, PullReport
    from casckpt.ops.gc_reports import GcPlan, GcReport
    from casckpt.ops.journal_reports import Operation, RefChange, UndoReport
    from casckpt.ops.kept_policy import KeptPolicies
    from casckpt.ops.lazy import StoredState, StoredValue
    from casckpt.ops.lifetime_reports import DropReport, ForgetReport, RetainReport
    from casckpt.ops.locking import HeldLock
    from casckpt.ops.push_reports import PushReport
    from casckpt.ops.remote_gc_reports import RemoteGcReport
    from casckpt.ops.remote_log import RemoteChange, RemoteConflict
    from casckpt.ops.remotes import Remote
    from casckpt.ops.repack_reports import RepackReport
    from casckpt.ops.reports import (
        BlameLine,
        CheckoutReport,
        Diff,
        ExportReport,
        FsckReport,
        ImportedCheckpoint,
        ImportReport,
        LeafSummary,
        PathInfo,
    )
    from casckpt.plan.policy import Retention
    from casckpt.plan.schema import Schema, SchemaLike, migration
    from casckpt.remote.locks import RemoteLock
    from casckpt.state.kinds.opaque import Opaque
    from casckpt.state.kinds.registry import register

# Operations are imported where they are called: `casckpt log` must not pay for commit, checkout and fsck.

__all__ = [
    "BlameLine", "Check", "CheckoutReport", "CommitInfo", "Comparison", "Diff", "DoctorReport", "DrillReport",
    "DropReport", "ExportReport", "FetchReport", "ForgetReport", "FsckReport", "GcPlan", "GcReport", "HeldLock",
    "ImportReport", "ImportedCheckpoint", "KeptPolicies", "LeafSummary", "Opaque", "OpaqueWarning", "Operation",
    "PathInfo", "PendingCommit", "ProbeReport", "PullReport", "PushReport", "RefChange", "Remote", "RemoteChange",
    "RemoteConflict", "RemoteGcReport", "RemoteLock", "RepackReport", "RetainReport", "Retention", "RevisionWarning",
    "RunInfo", "Schema", "SchemaWarning", "Status", "Store", "StoreSettings", "StoredState", "StoredValue",
    "UndoReport", "clone", "doctor", "init", "memory", "migration", "open", "register",
]  # fmt: skip

_Done = TypeVar("_Done")


class Store(Exchange, Syncing, Bundling, Browse, Comparing, Naming, Lifetime, Upkeep):
    """An open store. Safe to use from several threads and after fork; close it, or use it as a context manager.

    Several processes may have the same store open and commit to it at once.
    """

    def __init__(self, repository: Repository, settings: StoreSettings | None = None) -> None:
        self._repository = repository
        self._settings = settings or StoreSettings()
        self._background = Background(repository.threads)
        self._maintainer = Maintainer(repository, self._settings.remotes, wanted=self._settings.upkeep)
        if self._settings.fetch_on_demand and repository.database.elsewhere is None:
            repository.ask(OnDemand(repository, self._places))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<casckpt.Store {self.path or 'in memory'}>"

    @property
    def path(self) -> Path | None:
        """The folder of the store, None for one in memory."""
        from pathlib import Path

        path = self._repository.storage.path
        return None if path is None else Path(path)

    def close(self) -> None:
        """Wait for commits in the background, bring the index up to date and release all files.

        What was committed is durable without it.

        Raises:
            CasckptError: a commit in the background failed and nobody has seen it; the store is closed all the same.
        """
        try:
            self._background.close()
        finally:
            try:
                self._maintainer.close()
            finally:
                self._repository.close()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when every commit handed over with `wait=False` has ended.

        Args:
            timeout_s: the longest to wait, in seconds; None waits to the end.

        Raises:
            CasckptError: the first of them that failed and whose error nobody has seen.
            NotDurableYet: some have not ended in that time; they go on.
        """
        self._background.wait(timeout_s)

    @overload
    def commit(
        self, state: Any, *, wait: Literal[True] = True, when_busy: WhenBusy = "wait", **words: Unpack[CommitWords]
    ) -> CommitInfo: ...

    @overload
    def commit(
        self, state: Any, *, wait: Literal[False], when_busy: WhenBusy = "wait", **words: Unpack[CommitWords]
    ) -> PendingCommit: ...

    @overload
    def commit(
        self, state: Any, *, wait: bool, when_busy: WhenBusy = "wait", **words: Unpack[CommitWords]
    ) -> CommitInfo | PendingCommit: ...

    def commit(
        self,
        state: Any,
        *,
        run: str | None = None,
        step: int | None = None,
        epoch: int | float | None = None,
        metrics: Mapping[str, int | float] | None = None,
        message: str = "",
        author: str = "",
        kind: str = "step",
        status: str = "completed",
        best: str | None = None,
        parents: tuple[str, ...] | None = None,
        expect: str | None = None,
        schema: SchemaLike | None = None,
        config: Any = None,
        environment: Any = None,
        code: Any = None,
        data: Any = None,
        compress: Compress | None = None,
        progress: Progress | None = None,
        skip: str | Sequence[str] | None = None,
        allow_pickle: bool | str | Sequence[str] = False,
        wait: bool = True,
        when_busy: WhenBusy = "wait",
        lock: RemoteLock | None = None,
    ) -> CommitInfo | PendingCommit:
        """Commit a state; when this returns, or with `wait=False` its `result()`, it survives kill -9 and power loss.

        Args:
            state: nested values of the types docs/reference/values.md lists: containers, numbers, texts, tensors,
                arrays, dataclasses, and objects with a state dict, of which that is stored. Read, never changed.
            run: the series of commits this belongs to, by default the current one of the settings, else `main`.
            step: of the optimizer. epoch: passes over the data, or parts. metrics: numbers, as {"val/loss": 0.231}.
            kind: step, recovery (also moves the run's `recovery`) or final.
            status: completed, started, running, failed, cancelled or preempted; only completed commits become best.
            best: `METRIC:min` or `METRIC:max`: from now on the rule for the run's `best`.
            parents: revisions to use instead of the run's last. expect: what that must be, else ConflictError.
            schema: name and version of what the state means to its program; a `Schema` may require paths.
            config, environment, code, data: JSON-like values, kept once for all commits that share them.
            compress: encode new chunks: `off` never, `always` where it saves 2 %, `auto` where it costs no time here.
            progress: called with the plain bytes done and in all, by the thread that commits; may raise to cancel.
            skip: patterns of entries of dicts that are left out: `config/lock`, `**/_cache`. lock: see `lock_remote`.
            allow_pickle: True, or patterns of paths: pickle what nothing else can store; a checkout asks again.
            wait: False copies the state and returns a `PendingCommit`; the rest happens in the background.
            when_busy: of `wait=False` after others: `wait` for them, `skip` this, `coalesce` with one that waits.

        Raises:
            CasckptError: an earlier commit in the background failed and nobody has seen it; nothing else was done.
            StateError: a value that cannot be stored; names its path. Raised before anything is written.
            StateChanged, LockLost, StorageError (the disk failed or is full): nothing was committed.

        Cost: one BLAKE3 pass; written is what changed. Memory: 64 MB, with `wait=False` a copy of the state too.
        """
        from casckpt.odb.coder import check_policy
        from casckpt.ops.commit import CommitOptions, commit_state, fixed
        from casckpt.ops.consent import take_apart

        options = CommitOptions(
            self._settings.run_of(run), step, epoch, kind, status, metrics or {}, message, author,
            parents, expect, best, schema, config, environment, code, data,
        )  # fmt: skip
        compress = check_policy(self._settings.compress_of(compress))
        flat = partial(take_apart, state, skip, allow_pickle, options.schema)
        work = partial(commit_state, compress=compress, progress=progress, lock=lock)
        if wait:
            return self._looked_after(work(self._in_turn(), flat(), options), options.run)
        later = partial(work, self._repository, options=fixed(options))
        return self._looked_after(self._background.submit(flat, later, when_busy), options.run)

    def _looked_after(self, done: _Done, run: str) -> _Done:
        """What a commit returned; upkeep may begin behind it, and pushes."""
        self._maintainer.after_commit(run)
        return done

    def checkout(
        self,
        revision: str = "@",
        *,
        into: Any = None,
        select: str | Sequence[str] | None = None,
        mmap: bool = False,
        verify: Verify | None = None,
        progress: Progress | None = None,
        strict: bool = False,
        allow_pickle: bool | str | Sequence[str] = False,
        schema: SchemaLike | None = None,
        migrate: bool = True,
    ) -> Any:
        """The exact state of a commit, on the CPU, in memory of its own; every byte is verified unless `mmap`.

        Args:
            into: a live state that is overwritten in place and returned: tensors and arrays where they are, on
                whatever device, other values in their dicts and lists. All must fit before anything is changed.
            select: pattern of paths, or several: `model/**`, `**/weight`, `opt/state/*/exp_avg`. Dicts come back with
                the selected entries only, lists and tuples whole.
            mmap: map large leaves instead of reading them: at once, and verified only if asked for.
            verify: `first` with `into`: read all once before anything is overwritten; `background` with `mmap`: a
                thread compares what was mapped with its ids, and the next call raises what it finds.
            progress: called with the plain bytes done and in all; what it raises cancels the checkout.
            strict: refuse values of classes that are not imported here; else they come as `casckpt.Opaque`, with an
                `OpaqueWarning`.
            allow_pickle: True, or patterns of paths: run the pickles the commit holds, and so whatever code their
                writer wanted.
            schema: the version to migrate an old state to; by default the highest that a registered step leads to.
            migrate: False gives the state as it is stored.

        Raises:
            RevisionNotFound: nothing has that name.
            NotFoundError: nothing is selected.
            PickleBlocked: the commit holds a pickle that is not allowed; nothing was read.
            UnknownType: a class is not here, with `strict`.
            StateMismatch: `into` does not fit; nothing was changed.
            NewerSchema, MigrationNotFound, MigrationFailed: no way from the stored version; nothing was changed.
            DamagedLeaf: stored bytes are wrong or missing; names the leaf.
            PartialRestore: the same, when parts of `into` were overwritten already; names them.
        """
        from casckpt.ops.restore import checkout

        self._background.raise_failure()
        return checkout(
            *(self._repository, self._background, self._resolve(revision), into, select, mmap, verify, progress),
            *(strict, allow_pickle, schema, migrate),
        )

    def _in_turn(self) -> Repository:
        """The repository, for a caller who writes: after everything that was handed over before."""
        self._background.turn()
        return self._repository

    def _resolve(self, revision: str) -> Any:
        return resolve(self._repository.database, revision)


def init(path: str | os.PathLike[str], *, threads: int | None = None) -> Store:
    """Make the folder `path` (absent or empty) a store and open it.

    Args:
        threads: as for `open`.

    Raises:
        StoreExists: it is one already. FolderNotEmpty: it holds other files.
    """
    return _init(LocalStorage(path), threads)


def open(
    path: str | os.PathLike[str],
    *,
    read_only: bool = False,
    threads: int | None = None,
    settings: StoreSettings | None = None,
    **words: Any,
) -> Store:
    """Open the store in the folder `path`, or read a remote at an address like `s3://bucket/prefix`.

    Args:
        threads: cores that one commit or checkout keeps busy; None for what the settings say, else those of this
            process, at most 8.
        settings: to be used instead of the store's own, which are then not read.
        words: of a remote, `cache` and `cache_bytes`, where what was read is kept, and those of `Store.add_remote`.

    Raises:
        StoreNotFound: there is none. NewerFormat: it needs a newer casckpt.
        InvalidSetting, DamagedSettings: its `config.toml` cannot be read.
        RemoteUnavailable, RemoteDenied, RemoteUntrusted, RolledBack: the remote cannot be read, or not be believed.
    """
    if words or is_address(path):
        return Store(*open_remote_store(path, threads, settings, **words))
    if not os.path.isdir(path):
        raise StoreNotFound(path=os.fspath(path), problem="there is no such folder")
    storage = LocalStorage(path, read_only=read_only)
    settings = store_settings(storage) if settings is None else settings
    threads = settings.threads if threads is None else threads
    return Store(Repository(storage, threads=threads, run=settings.run, health_gate=settings.health_gate), settings)


def clone(url: str, path: str | os.PathLike[str], *names: str, **words: Any) -> Store:
    """Make the folder `path` (absent, empty, or what an interrupt left) a store that follows a remote, and open it.

    Args:
        url: as of `Store.add_remote`. names: of runs and tags there; none for all.
        words: `name` of the remote here; `depth`, `only`, `limit_rate`, `progress` as of `Store.fetch`; `threads` as of
            `open`; and those of `Store.add_remote`.

    Raises:
        StoreExists: there is a store that has runs of its own. FolderNotEmpty: the folder holds other files.
        RemoteNotFound, RemoteUnavailable, RemoteDenied, RemoteUntrusted: the remote cannot be read.
    """
    return Store(clone_remote(url, path, *names, **words)[0])


def memory() -> Store:
    """A new store in memory, for tests and throw-away work."""
    from casckpt.storage.memory import MemoryStorage

    return _init(MemoryStorage(), None)


_LATE = {
    "casckpt.ops.checks": ("Check", "DoctorReport"),
    "casckpt.ops.comparison": ("Comparison",),
    "casckpt.ops.connecting": ("ProbeReport",),
    "casckpt.ops.doctor": ("doctor",),
    "casckpt.ops.drill": ("DrillReport",),
    "casckpt.ops.fetch_reports": ("FetchReport", "PullReport"),
    "casckpt.ops.gc_reports": ("GcPlan", "GcReport"),
    "casckpt.ops.journal_reports": ("Operation", "RefChange", "UndoReport"),
    "casckpt.ops.kept_policy": ("KeptPolicies",),
    "casckpt.ops.lazy": ("StoredState", "StoredValue"),
    "casckpt.ops.lifetime_reports": ("DropReport", "ForgetReport", "RetainReport"),
    "casckpt.ops.locking": ("HeldLock",),
    "casckpt.ops.push_reports": ("PushReport",),
    "casckpt.ops.remote_gc_reports": ("RemoteGcReport",),
    "casckpt.ops.remote_log": ("RemoteChange", "RemoteConflict"),
    "casckpt.ops.remotes": ("Remote",),
    "casckpt.ops.repack_reports": ("RepackReport",),
    "casckpt.plan.policy": ("Retention",),
    "casckpt.plan.schema": ("Schema", "migration"),
    "casckpt.remote.locks": ("RemoteLock",),
    "casckpt.state.kinds.opaque": ("Opaque",),
    "casckpt.state.kinds.registry": ("register",),
}
"""Where to find what only some programs use, and the values that only some operations return."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = next((module for module, names in _LATE.items() if name in names), "casckpt.ops.reports")
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'casckpt.store' has no attribute {name!r}")


def _init(storage: Storage, threads: int | None) -> Store:
    initialize(storage, time_ns=time.time_ns(), by=writer_name())
    return Store(Repository(storage, threads=threads))
