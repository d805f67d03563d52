"""What differs, as text."""

import math
from typing import Any

import pytest

from casckpt.ops.reports import Diff, LeafChange
from casckpt.ops.value_reports import GroupChange, Measures, Overlap, ValueChange, ValueDiff
from casckpt.plan.fields import metadata_differences
from casckpt.view.compare import diff_lines, differs
from casckpt.view.text import Look
from tests.unit.view.test_history import commit

LOOK = Look(0, ascii=True)
LEAVES = (
    LeafChange("h.11", "changed", "float32[768]", "float32[768]", 3072, 1024),
    LeafChange("up", "kind", "float32[2]", "float32[3]", 12, 12),
    LeafChange("new", "added", "", "float32[2]", 8, 8),
    LeafChange("old", "removed", "'x\x1b'", "", 0, 0),
    LeafChange("step", "changed", "1", "2", 0, 0),
)


def diff(**given: Any) -> Diff:
    values: dict[str, Any] = {
        "before": commit(step=1), "after": commit(step=None, run="wide"), "metrics": {}, "leaves": (), "equal": 24,
        "equal_bytes": 0, "total_bytes": 0,
    }  # fmt: skip
    return Diff(**{**values, **given})


def test_a_diff_has_counts_bytes_metrics_and_leaves() -> None:
    metrics = {"acc": (0.889, 0.871), "loss": (0.0, 1.0), "nan": (math.nan, 1.0), "new": (None, 2), "same": (1, 1)}
    found = diff(metrics=metrics, leaves=LEAVES, equal_bytes=78 << 20, total_bytes=712 << 20)
    assert list(diff_lines(found, LOOK, top=0)) == [
        "gpt 7693cc68abcd (step 1) -> wide 7693cc68abcd",
        "metrics  acc   0.889  ->  0.871  -0.018 (-2.0 %)",
        "         loss      0  ->      1  +1",
        "         nan     nan  ->      1  +nan",
        "         new       -  ->      2",
        "         same      1  ->      1",
        "leaves   1 added, 1 removed, 2 changed, 1 of another type or shape, 24 equal",
        "bytes    78.0 MiB of 712.0 MiB are in both (11.0 %)",
        "~  h.11  float32[768]              1.0 KiB of 3.0 KiB differ",
        "~  up    float32[2] -> float32[3]  12 B of 12 B differ",
        "+  new   float32[2]                8 B",
        "-  old   'x\\x1b'",
        "~  step  1 -> 2",
    ]


def test_a_diff_has_what_was_set_otherwise() -> None:
    old = {"lr": 1e-4, "seed": 7, "betas": [0.9, 0.95], "old": None, "path": "é\x1b\u202e"}
    found = diff(
        metadata=metadata_differences(
            [{"config": old}, {"config": {"lr": 3e-4, "seed": 7, "new": True}, "code": "abc"}]
        ),
        parts=("metadata",),
    )
    assert list(diff_lines(found, LOOK, top=0))[1:] == [
        "config  1 equal",
        "  -  betas  [0.9, 0.95]           ->  -",
        "  ~  lr     0.0001                ->  0.0003",
        "  +  new    -                     ->  true",
        "  -  old    null                  ->  -",
        '  -  path   "\\u00e9\\u001b\\u202e"  ->  -',
        "code  0 equal",
        '  +  (value)  -  ->  "abc"',
    ]
    assert [line for line in diff_lines(found, Look(0), top=0) if "path" in line] == [
        '  -  path   "é\\u001b\\u202e"  →  -'
    ]
    assert differs(found)
    assert not differs(diff(metadata=metadata_differences([{"config": old}, {"config": old}])))


def measures(**given: Any) -> Measures:
    values: dict[str, Any] = {
        "elements": 4, "l2": 2.0, "relative": 0.25, "largest": 1.5, "cosine": 0.5, "changed": 0.75, "nan_before": 0,
        "nan_after": 0, "inf_before": 0, "inf_after": 0, "whole": True,
    }  # fmt: skip
    return Measures(**{**values, **given})


def values(*leaves: ValueChange, groups: tuple[GroupChange, ...] = (), unmeasured: tuple[str, ...] = ()) -> ValueDiff:
    return ValueDiff(leaves, groups, len(leaves), unmeasured, 100 << 20, 1000 << 20)


def test_measures_stand_apart_from_the_leaves_that_have_none() -> None:
    few = measures(relative=None, cosine=None, whole=False, changed=1e-6, nan_after=1200, inf_before=2)
    measured = (
        ValueChange("up", "recast", "float32[2]", "float16[2]", measures(changed=0.99999)),
        ValueChange("h.11", "changed", "float32[768]", "float32[768]", few),
    )
    moved = LeafChange("h/w", "renamed", "float32[9]", "float32[9]", 36, 0, "blocks/w")
    groups = (GroupChange("h", 1, 3, measures(changed=0.0)),)
    found = diff(leaves=(*LEAVES[:2], moved), values=values(*measured, groups=groups, unmeasured=("x",)))
    assert list(diff_lines(found, LOOK, top=0))[3:] == [
        ">  blocks/w -> h/w  float32[9]  36 B",
        "   values  type                       rel  cos   changed  max  l2",
        "~  up      float32[2] -> float16[2]  0.25  0.5  > 99.9 %  1.5   2",
        "~  h.11    float32[768]                 -    -   < 0.1 %  1.5   2  NaN 0 to 1,200, Inf 2 to 0",
        "   groups  leaves    rel  cos  changed  max  l2",
        "~  h       1 ~ 3 =  0.25  0.5    0.0 %  1.5   2",
        "- in rel and cos: few chunks changed, the others were not read (--exact reads them)",
        "1 leaf could not be compared by number",
        "read     100.0 MiB of 1000.0 MiB (10.0 %); 24 leaves equal, by id or byte by byte",
    ]


def test_of_measures_too_only_the_first_are_shown() -> None:
    found = diff(values=values(*(ValueChange(f"w{n}", "changed", "a", "a", measures()) for n in range(5))))
    lines = list(diff_lines(found, LOOK, top=2))
    assert [line.split()[1] for line in lines[4:6]] == ["w0", "w1"]
    assert lines[6:] == [
        "... 3 more (--top 0 shows all)",
        "read     100.0 MiB of 1000.0 MiB (10.0 %); 24 leaves equal, by id or byte by byte",
    ]


def test_only_the_first_leaves_are_shown_unless_all_are_wanted() -> None:
    shown = list(diff_lines(diff(leaves=LEAVES), LOOK, top=2))
    assert shown[-1] == "... 3 more (--top 0 shows all)"
    assert len(shown) == 3 + 2 + 1
    assert len(list(diff_lines(diff(leaves=LEAVES), LOOK, top=5))) == 3 + 5


@pytest.mark.parametrize(
    ("given", "different"),
    [
        ({}, False),
        ({"leaves": LEAVES[:1]}, True),
        ({"metrics": {"a": (1, 1), "b": (math.nan, math.nan)}}, False),
        ({"metrics": {"a": (1, 2)}}, True),
        ({"metrics": {"a": (None, 2)}}, True),
        ({"metrics": {"a": (math.nan, 2)}}, True),
    ],
)
def test_a_difference_is_one_in_a_leaf_or_a_metric(given: dict[str, Any], different: bool) -> None:
    assert differs(diff(**given)) is different


@pytest.mark.parametrize(
    ("overlap", "said"),
    [
        (Overlap(0, 3072, 3072, 4608), "rows 0:3072 compared, 1,536 new"),
        (Overlap(0, 7, 30, 7), "rows 0:7 compared, 23 gone"),
        (Overlap(1, 768, 768, 1024), "axis 1 0:768 compared, 256 new"),
    ],
)
def test_of_a_resized_leaf_is_said_what_was_compared(overlap: Overlap, said: str) -> None:
    resized = ValueChange("wte", "resized", "float32[3072,8]", "float32[4608,8]", measures(), overlap)
    text = "\n".join(diff_lines(diff(values=values(resized)), LOOK, top=5))
    assert said in text
