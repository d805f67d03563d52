"""The verdict: who is better, and the words for it."""

import pytest

from casckpt.plan.series import Axis, Mode, Standing
from casckpt.plan.verdict import Verdict, place, verdict

NAMES = ("base", "wide")


def judged(*bests: float | None, standing: Standing | None = None, mode: Mode = "min", axis: Axis = "step") -> Verdict:
    places = [None if best is None else (best, f" at step {number}") for number, best in enumerate(bests)]
    return verdict("loss", mode, ("base", "wide", "deep")[: len(bests)], places, standing, axis)


def test_the_better_best_decides() -> None:
    ahead = Standing(71, 0, 44_100)
    assert judged(0.375, 0.5, standing=ahead) == Verdict(
        0, "loss", "min",
        "its best loss is 0.375 at step 0, wide has 0.5 at step 1 (+33.3 %); "
        "it is lower at every step both have since 44,100",
    )  # fmt: skip
    assert judged(0.375, 0.5, mode="max").better == 1
    assert judged(0.0, 1.0).why == "its best loss is 0 at step 0, wide has 1 at step 1"


def test_a_curve_that_ends_ahead_of_the_better_best_is_said_and_does_not_decide() -> None:
    found = judged(0.25, 0.5, standing=Standing(9, 1, 8.5), axis="epoch")
    assert found.better == 0
    assert found.why.endswith("; but wide is lower at every epoch both have since 8.5")


def test_equal_bests_decide_nothing() -> None:
    found = judged(0.5, 0.5, standing=Standing(3, 1, 20), mode="max")
    assert found.better is None
    assert found.why == (
        "the best loss is 0.5 at step 0 for base and wide alike; wide is higher at every step both have since 20"
    )


def test_a_run_without_a_number_is_not_better() -> None:
    assert judged(None, 0.5).better == 1
    assert judged(None, 0.5).why == "its best loss is 0.5 at step 1; base has no number for loss"
    assert judged(None, None) == Verdict(None, "loss", "min", "no run has a number for loss since they parted")


def test_of_three_runs_one_is_best_or_two_are_alike() -> None:
    assert judged(0.5, 0.25, 0.3).better == 1
    assert judged(0.5, 0.25, 0.25).better is None


@pytest.mark.parametrize(
    ("standing", "axis", "words"),
    [
        (Standing(0, None, None), "step", "they have no step in common at which both measured it"),
        (Standing(1, None, None), "step", "they are equal at the last of 1 step both have"),
        (Standing(7, None, None), "time", "they are equal at the last of 7 moments both have"),
        (Standing(7, 0, 90.0), "time", "it is lower at every moment both have since 90 s"),
    ],
)
def test_how_curves_stand_is_said(standing: Standing, axis: Axis, words: str) -> None:
    assert judged(1, 2, standing=standing, axis=axis).why.endswith(f"; {words}")


def test_a_verdict_names_the_run_for_programs() -> None:
    assert judged(1, 2).to_dict(NAMES)["better"] == "base"
    assert judged(1, 1).to_dict(NAMES)["better"] is None


def test_places_are_written_as_their_axis_counts() -> None:
    assert [place(44_100, "step"), place(1.5, "epoch")] == ["44,100", "1.5"]
    assert [place(x, "time") for x in (0.0123, 90, 150, 86_400)] == ["0.0123 s", "90 s", "2.5 min", "24.0 h"]
