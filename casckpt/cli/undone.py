"""What a command says that changed names or facts."""

from __future__ import annotations

from casckpt.cli.call import Call


def say_undo(call: Call, *, dry_run: bool, changed: bool = True) -> None:
    """Say how to take it back; not where that would take back something else."""
    if not dry_run:
        call.note("undo with: casckpt undo" if changed else "it was so already; nothing was changed")
