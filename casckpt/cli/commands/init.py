"""casckpt init."""

from __future__ import annotations

import os

import click

from casckpt.cli.call import STORE_FOLDER, Answer, Call
from casckpt.cli.options import command
from casckpt.view.text import safe


@command("casckpt init", "casckpt init /data/ckpts", "casckpt -C /data/ckpts init")
@click.argument("path", required=False)
def init_command(call: Call, path: str | None) -> Answer:
    """Make a folder a store.

    PATH must be absent or empty; without it the store is .casckpt in this folder, where commands find it from every
    folder below.
    """
    from casckpt import store as api

    place = os.path.abspath(path or call.named_store() or STORE_FOLDER)
    call.outcome = "repeat it to make the store whole"
    with api.init(place):
        call.place = place
    return Answer(lambda: {"path": place}, lambda _: [f"made a store at {safe(place)}"], confirms=True)
