"""casckpt commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.syncing import holding, under_lock
from casckpt.errors import CasckptError, RefExists, UsageError
from casckpt.units import parse_int
from casckpt.view.text import would

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from casckpt.odb.coder import Compress
    from casckpt.ops.values import CommitInfo
    from casckpt.store import Store

NOTHING = "nothing was committed"
NONFINITE = "commit.nonfinite"
"""Code of the warning that a state holds NaN or infinities."""
UNSURE = "the commit may have been made: casckpt log tells"


class Metric(click.ParamType[tuple[str, int | float]]):
    """`K=V`: a name and a number, nan and inf included."""

    name = "K=V"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | float]:
        name, _, text = str(value).rpartition("=")
        measured = _number(text)
        if not name or measured is None:
            self.fail(f"{value!r} is not NAME=NUMBER.", param, ctx)
        return name, measured

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[tuple[str, int | float]]]:
        from casckpt.cli.complete import values

        return cast("list[CompletionItem[tuple[str, int | float]]]", values(ctx, param, incomplete))


class Number(click.ParamType[int | float]):
    """A whole number where it is one, else a float."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        found = _number(str(value))
        return self.fail(f"{value!r} is no number.", param, ctx) if found is None else found


def _number(text: str) -> int | float | None:
    """The number in a text: an int if it is written as one, None if it is none."""
    whole = parse_int(text)
    if whole is not None or "_" in text:
        return whole
    try:
        return float(text)
    except ValueError:
        return None


@command(
    "casckpt commit out/ -r gpt -s 1200 --metric val/loss=0.231",
    'casckpt commit model.safetensors config.json -m "warm restart" --tag v1',
    "casckpt commit out/ -r gpt --metric val/loss=0.2 --best val/loss:min",
    "casckpt commit out/ -r gpt --lock gpt --wait 30s",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--run", help="The series of commits it belongs to.  [default: the setting run, else main]")
@click.option("-s", "--step", type=int, help="Step of the optimizer.")
@click.option("--epoch", type=Number(), help="Passes over the data, may be a fraction.")
@click.option("--metric", "metrics", type=Metric(), multiple=True, metavar="K=V", help="A measured number; repeatable.")
@click.option("-m", "--message", default="", help="What to remember of it.")
@click.option("--kind", type=click.Choice(["step", "recovery", "final"]), default="step", help="What it is kept for.")
@click.option("--best", metavar="METRIC:min|max", help="From now on the rule for RUN/best.")
@click.option("--tag", metavar="NAME", help="Also give it a name that never moves.")
@click.option(
    "--compress",
    type=click.Choice(["auto", "always", "off"]),
    help="Encode new data: where it costs no time, always, never.  [default: the setting compress, else auto]",
)
@under_lock
@click.option("--remote", metavar="REMOTE", help="With --lock: the remote.  [default: origin, or the only one]")
@dry_run
def commit_command(
    call: Call,
    paths: tuple[str, ...],
    run: str | None,
    step: int | None,
    epoch: int | float | None,
    metrics: tuple[tuple[str, int | float], ...],
    message: str,
    kind: str,
    best: str | None,
    tag: str | None,
    compress: Compress | None,
    lock: str | None,
    wait_s: int | None,
    remote: str | None,
    dry_run: bool,
) -> Answer:
    """Commit files or folders.

    When this ends with success, the commit survives a crash and a power loss. Data the store has already is not
    written again.
    """
    from casckpt.view.history import nonfinite_warning, one_line

    store = call.open("run", "compress", "threads", "upkeep", "health_gate")
    if remote is not None and lock is None:
        raise UsageError(problem="--remote is for the lock that --lock names")
    with holding(store, remote, lock, wait_s, dry_run=dry_run) as held, call.progress("commit") as progress:
        if tag is not None:
            _require_free(store, tag)
        try:
            info = store.commit_path(
                *paths,
                run=run,
                step=step,
                epoch=epoch,
                metrics=dict(metrics),
                message=message,
                kind=kind,
                best=best,
                compress=compress,
                lock=held,
                dry_run=dry_run,
                progress=progress,
            )
        except BaseException:  # said only if it comes from an interrupt
            is_early = progress.total is not None and progress.done < progress.total
            call.outcome = NOTHING if is_early else UNSURE
            raise
        if tag is not None and not dry_run:
            info = _tagged(call, store, tag, info)
    if info.nonfinite:
        gate = bool(call.settings.get("health_gate"))
        said = nonfinite_warning(info.nonfinite, info.nonfinite_paths, gate=gate)
        call.warn(NONFINITE, f"commit {info.short} {said}")
    return Answer(
        lambda: {"commit": info.to_dict(), "dry_run": dry_run},
        lambda look: [one_line(info, look) + would(dry_run)],
        confirms=not dry_run,
    )


def _require_free(store: Store, tag: str) -> None:
    """Refuse a tag that cannot be given before anything is committed."""
    from casckpt.plan.names import check_name

    check_name("tag", tag)
    named = store.status().tags.get(tag)
    if named is not None:
        raise RefExists(ref=f"tag {tag!r}", actual=named[:12])


def _tagged(call: Call, store: Store, tag: str, info: CommitInfo) -> CommitInfo:
    call.outcome = f"commit {info.short} was made, but not tagged"
    try:
        return store.tag(tag, f"id:{info.id}")
    except CasckptError as error:
        call.note(call.outcome)
        error.facts["commit"] = info.id
        raise
