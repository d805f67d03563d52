"""What a command says that changed names or facts, or that knows of only a part of a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casckpt.cli.call import Call

if TYPE_CHECKING:
    from casckpt.store import Store


def say_undo(call: Call, *, dry_run: bool, changed: bool = True) -> None:
    """Say how to take it back; not where that would take back something else."""
    if not dry_run:
        call.note("undo with: casckpt undo" if changed else "it was so already; nothing was changed")


def note_losses(call: Call, store: Store, rev: str) -> None:
    """Say which components an answer about a commit is silent about, as the commit has lost them."""
    from casckpt.plan.revision import split_path
    from casckpt.view.history import lost_text

    name, path = split_path(rev)
    remains = None if path else store.remains(name)
    if remains is not None:
        call.warn("commit.thinned", f"{name} has lost {lost_text(remains)}")
