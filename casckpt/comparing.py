"""The part of `Store` that compares: two commits, and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.comparison import Comparison
    from casckpt.ops.diff import DiffWords, Part
    from casckpt.ops.reports import Diff
    from casckpt.plan.series import Axis


class Comparing:
    """Comparing, for `Store` alone; every method delegates to one operation."""

    _repository: Repository

    def diff(
        self,
        before: str,
        after: str,
        *,
        values: bool = False,
        parts: Sequence[Part] = ("metadata", "tree"),
        **words: Unpack[DiffWords],
    ) -> Diff:
        """What differs: metrics and configuration, and the states by path.

        Args:
            values: also measure how far numbers are apart; large tensors are compared by ids, and read only for this.
            parts: `metadata`, `tree` or both.

        Raises:
            CommitDropped: a state is gone, and the tree is among the parts.
        """
        from casckpt.ops.diff import diff_commits
        from casckpt.ops.history import resolve

        database = self._repository.database
        commits = resolve(database, before), resolve(database, after)
        return diff_commits(database, *commits, values, self._repository.threads, parts, **words)

    def compare(
        self,
        left: str,
        right: str,
        *more: str,
        metrics: Sequence[str] | None = None,
        x: Axis = "step",
        points: int = 200,
        values: bool = False,
        **words: Unpack[DiffWords],
    ) -> Comparison:
        """Runs side by side: where they part, what was set otherwise, how their metrics went, which one is better.

        Args:
            left, right, more: runs, or any revisions with what led to them; the first is what others are compared with.
            metrics: names, as `val/loss` or, where no run has a rule for it, `val/loss:min`; None for all.
            x: what curves are aligned by: `step`, `epoch`, or `time` since a run's first commit of its own.
            points: into how many a longer curve is gathered; each has the least and the greatest number in it.
            values, words: as of `diff`, for the states of the last commits.

        Raises:
            RevisionNotFound: nothing has that name. MetricNotFound: no run has such a metric.
        """
        from casckpt.ops.compare import compare_runs

        return compare_runs(
            *(self._repository.database, (left, right, *more)),
            metrics=metrics, x=x, points=points, values=values, threads=self._repository.threads, **words,
        )  # fmt: skip
