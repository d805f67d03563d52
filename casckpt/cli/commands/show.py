"""casckpt show."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt show", "casckpt show gpt/best --tree", "casckpt show v1 --config --json")
@click.argument("rev", default="@")
@click.option("--tree", is_flag=True, help="List every leaf: path, type, shape, size or value.")
@click.option("--config", is_flag=True, help="Show config, environment, code and data it was made with.")
def show_command(call: Call, rev: str, tree: bool, config: bool) -> Answer:
    """Show one commit in full.

    REV is @ by default, the last commit of the newest run. No tensor is read.
    """
    from casckpt.view.history import show_lines

    store = call.open()
    commit = store.show(rev)
    identity = f"id:{commit.id}"
    leaves = list(store.leaves(identity)) if tree else None
    metadata = store.metadata(identity) if config else None

    def data() -> dict[str, Any]:
        found: dict[str, Any] = {"commit": commit.to_dict()}
        if leaves is not None:
            found["leaves"] = [leaf.to_dict() for leaf in leaves]
        return found if metadata is None else {**found, "metadata": metadata}

    return Answer(data, lambda look: show_lines(commit, leaves, metadata, look))
