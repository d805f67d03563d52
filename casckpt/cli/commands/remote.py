"""casckpt remote add, list, set, remove, probe, log, conflicts, lock, unlock, locks, publish, gc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.commands.retain import policy_text
from casckpt.cli.confirm import confirm, yes_option
from casckpt.cli.options import CommandGroup, command, dry_run
from casckpt.cli.syncing import Duration, limit_rate
from casckpt.plan.remote_settings import REMOTE_KEYS
from casckpt.units import format_duration
from casckpt.view import text as t


def access_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a remote is reached, by the names of their settings."""
    kinds = REMOTE_KEYS["credentials"].choices
    for option in (
        click.option(
            "--single-writer", is_flag=True, help="Accept that a key can be written twice; one machine pushes."
        ),
        click.option("--credentials", type=click.Choice(kinds), help="Where credentials come from."),
        click.option("--allow-http", is_flag=True, help="Allow what is not encrypted on its way."),
        click.option("--host-style", is_flag=True, help="The bucket stands in the host of addresses, not in the path."),
        click.option("--endpoint", metavar="URL", help="The address of a service that speaks as S3 does."),
        click.option("--region", metavar="NAME", help="The region of the service."),
        click.option("--profile", metavar="NAME", help="The profile that has the credentials."),
    ):
        function = option(function)
    return function


def said(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that were given, as settings."""
    found = {key: value for key, value in options.items() if value not in (None, False)}
    return found | ({"path_style": False} if found.pop("host_style", False) else {})


@command(
    "casckpt remote add origin s3://bucket/checkpoints --profile lab",
    "casckpt remote add nas /mnt/nas/checkpoints",
    "casckpt remote add lab s3://bucket --endpoint https://minio.lab:9000",
)
@click.argument("new", metavar="NAME")
@click.argument("url")
@access_options
@click.option("--no-probe", is_flag=True, help="Do not try it out.")
@dry_run
def add_command(call: Call, new: str, url: str, no_probe: bool, dry_run: bool, **options: Any) -> Answer:
    """Make a remote known under a name.

    URL is s3://BUCKET/PREFIX, gs://, az://, https:// to read only, or the path of a folder that machines share, which
    must be there. It is tried out first. Credentials come from the environment or a profile and are never kept here.
    """
    from casckpt.view.remotes import remote_line

    store = call.open()
    call.outcome = "casckpt remote list shows the remotes"
    remote = store.add_remote(new, url, probe=not no_probe, dry_run=dry_run, **said(options))
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


@command("casckpt remote probe", "casckpt remote probe origin")
@click.argument("remote", metavar="[NAME]", required=False)
@dry_run
def probe_command(call: Call, remote: str | None, dry_run: bool) -> Answer:
    """Try out what a remote can do.

    A small object is created twice, read back in every way and deleted.
    """
    from casckpt.view.syncing import probe_lines

    store = call.open()
    call.outcome = "a small object may be left there; a gc of the remote removes it"
    report = store.probe_remote(remote, dry_run=dry_run)
    return Answer(
        lambda: {"action": "probe", "probe": report.to_dict(), "dry_run": dry_run},
        lambda look: probe_lines(report, look),
    )


@command("casckpt remote log", "casckpt remote log origin -n 5")
@click.argument("remote", metavar="[NAME]", required=False)
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", default=20, help="The N newest.  [default: 20]")
def log_command(call: Call, remote: str | None, limit: int) -> Answer:
    """Show who changed a remote when, newest first.

    It tells which refs moved. One request is made for each root.
    """
    from casckpt.view.syncing import remote_log_lines

    store = call.open()
    changes = list(store.remote_log(remote, limit=limit))
    if not changes:
        call.note("nothing was pushed there yet")
    return Answer(
        lambda: {"action": "log", "changes": [change.to_dict() for change in changes]},
        lambda look: remote_log_lines(changes, look),
        records=lambda: (change.to_dict() for change in changes),
        record="root",
    )


@command("casckpt remote conflicts", "casckpt remote conflicts origin")
@click.argument("remote", metavar="[NAME]", required=False)
def conflicts_command(call: Call, remote: str | None) -> Answer:
    """List the commits that lost a run or tag of a remote to others.

    --on-conflict newest keeps them there under conflicts/.
    """
    from casckpt.view.syncing import conflicts_lines

    found = call.open().remote_conflicts(remote)
    if not found:
        call.note("no commit lost anything there")
    return Answer(
        lambda: {"action": "conflicts", "conflicts": [one.to_dict() for one in found]},
        lambda look: conflicts_lines(found, look),
        records=lambda: (one.to_dict() for one in found),
        record="conflict",
    )


@command("casckpt remote lock origin gpt", "casckpt remote lock origin gpt --ttl 1h --wait 2h")
@click.argument("remote")
@click.argument("lock", metavar="NAME")
@click.option("--ttl", "ttl_s", type=Duration(), default=600, help="How long it lives.  [default: 10min]")
@click.option("--wait", "wait_s", type=Duration(), default=0, help="How long to wait for it, as 30s.")
@dry_run
def lock_command(call: Call, remote: str, lock: str, ttl_s: int, wait_s: int, dry_run: bool) -> Answer:
    """Take a lock of a remote, or renew it.

    This store keeps it until casckpt remote unlock: commit --lock NAME and push --lock NAME use and renew it. Others
    may take it over once it was not renewed for so long as it lives.
    """
    store = call.open()
    call.outcome = "casckpt remote locks tells who holds it"
    if dry_run:
        store.unlock_remote(remote, lock, dry_run=True)  # who could let go of it could also take it
    else:
        store.lock_remote(remote, lock, ttl_s=ttl_s, wait_s=wait_s, keep=True)
    said = f"lock {t.safe(lock)} of {t.safe(remote)} for {format_duration(ttl_s)}"
    return Answer(
        lambda: {"action": "lock", "name": lock, "ttl_s": ttl_s, "dry_run": dry_run},
        lambda _: [f"{'would hold' if dry_run else 'holding'} {said}"],
        confirms=not dry_run,
    )


@command("casckpt remote unlock origin gpt", "casckpt remote unlock origin gpt --break")
@click.argument("remote")
@click.argument("lock", metavar="NAME")
@click.option("--break", "force", is_flag=True, help="Take it away from whoever holds it.")
@yes_option
@dry_run
def unlock_command(call: Call, remote: str, lock: str, force: bool, yes: bool, dry_run: bool) -> Answer:
    """Let go of a lock that this store keeps.

    With --break it is taken from whoever holds it: what they commit or push under it is refused from then on.
    """
    from casckpt.view.remotes import unlocked_line

    store = call.open()
    found = store.unlock_remote(remote, lock, force=force, dry_run=True)
    if found is not None and not found.is_kept and not dry_run:
        confirm(call, f"taking lock {t.safe(lock)} from {t.safe(found.owner)}", lock, yes=yes)
    call.outcome = "casckpt remote locks tells whether it is held"
    if not dry_run:
        found = store.unlock_remote(remote, lock, force=force)
    return Answer(
        lambda: {"action": "unlock", "lock": None if found is None else found.to_dict(), "dry_run": dry_run},
        lambda _: [unlocked_line(lock, remote, found, dry_run=dry_run)],
        confirms=not dry_run,
    )


@command("casckpt remote locks", "casckpt remote locks origin")
@click.argument("remote", metavar="[NAME]", required=False)
def locks_command(call: Call, remote: str | None) -> Answer:
    """List the locks of a remote that somebody holds."""
    from casckpt.view.remotes import locks_lines

    found = call.open().remote_locks(remote)
    if not found:
        call.note("nobody holds a lock there")
    return Answer(
        lambda: {"action": "locks", "locks": [one.to_dict() for one in found]},
        lambda look: locks_lines(found, look),
        records=lambda: (one.to_dict() for one in found),
        record="lock",
    )


@command("casckpt remote publish", "casckpt remote publish origin")
@click.argument("remote", metavar="[NAME]", required=False)
@dry_run
def publish_command(call: Call, remote: str | None, dry_run: bool) -> Answer:
    """Publish what readers over plain HTTP may see.

    A web server lists nothing. So a small file on the remote names its roots, and is written anew whenever such readers
    are to see what was pushed since. Needs credentials that may delete.
    """
    store = call.open()
    call.outcome = "readers over HTTP may find no list until casckpt remote publish is repeated"
    count = store.publish_remote(remote, dry_run=dry_run)
    said = f"{'would publish' if dry_run else 'published'} {t.plural(count, 'root')}"
    return Answer(
        lambda: {"action": "publish", "roots": count, "dry_run": dry_run}, lambda _: [said], confirms=not dry_run
    )


@command("casckpt remote gc --dry-run", "casckpt remote gc origin", "casckpt remote gc origin --now --yes")
@click.argument("remote", metavar="[NAME]", required=False)
@click.option("--now", is_flag=True, help="Remove at once, and end the graces of drops there.")
@click.option("--no-repack", is_flag=True, help="Only remove; write nothing again.")
@click.option("--policy", metavar="FILE", help="Drop there what a retention policy in TOML lets go.")
@limit_rate
@yes_option
@dry_run
def gc_command(
    call: Call,
    remote: str | None,
    now: bool,
    no_repack: bool,
    policy: str | None,
    limit_rate: str | None,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Free what no ref of a remote needs any more.

    What nothing needs is condemned first, and removed by a call an hour later or after, so that who reads there can
    finish. Others may push and fetch meanwhile.
    """
    from casckpt.plan.policy import Retention
    from casckpt.view.syncing import remote_gc_lines

    kept = None if policy is None else Retention.from_toml(policy_text(policy))
    store = call.open()
    words: dict[str, Any] = {"now": now, "repack": not no_repack, "limit_rate": limit_rate}
    if (now or kept is not None) and not (dry_run or yes):
        going = len(store.gc_remote(remote, kept, dry_run=True, **words).plan.commits)
        if going:
            what = f"letting go of {t.plural(going, 'commit')} there"
            confirm(call, what, str(going), yes=yes)
    call.outcome = "what was removed until then is freed; casckpt remote gc goes on"
    with call.progress("gc") as progress:
        report = store.gc_remote(remote, kept, dry_run=dry_run, progress=progress, **words)
    return Answer(
        lambda: {"action": "gc", "gc": report.to_dict(), "dry_run": dry_run},
        lambda look: remote_gc_lines(report, look),
        records=lambda: (commit.to_dict() for commit in report.plan.commits),
        record="leaving",
    )


remote_command = CommandGroup(
    "remote",
    ("casckpt remote add origin s3://bucket/checkpoints", "casckpt remote list", "casckpt remote log origin"),
    commands=[
        add_command,
        list_command,
        set_command,
        remove_command,
        probe_command,
        log_command,
        conflicts_command,
        lock_command,
        unlock_command,
        locks_command,
        publish_command,
        gc_command,
    ],
    help="Add, list, change, look at and clean remotes.",
)
