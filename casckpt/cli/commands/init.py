"""casckpt init."""

from __future__ import annotations

import os

import click

from casckpt.cli.call import STORE_FOLDER, Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.view.text import safe


@command("casckpt init", "casckpt init /data/ckpts", "casckpt -C /data/ckpts init")
@click.argument("path", required=False)
@dry_run
def init_command(call: Call, path: str | None, dry_run: bool) -> Answer:
    """Make a folder a store.

    PATH must be absent or empty; without it the store is .casckpt in this folder, where commands find it from every
    folder below.
    """
    place = os.path.abspath(path or call.named_store() or STORE_FOLDER)
    if dry_run:
        from casckpt.odb.repository import check_initializable
        from casckpt.storage.local import LocalStorage

        check_initializable(LocalStorage(place))
    else:
        from casckpt import store as api

        call.outcome = "repeat it to make the store whole"
        api.init(place).close()
        call.place = place
    return Answer(
        lambda: {"path": place, "dry_run": dry_run},
        lambda _: [f"{'would make' if dry_run else 'made'} a store at {safe(place)}"],
        confirms=not dry_run,
    )
