"""casckpt retain."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.errors import InvalidRetention, UsageError

if TYPE_CHECKING:
    from casckpt.plan.policy import Retention

MAX_POLICY_BYTES = 1 << 20


@command(
    "casckpt retain --keep-last 3 --keep-best 2 --metric val/loss:min --dry-run",
    "casckpt retain --keep-last 1 --every '1000 steps' -r gpt",
    "casckpt retain --policy retention.toml",
    "casckpt retain --save --keep-last 3 --every '1000 steps' --grace 3d",
    "casckpt retain",
    "casckpt retain --show",
)
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep the N newest of each run.")
@click.option("--keep-best", type=click.IntRange(min=0), metavar="N", help="Keep the N best of each run.")
@click.option("--metric", metavar="KEY:min|max", help="What best means.  [default: the rule of the run]")
@click.option("--every", metavar="PERIOD", multiple=True, help="Keep one each '1000 steps', '5 epochs' or 12h.")
@click.option("--policy", metavar="FILE", help="A policy in TOML; the options above go before.")
@click.option("-r", "--run", help="Only the commits of a run; keep or show the policy of that run alone.")
@click.option("--save", "action", flag_value="save", help="Keep this policy for later calls, and drop nothing.")
@click.option("--grace", metavar="TIME", help="With --save: how long a drop can be undone.  [default: 1d]")
@click.option("--show", "action", flag_value="show", help="Show the policies that are kept.")
@click.option("--forget-policy", "action", flag_value="forget", help="Keep no policy any more.")
@dry_run
def retain_command(
    call: Call,
    keep_last: int | None,
    keep_best: int | None,
    metric: str | None,
    every: tuple[str, ...],
    policy: str | None,
    run: str | None,
    action: str | None,
    grace: str | None,
    dry_run: bool,
) -> Answer:
    """Drop what a retention policy lets go.

    The policy is the one the store keeps, then that of the run, then what the options say. Every commit is shown with
    what keeps it or lets it go. What has a tag or pin and the last, best and recovery of a run stay. casckpt undo
    brings back what was dropped until casckpt gc frees it.
    """
    from casckpt.plan.policy import Retention

    said = _said(keep_last, keep_best, metric, every, grace)
    if grace is not None and action != "save":
        raise UsageError(problem="--grace belongs to a policy that is kept: give it with --save")
    if action in ("show", "forget"):
        if said or policy is not None:
            raise UsageError(problem="--show and --forget-policy take no policy")
        return _show(call, run) if action == "show" else _keep(call, None, run, dry_run=dry_run)
    layers = [] if policy is None else [Retention.from_toml(policy_text(policy))]
    if action == "save":
        if layers and said:
            raise UsageError(problem="--save takes a policy from --policy or from options, not from both")
        return _keep(call, layers[0] if layers else Retention.from_dict(said), run, dry_run=dry_run)
    return _apply(call, [*layers, *([Retention.from_dict(said)] if said else [])], run, dry_run=dry_run)


def _apply(call: Call, layers: list[Retention], run: str | None, *, dry_run: bool) -> Answer:
    from casckpt.view.lifetime import retain_lines

    store = call.open()
    call.outcome = "casckpt undo --list shows whether it was done"
    report = store.retain(layers, run=run, dry_run=dry_run)
    if not report.fates:
        call.note("no commits yet")
    elif report.left:
        call.note(f"{report.left} more wait: the same command again drops them")
    elif report.plan.dropped or report.plan.thinned:
        say_undo(call, dry_run=dry_run)
    return Answer(
        report.to_dict,
        lambda look: retain_lines(report, look),
        records=lambda: (fate.to_dict() for fate in report.fates),
        record="fate",
    )


def _show(call: Call, run: str | None) -> Answer:
    from casckpt.view.lifetime import policies_lines

    kept = call.open().retention()
    if not kept.layers:
        call.note("no policy is kept: casckpt retain --save keeps one")
    holds = {} if run is None else {"run": run, "holds": kept.of(run).to_dict()}
    return Answer(lambda: kept.to_dict() | holds, lambda look: policies_lines(kept, run, look))


def _keep(call: Call, policy: Retention | None, run: str | None, *, dry_run: bool) -> Answer:
    from casckpt.view.lifetime import kept_line

    call.outcome = "casckpt retain --show tells what is kept"
    changed = call.open().set_retention(policy, run=run, dry_run=dry_run)
    if run is not None or not changed:
        say_undo(call, dry_run=dry_run, changed=changed)
    table = None if policy is None else policy.to_dict()
    return Answer(
        lambda: {"run": run, "policy": table, "changed": changed, "dry_run": dry_run},
        lambda _: [kept_line(table, run, dry_run=dry_run)],
        confirms=not dry_run,
    )


def _said(
    keep_last: int | None, keep_best: int | None, metric: str | None, every: tuple[str, ...], grace: str | None
) -> dict[str, Any]:
    """The policy that the options say."""
    said: dict[str, Any] = {"keep_last": keep_last, "keep_best": keep_best, "grace": grace}
    if metric is not None:
        name, colon, mode = metric.rpartition(":")
        said |= {"metric": name, "mode": mode} if colon and mode in ("min", "max") else {"metric": metric}
    if every:
        said["keep_periodic"] = list(every)
    return {key: value for key, value in said.items() if value is not None}


def policy_text(path: str) -> str:
    """The text of a policy file."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise UsageError(problem=f"cannot read {path!r}: {os.strerror(error.errno or 0)}") from error
    if len(data) > MAX_POLICY_BYTES:
        raise InvalidRetention(key="retention", problem=f"the file has more than {MAX_POLICY_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRetention(key="retention", problem=f"the file is no UTF-8: {error}") from error
