"""casckpt: a content-addressed store for machine-learning checkpoints, with history, refs and verified restores.

import casckpt
store = casckpt.init("ckpts")          # or casckpt.open("ckpts")
store.commit(state, run="gpt", step=1200, metrics={"val/loss": 0.231})
state = store.checkout("gpt/last")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt import errors
    from casckpt.store import (
        BlameLine,
        Check,
        CheckoutReport,
        CommitInfo,
        Comparison,
        Diff,
        DoctorReport,
        DrillReport,
        DropReport,
        ExportReport,
        FetchReport,
        ForgetReport,
        FsckReport,
        GcPlan,
        GcReport,
        HeldLock,
        ImportedCheckpoint,
        ImportReport,
        KeptPolicies,
        LeafSummary,
        Opaque,
        OpaqueWarning,
        Operation,
        PathInfo,
        PendingCommit,
        ProbeReport,
        PullReport,
        PushReport,
        RefChange,
        Remote,
        RemoteChange,
        RemoteConflict,
        RemoteGcReport,
        RemoteLock,
        RepackReport,
        RetainReport,
        Retention,
        RevisionWarning,
        RunInfo,
        Schema,
        SchemaWarning,
        Status,
        Store,
        StoredState,
        StoredValue,
        StoreSettings,
        UndoReport,
        clone,
        doctor,
        init,
        memory,
        migration,
        open,
        register,
    )

__all__ = [
    "BlameLine",
    "Check",
    "CheckoutReport",
    "CommitInfo",
    "Comparison",
    "Diff",
    "DoctorReport",
    "DrillReport",
    "DropReport",
    "ExportReport",
    "FetchReport",
    "ForgetReport",
    "FsckReport",
    "GcPlan",
    "GcReport",
    "HeldLock",
    "ImportReport",
    "ImportedCheckpoint",
    "KeptPolicies",
    "LeafSummary",
    "Opaque",
    "OpaqueWarning",
    "Operation",
    "PathInfo",
    "PendingCommit",
    "ProbeReport",
    "PullReport",
    "PushReport",
    "RefChange",
    "Remote",
    "RemoteChange",
    "RemoteConflict",
    "RemoteGcReport",
    "RemoteLock",
    "RepackReport",
    "RetainReport",
    "Retention",
    "RevisionWarning",
    "RunInfo",
    "Schema",
    "SchemaWarning",
    "Status",
    "Store",
    "StoreSettings",
    "StoredState",
    "StoredValue",
    "UndoReport",
    "clone",
    "doctor",
    "errors",
    "init",
    "memory",
    "migration",
    "open",
    "register",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Late, so that `import casckpt` costs nothing until something is used.
    if name == "errors":
        return importlib.import_module("casckpt.errors")
    if name in __all__:
        return getattr(importlib.import_module("casckpt.store"), name)
    raise AttributeError(f"module 'casckpt' has no attribute {name!r}")
