"""casckpt show."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt show", "casckpt show gpt/best --tree", "casckpt show v1 --config --json", "casckpt show --storage")
@click.argument("rev", default="@")
@click.option("--tree", is_flag=True, help="List every leaf: path, type, shape, size or value.")
@click.option("--config", is_flag=True, help="Show config, code and data it was made with.")
@click.option("--env", is_flag=True, help="Show the environment it was made in.")
@click.option("--storage", is_flag=True, help="Show the bytes of each component, and what the first parent has too.")
def show_command(call: Call, rev: str, tree: bool, config: bool, env: bool, storage: bool) -> Answer:
    """Show one commit in full.

    REV is @ by default, the last commit of the newest run. No tensor is read.
    """
    from casckpt.view.history import show_lines

    store = call.open()
    commit = store.show(rev)
    identity = f"id:{commit.id}"
    relatives = store.relatives(identity)
    remains = store.remains(identity)
    leaves = list(store.leaves(identity)) if tree else None
    stored = store.storage(identity) if storage else None
    wanted = (*(("config", "code", "data") if config else ()), *(("environment",) if env else ()))
    metadata = None
    if wanted:
        metadata = {name: value for name, value in store.metadata(identity).items() if name in wanted}

    def data() -> dict[str, Any]:
        found: dict[str, Any] = {"commit": commit.to_dict(), **relatives.to_dict()}
        found["remains"] = None if remains is None else remains.to_dict()
        if leaves is not None:
            found["leaves"] = [leaf.to_dict() for leaf in leaves]
        if metadata is not None:
            found["metadata"] = metadata
        return found if stored is None else {**found, "storage": stored.to_dict()}

    shown = partial(show_lines, commit, leaves, metadata, relatives=relatives, storage=stored, remains=remains)
    return Answer(data, lambda look: shown(look=look))
