"""Names, pins, notes, runs and operations as text."""

from typing import Any

from casckpt.ops.reports import FactChange, Operation, RefChange, UndoReport
from casckpt.ops.values import RunInfo
from casckpt.view import naming as view
from tests.unit.view.test_history import NOW, PLAIN, commit

THEN = NOW.now_ns - 180 * 10**9
A, B = "a" * 64, "b" * 64


def run(**given: Any) -> RunInfo:
    return RunInfo(**{"name": "gpt", "commits": 2, "last": commit(), "best": None, "rule": "loss:min", **given})


def operation(op: str = "tag", **given: Any) -> Operation:
    values: dict[str, Any] = {"number": 7, "time_ns": THEN, "by": "host:1", "note": "", "refs": (), "marks": ()}
    return Operation(op=op, **{**values, "settings": (), **given})


def ref(name: str, old: str | None, new: str | None) -> RefChange:
    return RefChange(name, old, new, THEN, "tag", "", "host:1", 7)


def test_what_a_change_did_and_what_it_would_do() -> None:
    assert view.tag_line("v\x1b", commit(), NOW, removed=False, dry_run=False).startswith(
        "v\\x1b names 7693cc68abcd  gpt"
    )
    assert view.tag_line("v", commit(), NOW, removed=True, dry_run=True).startswith(
        "would remove tag v of 7693cc68abcd"
    )
    assert view.pin_line(commit(), NOW, dry_run=False) == "gpt 7693cc68abcd (step 99,900) is pinned no more"
    pinned = commit(pinned=True)
    assert view.pin_line(pinned, NOW, dry_run=True) == "gpt 7693cc68abcd (step 99,900) would be pinned for good"
    noted = commit(note="a\n\x1bb\n")
    assert list(view.note_lines(noted, NOW)) == ["a", "\\x1bb"]
    assert next(view.note_lines(noted, NOW, dry_run=True)).endswith("would have the note")
    assert list(view.note_lines(commit(), NOW)) == []
    assert list(view.note_lines(commit(), NOW, dry_run=False)) == ["gpt 7693cc68abcd (step 99,900) has no note"]


def test_what_became_of_a_run() -> None:
    named = "gpt 7693cc68abcd (step 99,900)"
    assert view.run_line("fork", run(name="low"), NOW) == f"low begins at {named}; best is loss:min"
    assert view.run_line("fork", run(rule=None), NOW, dry_run=True) == f"gpt would begin at {named}"
    assert view.run_line("rename", run(), NOW, old="old").startswith("old is now gpt, 2 commits: 7693cc68abcd  gpt")
    assert view.run_line("finish", run(finished="failed"), NOW) == f"gpt is finished: failed, at {named}"


def test_an_operation_has_a_line_with_what_it_changed() -> None:
    renamed = operation(
        "run-rename",
        refs=(ref("runs/gpt/last", A, None), ref("runs/base/last", None, A)),
        settings=(FactChange("gpt", "best", ["loss", "min"], None), FactChange("gpt", "renamed", None, [[1, "base"]])),
        undone_by=9,
    )
    undone = operation("undo", number=9, undoes=7, settings=(FactChange("gpt", "renamed", [[1, "base"]], None),))
    noted = operation(
        "note", number=10, marks=(FactChange(A, "note", None, "x\x1b\ny"), FactChange(B, "pin", {}, None))
    )
    assert list(view.operations_lines([noted, undone, renamed], PLAIN)) == [
        "10  note        3 min ago  note of aaaaaaaaaaaa: x\\x1b, +1 more",
        " 9  undo 7      3 min ago  run gpt not base any more",
        " 7  run-rename  3 min ago  run gpt -> base, +3 more              taken back by 9",
    ]


def test_an_undo_lists_all_that_it_set_back() -> None:
    settings = (
        FactChange("gpt", "best", None, ["loss", "min"]),
        FactChange("gpt", "finished", None, {"time": 1, "status": "failed"}),
        FactChange("gpt", "k", 1, "v" * 50),
        FactChange("gpt", "best", ["loss", "min"], None),
    )
    own = operation(
        "undo", number=9, refs=(ref("tags/v1", A, B),), marks=(FactChange(A, "pin", None, {}),), settings=settings
    )
    assert list(view.undo_lines(UndoReport(operation(), own, dry_run=False), NOW)) == [
        "took back operation 7, tag, 3 min ago",
        "  tag v1 aaaaaaaaaaaa → bbbbbbbbbbbb",
        "  pin of aaaaaaaaaaaa",
        "  gpt best loss:min",
        "  gpt finished failed",
        "  gpt k " + "v" * 37 + "...",
        "  gpt not best any more",
    ]
    assert next(view.undo_lines(UndoReport(operation(), own, dry_run=True), NOW)).startswith(
        "would take back operation 7"
    )


def test_pins_are_listed_with_their_end() -> None:
    pins = [commit(pinned=True), commit(pinned=True, pinned_until=NOW.now_ns + 10**9)]
    assert [line.rpartition("  ")[2] for line in view.pins_lines(pins, NOW)] == [
        "for good",
        "until 2027-01-15 08:00 UTC",
    ]
