"""The history as a graph: commits in lanes, with the edges to their parents and gaps where some are left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casckpt.errors import UsageError
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import describe, narrowed, refs_by_commit, walk
from casckpt.ops.values import CommitInfo
from casckpt.plan.lanes import DROPPED, HIDDEN, OUTSIDE, SHOWN, Node, Row, rows


@dataclass(frozen=True, slots=True)
class GraphRow:
    """One row of a drawn history; `commit` is None in rows of edges and gaps."""

    row: Row
    commit: CommitInfo | None = None

    def to_dict(self) -> dict[str, Any]:
        row = self.row
        return {
            "kind": row.kind,
            "commit": None if row.identity is None else row.identity.hex(),
            "lane": row.lane,
            "above": list(row.above),
            "below": list(row.below),
            "tied": list(row.tied),
            "gaps": list(row.gaps),
            "hidden": row.hidden,
            "dropped": row.dropped,
            "missing": row.missing,
        }


def graph(
    database: Database, revision: str | None = None, limit: int | None = None, where: str | None = None
) -> Iterator[GraphRow]:
    """What `log` gives, as the rows of a drawing.

    Dropped commits that no ref names are gaps, unless a filter wants them.

    Args:
        limit: the most commits that are drawn.

    Cost: as of `log`, one index look-up more a parent, and the lines that are open.
    """
    if limit is not None and limit < 0:
        raise UsageError(problem=f"limit must be 0 or more, not {limit}")
    if limit == 0:
        return
    commits: dict[CommitId, Commit] = {}
    nodes = _nodes(database, revision, where, commits)
    refs: dict[CommitId, list[str]] | None = None
    drawn = 0

    def wanted() -> Iterator[Node]:
        for node in nodes:
            yield node
            if drawn == limit:
                return

    for row in rows(wanted()):
        commit = None
        if row.kind == "commit" and row.identity is not None:
            # Read after the walk began, since that looks what is new in the store.
            refs = refs_by_commit(database) if refs is None else refs
            commit = describe(database, row.identity, refs, commits.pop(row.identity))
            drawn += 1
        yield GraphRow(row, commit)


def _nodes(
    database: Database, revision: str | None, where: str | None, commits: dict[CommitId, Commit]
) -> Iterator[Node]:
    """The commits to draw, and those that lines go over or end at. Those that are drawn are left in `commits`."""
    line = walk(database, revision)
    named = set(database.refs().values())
    passed: deque[tuple[CommitId, Commit, bool]] = deque()

    def inside() -> Iterator[tuple[CommitId, Commit]]:
        for identity, commit, is_inside in line:
            passed.append((identity, commit, is_inside))
            if is_inside:
                yield identity, commit

    def node(identity: CommitId, commit: Commit, kind: str) -> Node:
        if kind == SHOWN:
            commits[identity] = commit
        missing = tuple(parent for parent in commit.parents if not database.has_commit(parent))
        return Node(identity, commit.parents, kind, missing)

    for identity, commit in narrowed(database, inside(), where):
        while passed[0][0] != identity:
            yield node(*_skipped(passed.popleft()))
        passed.popleft()
        drop = database.drop(identity) if where is None and identity not in named else None
        yield node(identity, commit, DROPPED if drop is not None and drop.parts is None else SHOWN)
    for one in passed:
        yield node(*_skipped(one))


def _skipped(passed: tuple[CommitId, Commit, bool]) -> tuple[CommitId, Commit, str]:
    identity, commit, is_inside = passed
    return identity, commit, HIDDEN if is_inside else OUTSIDE
