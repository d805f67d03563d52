"""Runs side by side, as text."""

import math
from typing import Any

from casckpt.ops.comparison import (
    CheckResult,
    ComparedRun,
    Comparison,
    MetricComparison,
    MetricValue,
    RunMetric,
    TipDiff,
)
from casckpt.plan.fields import NO_DIFFERENCES, metadata_differences
from casckpt.plan.series import Point, Standing
from casckpt.plan.verdict import Verdict
from casckpt.view.comparison import comparison_differs, comparison_lines
from casckpt.view.text import Look
from tests.unit.view.test_compare import diff
from tests.unit.view.test_history import commit

LOOK = Look(0, ascii=True)


def value(number: float, step: int | None = 10, epoch: float | None = None) -> MetricValue:
    return MetricValue(number, "ab" * 32, step, epoch)


def run_metric(*numbers: float) -> RunMetric:
    points = tuple(
        Point(x, x, y, y, 1, 0) if math.isfinite(y) else Point(x, x, None, None, 1, 1) for x, y in enumerate(numbers)
    )
    finite = [number for number in numbers if math.isfinite(number)]
    lowest, highest = (value(min(finite)), value(max(finite))) if finite else (None, None)
    last = value(numbers[-1]) if numbers else None
    return RunMetric(len(numbers), len(numbers) - len(finite), last, lowest, lowest, highest, points)


def metric(name: str, *runs: RunMetric, mode: Any = "min") -> MetricComparison:
    return MetricComparison(name, mode, runs, tuple(Standing(1, 0, 0) for _ in runs[1:]))


def compared(**given: Any) -> Comparison:
    base = ComparedRun("base", commit(run="base", id="a" * 64), 2, commit(step=100, id="c" * 64), "val/loss:min")
    wide = ComparedRun("wide", commit(run="wide", id="b" * 64), 0, None, None)
    values: dict[str, Any] = {
        "runs": (base, wide), "fork": commit(step=50), "shared": 14, "axis": "step", "metadata": NO_DIFFERENCES,
        "metrics": (metric("val/loss", run_metric(3.0, 2.0, 1.0), run_metric(3.0, math.nan, 2.0)),),
        "verdict": Verdict(0, "val/loss", "min", "because\x1b; and so"), "tips": (TipDiff("wide", diff(), None),),
    }  # fmt: skip
    return Comparison(**{**values, **given})


def lines(found: Comparison, look: Look = LOOK, **words: Any) -> list[str]:
    return list(comparison_lines(found, look, top=words.pop("top", 0), **words))


def test_the_verdict_comes_first_then_what_led_to_it() -> None:
    found = compared(metadata=metadata_differences([{"config": {"lr": 1}}, {"config": {"lr": 2}}]))
    drawn = lines(found, Look(0, ascii=True, width=40))
    assert drawn[:10] == [
        "verdict  base is better",
        "         because\\x1b",
        "         and so",
        "history  14 commits in common, up to gpt 7693cc68abcd (step 50); since then",
        "         base  2 commits  step 100 to step 99,900  aaaaaaaaaaaa  best is val/loss:min",
        "         wide  0 commits  step 99,900              bbbbbbbbbbbb",
        "config  0 equal",
        "         base      wide",
        "  ~  lr  1     ->  2",
        "val/loss (min is best)",
    ]
    assert all(len(line) <= 40 for line in drawn if line.startswith(("3|", " |", "1|", "2|", "!|")))
    assert "not finite  0 of 3  ! 1 of 3" in "\n".join(drawn)
    assert drawn[-3:] == [
        "states   base -> wide",
        "leaves   24 equal",
        "bytes    0 B of 0 B are in both",
    ]


def test_values_have_their_place_their_distance_and_a_word() -> None:
    metrics = (
        metric("loss", run_metric(1.0), run_metric(1.5)),
        metric("acc", run_metric(0.0), run_metric(0.5), mode=None),
        metric("only", run_metric(2.0), run_metric()),
        metric("broken", run_metric(2.0), run_metric(math.nan)),
    )
    drawn = lines(compared(metrics=metrics))
    start = drawn.index("metrics              base    wide")
    assert drawn[start + 1 : -3] == [
        "loss     best        1 @ 10  1.5 @ 10  +0.5 (+50.0 %) worse",
        "         last        1 @ 10  1.5 @ 10  +0.5 (+50.0 %) worse",
        "acc      last        0 @ 10  0.5 @ 10  +0.5",
        "         min         0 @ 10  0.5 @ 10  +0.5",
        "         max         0 @ 10  0.5 @ 10  +0.5",
        "only     best        2 @ 10  -",
        "         last        2 @ 10  -",
        "broken   best        2 @ 10  -",
        "         last        2 @ 10  nan @ 10  worse",
        "         not finite  0 of 1  ! 1 of 1",
    ]


def test_values_stand_at_a_step_or_an_epoch_or_nowhere() -> None:
    made = [RunMetric(1, 0, last, None, None, None, ()) for last in (value(1, None, 2.5), value(1, None))]
    assert "loss     last  1 @ epoch 2.5  1     equal" in lines(compared(metrics=(metric("loss", *made, mode=None),)))


def test_many_metrics_are_cut_to_the_first() -> None:
    many = tuple(metric(f"m{number}", run_metric(1.0), run_metric(2.0)) for number in range(20))
    assert "... 12 more metrics (--top 0 shows all)" in lines(compared(metrics=many), top=5)
    assert not any("more metrics" in line for line in lines(compared(metrics=many)))


def test_nothing_is_said_of_metrics_that_there_are_not() -> None:
    found = lines(compared(metrics=(), fork=None, verdict=Verdict(None, None, None, "none")))
    assert found[:3] == ["verdict  neither is better", "         none", "history  no commits in common"]
    assert not any(line.startswith("metrics") for line in found)


def test_checks_say_what_they_compared() -> None:
    checks = [
        CheckResult("loss > +2%", "wide", True, 1.0, 1.5, 50.0),
        CheckResult("last(loss) > +2", "wide", False, 1.0, 1.5, 0.5),
    ]
    assert lines(compared(), checks=checks)[3:5] == [
        "checks   ! failed  loss > +2%: wide 1 -> 1.5 (+50 %)",
        "         passed  last(loss) > +2: wide 1 -> 1.5 (+0.5)",
    ]


def test_a_state_that_is_gone_is_said_to_be() -> None:
    found = lines(compared(tips=(TipDiff("wide", None, "commit x was dropped\x1b"),)))
    assert found[-1] == "         not compared: commit x was dropped\\x1b"


def test_runs_differ_in_their_last_commits_or_not_at_all() -> None:
    assert comparison_differs(compared())
    same = compared().runs[0]
    assert not comparison_differs(compared(runs=(same, same), tips=(TipDiff("base", diff(), None),)))


def test_four_curves_are_drawn_and_more_are_said_not_to_be() -> None:
    run = compared().runs[0]
    loss = metric("loss", *(run_metric(1.0, 2.0) for _ in range(5)))
    found = lines(compared(runs=(run,) * 5, metrics=(loss,), tips=()))
    assert "the first 4 of 5 runs are drawn" in found
    assert found[0] == "verdict  base is better"
    none = Verdict(None, None, None, "none")
    assert lines(compared(runs=(run,) * 5, metrics=(), tips=(), verdict=none))[0] == "verdict  none is better"
