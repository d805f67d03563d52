"""casckpt remote add, list, set, remove."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import CommandGroup, command, dry_run
from casckpt.plan.remote_settings import REMOTE_KEYS


@command(
    "casckpt remote add origin s3://bucket/checkpoints --profile lab",
    "casckpt remote add nas /mnt/nas/checkpoints",
    "casckpt remote add lab s3://bucket --endpoint https://minio.lab:9000 --path-style",
)
@click.argument("new", metavar="NAME")
@click.argument("url")
@click.option("--profile", metavar="NAME", help="The profile that has the credentials.")
@click.option("--region", metavar="NAME", help="The region of the service.")
@click.option("--endpoint", metavar="URL", help="The address of a service that speaks as S3 does.")
@click.option("--path-style", is_flag=True, help="The bucket stands in the path of addresses.")
@click.option("--allow-http", is_flag=True, help="Allow what is not encrypted on its way.")
@click.option(
    "--credentials", type=click.Choice(REMOTE_KEYS["credentials"].choices), help="Where credentials come from."
)
@click.option("--single-writer", is_flag=True, help="Only this machine pushes, as a key can be written twice there.")
@dry_run
def add_command(call: Call, new: str, url: str, dry_run: bool, **options: Any) -> Answer:
    """Make a remote known under a name.

    URL is s3://BUCKET/PREFIX, or the path of a folder that machines share. Credentials come from the environment or a
    profile and are never kept here.
    """
    from casckpt.view.remotes import remote_line

    store = call.open()
    call.outcome = "casckpt remote list shows the remotes"
    said = {key: value for key, value in options.items() if value not in (None, False)}
    remote = store.add_remote(new, url, dry_run=dry_run, **said)
    return Answer(
        lambda: {"action": "add", "remote": remote.to_dict(), "dry_run": dry_run},
        lambda _: [remote_line("would add" if dry_run else "added", remote)],
        confirms=not dry_run,
    )


@command("casckpt remote list", "casckpt remote list --tsv name,url")
def list_command(call: Call) -> Answer:
    """List the remotes of this store."""
    from casckpt.view.remotes import remotes_lines

    found = call.open().remotes()
    if not found:
        call.note("no remote yet: casckpt remote add NAME URL")
    return Answer(
        lambda: {"action": "list", "remotes": [remote.to_dict() for remote in found]},
        lambda look: remotes_lines(found, look),
        records=lambda: (remote.to_dict() for remote in found),
        record="remote",
    )


@command("casckpt remote set origin limit_rate 20MB", "casckpt remote set origin limit_rate")
@click.argument("remote", metavar="NAME")
@click.argument("remote_key", metavar="KEY")
@click.argument("value", required=False)
@dry_run
def set_command(call: Call, remote: str, remote_key: str, value: str | None, dry_run: bool) -> Answer:
    """Change one thing that is known of a remote.

    Without VALUE the key is taken away. casckpt help settings tells which there are.
    """
    from casckpt.view.remotes import remote_line

    store = call.open()
    call.outcome = "casckpt remote list shows the remotes"
    found = store.set_remote(remote, remote_key, value, dry_run=dry_run)
    return Answer(
        lambda: {"action": "set", "remote": found.to_dict(), "dry_run": dry_run},
        lambda _: [remote_line("would be" if dry_run else "is now", found)],
        confirms=not dry_run,
    )


@command("casckpt remote remove nas")
@click.argument("remote", metavar="NAME")
@dry_run
def remove_command(call: Call, remote: str, dry_run: bool) -> Answer:
    """Know a remote no more.

    It keeps what it holds, and this store its commits. What was fetched of its refs is known no more.
    """
    from casckpt.view.remotes import remote_line

    store = call.open()
    call.outcome = "the same command again goes on"
    found = store.remove_remote(remote, dry_run=dry_run)
    return Answer(
        lambda: {"action": "remove", "remote": found.to_dict(), "dry_run": dry_run},
        lambda _: [remote_line("would remove" if dry_run else "removed", found)],
        confirms=not dry_run,
    )


remote_command = CommandGroup(
    "remote",
    ("casckpt remote add origin s3://bucket/checkpoints", "casckpt remote list", "casckpt remote remove origin"),
    commands=[add_command, list_command, set_command, remove_command],
    help="Add, list and change remotes.",
)
