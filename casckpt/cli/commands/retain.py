"""casckpt retain."""

from __future__ import annotations

import os
from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.errors import InvalidRetention, UsageError

MAX_POLICY_BYTES = 1 << 20


@command(
    "casckpt retain --keep-last 3 --keep-best 2 --metric val/loss:min --dry-run",
    "casckpt retain --keep-last 1 --every '1000 steps' -r gpt",
    "casckpt retain --policy retention.toml",
)
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep the N newest of each run.")
@click.option("--keep-best", type=click.IntRange(min=0), metavar="N", help="Keep the N best of each run.")
@click.option("--metric", metavar="KEY:min|max", help="What best means.  [default: the rule of the run]")
@click.option("--every", metavar="PERIOD", multiple=True, help="Keep one each '1000 steps', '5 epochs' or 12h.")
@click.option("--policy", metavar="FILE", help="A policy in TOML; the options above go before.")
@click.option("-r", "--run", help="Only the commits of a run.")
@dry_run
def retain_command(
    call: Call,
    keep_last: int | None,
    keep_best: int | None,
    metric: str | None,
    every: tuple[str, ...],
    policy: str | None,
    run: str | None,
    dry_run: bool,
) -> Answer:
    """Drop what a retention policy lets go.

    Every commit is shown with what keeps it or lets it go. What has a tag or pin and the last, best and recovery of a
    run stay. casckpt undo brings back what was dropped. In this release this frees no bytes.
    """
    from casckpt.plan.policy import Retention
    from casckpt.view.lifetime import retain_lines

    layers = [] if policy is None else [Retention.from_toml(_text(policy))]
    said = _said(keep_last, keep_best, metric, every)
    if said or not layers:
        layers.append(Retention.from_dict(said))
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


def _said(keep_last: int | None, keep_best: int | None, metric: str | None, every: tuple[str, ...]) -> dict[str, Any]:
    """The policy that the options say."""
    said: dict[str, Any] = {"keep_last": keep_last, "keep_best": keep_best}
    if metric is not None:
        name, colon, mode = metric.rpartition(":")
        said |= {"metric": name, "mode": mode} if colon and mode in ("min", "max") else {"metric": metric}
    if every:
        said["keep_periodic"] = list(every)
    return {key: value for key, value in said.items() if value is not None}


def _text(path: str) -> str:
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
