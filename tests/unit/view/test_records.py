"""Lists for programs: every record on a line of its own, an end mark, fields that can be read back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import RevisionNotFound, UsageError
from casckpt.view.failure import Failure
from casckpt.view.records import failed_lines, ndjson_lines, tsv_lines

TEXTS = st.text() | st.sampled_from(["a.b", "\t", "\n", "\\t", "\x1b[31m", "\u202e", "val/loss"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), max_size=4)


@given(RECORDS)
def test_every_record_is_a_line_of_ascii_and_the_last_line_says_how_many_there_were(
    items: list[dict[str, Any]],
) -> None:
    lines = list(ndjson_lines("thing", items, 0, []))
    assert all(line.isascii() and "\n" not in line for line in lines)
    *records, end = map(json.loads, lines)
    assert end == {"type": "end", "ok": True, "exit": 0, "count": len(items), "warnings": []}
    assert [set(record) for record in records] == [{"type", *item} for item in items]


def test_a_failure_is_a_record_and_still_has_the_end_mark() -> None:
    failed, end = map(json.loads, failed_lines(Failure.of(RevisionNotFound(text="x", problem="gone"))))
    assert (failed["type"], failed["exit"], failed["error"]["code"]) == ("error", 3, "rev.not-found")
    assert (end["type"], end["ok"], end["exit"]) == ("end", False, 3)


def unescaped(text: str) -> str:
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in text else text


@given(st.dictionaries(TEXTS.filter(lambda key: "." not in key and key), TEXTS, min_size=1, max_size=4))
def test_fields_stay_on_their_line_and_texts_can_be_read_back(item: dict[str, str]) -> None:
    [line] = tsv_lines(list(item), [item])
    assert line.isprintable() or "\t" in line
    cells = line.split("\t")
    assert len(cells) == len(item)
    assert [unescaped(cell) for cell in cells] == list(item.values())


def test_fields_are_paths_of_keys_that_may_hold_dots() -> None:
    item = {
        "metrics": {"val/loss": 0.25, "a.b": {"c": 1}},
        "id": "x",
        "refs": ["last", "best"],
        "flag": True,
        "no": None,
    }
    fields = ["id", "metrics.val/loss", "metrics.a.b.c", "refs", "flag", "no", "metrics.acc"]
    assert list(tsv_lines(fields, [item], header=True)) == [
        "\t".join(fields),
        'x\t0.25\t1\t["last","best"]\ttrue\t\t',
    ]
    for wrong in ("", "idd", "metric.val/loss"):
        with pytest.raises(UsageError):
            list(tsv_lines([wrong], [item]))
