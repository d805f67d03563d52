"""casckpt log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command

if TYPE_CHECKING:
    from casckpt.ops.graph import GraphRow
    from casckpt.ops.storage import StorageInfo
    from casckpt.store import CommitInfo, Store

    Stat = Callable[[CommitInfo], StorageInfo | None]


@command(
    "casckpt log -n 20",
    "casckpt log --graph --all -n 50",
    "casckpt log gpt..wide --metrics val/loss,lr",
    "casckpt log --all -w 'val/loss < 0.3'",
)
@click.argument("rev", required=False)
@click.option("-r", "--run", help="The history of a run.")
@click.option("--all", "every", is_flag=True, help="All commits that a run or tag leads to.")
@click.option("--graph", is_flag=True, help="Draw how commits come from each other.")
@click.option("-w", "--where", metavar="FILTER", help="Only commits it fits, as 'val/loss<0.4 and step>1000'.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most this many commits.")
@click.option("--metrics", metavar="K,...", help="Which metrics to show, in this order.")
@click.option("--stat", is_flag=True, help="Also what each commit changed, by ids.")
@click.option("--oneline", is_flag=True, help="A line a commit, without messages.")
def log_command(
    call: Call,
    rev: str | None,
    run: str | None,
    every: bool,
    graph: bool,
    where: str | None,
    limit: int | None,
    metrics: str | None,
    stat: bool,
    oneline: bool,
) -> Answer:
    """Show the history, newest first.

    The commits that lead to REV; without it those of the run with the newest commit. A..B are those that lead to B
    and not to A, A...B those that lead to one of them and not to both.
    """
    if sum((rev is not None, run is not None, every)) > 1:
        raise click.UsageError("give one of REV, --run and --all")
    keys = None if metrics is None else tuple(key.strip() for key in metrics.split(","))
    if keys is not None and not all(keys):
        raise click.UsageError("--metrics needs names with commas between them, as val/loss,lr")
    revision = None if every else rev if rev is not None else "@" if run is None else f"runs/{run}"
    store = call.open()
    # An empty store has an empty history; only a name that was given can be missing.
    is_empty = revision == "@" and rev is None and next(store.log(limit=1), None) is None
    line: Iterator[Any] = iter(())
    if not is_empty:
        line = (store.graph if graph else store.log)(revision, limit=limit, where=where)
    first = next(line, None)
    if first is None:
        empty = "no commits yet: casckpt commit PATH makes the first" if rev is None else f"no commits in {rev}"
        call.note(empty if where is None else f"no commits with {where}")
    # Read as they are printed.
    found = line if first is None else chain((first,), line)
    stat_of = _stat_of(store) if stat else None
    return _drawn(found, stat_of, keys, oneline) if graph else _listed(found, stat_of, keys, oneline)


def _listed(commits: Iterable[CommitInfo], stat: Stat | None, keys: tuple[str, ...] | None, oneline: bool) -> Answer:
    from casckpt.view.history import LogForm, log_lines

    def records() -> Iterator[Mapping[str, Any]]:
        return (_record(commit, stat) for commit in commits)

    return Answer(
        lambda: {"commits": list(records())},
        lambda look: log_lines(commits, look, LogForm(not oneline, keys, stat)),
        records=records,
        record="commit",
    )


def _drawn(rows: Iterable[GraphRow], stat: Stat | None, keys: tuple[str, ...] | None, oneline: bool) -> Answer:
    from casckpt.view.graph import graph_lines
    from casckpt.view.history import LogForm

    def data() -> Mapping[str, Any]:
        found = list(rows)
        commits = [_record(one.commit, stat) for one in found if one.commit is not None]
        return {"commits": commits, "graph": [one.to_dict() for one in found]}

    return Answer(
        data,
        lambda look: graph_lines(rows, look, LogForm(not oneline, keys, stat)),
        records=lambda: (_record(one.commit, stat) for one in rows if one.commit is not None),
        record="commit",
    )


def _record(commit: CommitInfo, stat: Stat | None) -> Mapping[str, Any]:
    if stat is None:
        return commit.to_dict()
    found = stat(commit)
    return {**commit.to_dict(), "stat": None if found is None else found.to_dict()}


def _stat_of(store: Store) -> Stat:
    """What a commit changed, None of one whose tree is not whole any more."""
    return lambda commit: None if commit.dropped or commit.thinned else store.storage(f"id:{commit.id}")
