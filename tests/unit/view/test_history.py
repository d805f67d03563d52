"""Commits as text."""

from typing import Any

from casckpt.ops.reports import CheckoutReport, LeafSummary, RefChange
from casckpt.ops.values import CommitInfo
from casckpt.view import history as view
from casckpt.view.text import Look

NOW = Look(1_800_000_000_000_000_000)
PLAIN = Look(NOW.now_ns, ascii=True)


def commit(**given: Any) -> CommitInfo:
    values: dict[str, Any] = {
        "id": "7693cc68abcd" + "0" * 52, "run": "gpt", "step": 99_900, "epoch": None, "kind": "step",
        "status": "completed", "time_ns": NOW.now_ns - 180 * 10**9, "metrics": {"val/loss": 0.41724}, "message": "",
        "author": "", "parents": (), "tree": "f" * 64, "nbytes": 712 << 20, "added": 290 << 20,
    }  # fmt: skip
    return CommitInfo(**{**values, **given})


def test_a_log_has_a_line_a_commit_in_columns() -> None:
    commits = [
        commit(refs=("tag: v1", "best", "last")),
        commit(step=100, epoch=0.5, run="wide", metrics={}, added=0, kind="final", message="one\n\ntwo"),
        commit(step=None, run="g", added=None, status="failed", dropped="keep last 3"),
    ]
    assert list(view.log_lines(commits, NOW)) == [
        "7693cc68abcd  gpt   step 99,900          val/loss 0.4172  +290.0 MiB  3 min ago  (last, best, tag: v1)",
        "7693cc68abcd  wide  step 100, epoch 0.5                         +0 B  3 min ago                         final",
        "    one",
        "",
        "    two",
        "7693cc68abcd  g                          val/loss 0.4172              3 min ago                         "
        "failed, dropped by rule keep last 3",
    ]
    assert len(list(view.log_lines(commits, NOW, view.LogForm(messages=False)))) == 3
    assert list(view.log_lines([], NOW)) == []


def test_no_message_forges_a_line() -> None:
    hostile = commit(message="a\r\nb\x85c\u2028d\x0be\rf\x1b[2K")
    assert list(view.log_lines([hostile], NOW))[1:] == ["    a", "    b\\x85c\\u2028d\\x0be\\rf\\x1b[2K"]


def test_many_metrics_are_cut_in_a_log_and_shown_in_full() -> None:
    many = commit(metrics={f"m{number}": number for number in range(9)})
    assert "m3 3  +5 more  +290.0 MiB" in view.one_line(many, NOW)
    shown = list(view.show_lines(many, None, None, NOW))
    assert any(line.endswith("m8 8") for line in shown)


def test_a_commit_is_shown_in_full() -> None:
    full = commit(
        parents=("a" * 64, "b" * 64), children=("c" * 64,), refs=("best",), message="hello\nthere", author="ann@gpu-3"
    )
    assert list(view.show_lines(full, None, None, NOW)) == [
        f"commit    {full.id}",
        "run       gpt  step 99,900",
        "kind      step, completed",
        "refs      best",
        "time      2027-01-15T07:57:00.000Z (3 min ago) by ann@gpu-3",
        "parents   aaaaaaaaaaaa bbbbbbbbbbbb",
        "children  cccccccccccc",
        "metrics   val/loss 0.4172",
        "size      712.0 MiB, added 290.0 MiB (2.5x)",
        "message   hello",
        "          there",
    ]


def test_leaves_and_metadata_follow_when_asked_for() -> None:
    leaves = [
        LeafSummary("model/w", "tensor", "bfloat16", (768, 768), 1_179_648),
        LeafSummary("step", "int", None, None, None, 7),
        LeafSummary("note", "str", None, None, None, "x" * 100),
        LeafSummary("none", "none", None, None, None),
        LeafSummary("run.sh", "file", None, None, 10, True),
        LeafSummary("empty", "file", None, None, None, False),
        LeafSummary("link", "link", None, None, None, b"../\xff\x1b"),
    ]
    metadata = {"config": {"lr": 1e-4, "net": {"width": 3, "empty": {}}, "list": [1, None]}, "code": "a\u202eb"}
    shown = list(view.show_lines(commit(), leaves, metadata, NOW))
    assert shown[shown.index("config") :] == [
        "config",
        "  lr         0.0001",
        "  net.width  3",
        "  net.empty  {}",
        "  list       [1, null]",
        "code",
        '  "a\\u202eb"',
        "tree     7 leaves, 1.1 MiB",
        "  model/w  bfloat16[768,768]  1.1 MiB",
        "  step     int                         7",
        "  note     str                         " + "'" + "x" * 56 + "...",
        "  none     none",
        "  run.sh   file                  10 B  executable",
        "  empty    file                   0 B",
        "  link     link                        -> ../\\xff\\x1b",
    ]
    assert list(view.show_lines(commit(), [], {}, NOW))[-2:] == [
        "metadata  none was committed",
        "tree     0 leaves, 0 B",
    ]


def test_a_schema_is_shown_with_what_it_requires() -> None:
    def shown(**given: Any) -> list[str]:
        return [line for line in view.show_lines(commit(**given), None, None, NOW) if line.startswith("schema")]

    assert shown(schema=("train", 3)) == ["schema   train 3"]
    assert shown(schema=("a\x1b", -1), required=("model/**", "step\n")) == [
        "schema   a\\x1b -1, requires model/** step\\n"
    ]
    assert shown() == []


def test_a_checkout_says_what_and_where() -> None:
    report = CheckoutReport("7693cc68abcd" + "0" * 52, "out\x1b", 3, 2048)
    assert list(view.checkout_lines(report, PLAIN)) == ["7693cc68abcd -> out\\x1b  3 files, 2.0 KiB"]


def test_tags_come_by_name() -> None:
    tags = {"v2": commit(), "v1": commit(step=None, metrics={})}
    assert list(view.tag_lines(tags, NOW)) == [
        "v1  7693cc68abcd  gpt",
        "v2  7693cc68abcd  gpt  step 99,900  val/loss 0.4172",
    ]


def test_changes_of_refs_say_what_they_named_and_named_before() -> None:
    then = NOW.now_ns - 180 * 10**9
    changes = [
        RefChange("tags/v\x1b", "a" * 64, None, then, "un\x1btag", "a\nnote", "host:1", 12),
        RefChange("runs/gpt/last", "a" * 64, "b" * 64, then, "commit", "", "host:1", 7),
        RefChange("runs/gpt/last", None, "a" * 64, then, "commit", "", "host:1", 3),
    ]
    assert list(view.reflog_lines(changes, NOW)) == [
        "removed       tag: v\\x1b  un\\x1btag  #12  3 min ago  was aaaaaaaaaaaa  a\\nnote",
        "bbbbbbbbbbbb  gpt/last    commit     #7   3 min ago  was aaaaaaaaaaaa",
        "aaaaaaaaaaaa  gpt/last    commit     #3   3 min ago",
    ]


def test_pins_and_notes_are_remarked_in_a_log_and_shown_in_full() -> None:
    note = "lr \x1b[2J was much too high for a model of this size\nsecond"
    marked = commit(note=note, pinned=True, pinned_until=NOW.now_ns + 3 * 10**9)
    assert view.remarks(marked) == "pinned, note: lr \\x1b[2J was much too high for a mo..."
    shown = list(view.show_lines(marked, None, None, NOW))
    assert (
        shown[-3:]
        == [
            "pinned    until 2027-01-15 08:00 UTC",
            "note      lr \\x1b[2J was much too high for a model of this size",
            "          second",
        ]
        or shown
    )
    assert view.pin_end(commit(pinned=True), NOW) == "for good"
