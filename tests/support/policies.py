"""Retention policies of all kinds, as tables."""

from __future__ import annotations

from hypothesis import strategies as st

from casckpt.plan.policy import KEEPS

COUNTS = st.integers(0, (1 << 63) - 1)
DURATIONS = st.builds("{}{}".format, st.integers(0, 5000), st.sampled_from(["d", " hours", "min", "w"]))
PERIODS = (
    st.builds("{} {}".format, st.integers(1, 1 << 40), st.sampled_from(["step", "steps", "epoch", "epochs"]))
    | st.builds("{}{}".format, st.integers(1, 5000), st.sampled_from(["d", "h", " min"]))
    | st.integers(1, 1000)
)
PATTERNS = st.text(st.sampled_from("model*?_"), min_size=1, max_size=5)
SINGLE = {
    **dict.fromkeys(
        ["keep_last", "keep_best", "keep_recovery", "hourly", "daily", "weekly", "monthly", "yearly", "max_total"],
        COUNTS,
    ),
    "metric": st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=5),
    "mode": st.sampled_from(["min", "max"]),
    "keep_periodic": PERIODS | st.just(0) | st.lists(PERIODS, max_size=3),
    "within": DURATIONS,
    "grace": DURATIONS,
    "keep_tags": st.booleans(),
    "keep_pins": st.just(True),
    "protect_unpushed": st.booleans(),
    "cleanup_older_than_days": st.integers(0, 36_500) | st.floats(0, 36_500),
    "thin": st.dictionaries(st.sampled_from(KEEPS), PATTERNS | st.lists(PATTERNS, max_size=2), max_size=2),
}
TABLES = st.fixed_dictionaries({}, optional=SINGLE).filter(bool)
NESTED = st.tuples(TABLES, st.dictionaries(st.sampled_from(["gpt", "sweep-*", "*"]), TABLES, max_size=2)).map(
    lambda given: given[0] | {"runs": given[1]}
)
