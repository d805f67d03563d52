"""Tables of du on terminals of any width."""

from __future__ import annotations

from dataclasses import replace

from casckpt.ops.du_reports import CodecUse, DropCost, DropPlan, FileUse, UsageReport, UsageRow
from casckpt.view.text import Look
from casckpt.view.usage import drop_plan_lines, usage_lines

MiB = 1 << 20
LOOK = Look(10**18)
FILES = FileUse(40 * MiB, MiB, MiB, 0)


def report(*rows: UsageRow, by: str = "run", commits: int = 3) -> UsageReport:
    unique = sum(row.unique for row in rows)
    return UsageReport(by, rows, commits, 3, 90 * MiB, unique, 8 * MiB, 30 * MiB, 5 * MiB, 2 * MiB, 4, 0, FILES)


def test_totals_come_first_and_only_what_there_is() -> None:
    lines = list(usage_lines(report(UsageRow("a", 3, 90 * MiB, 20 * MiB, 8 * MiB)), LOOK))
    assert [line.split()[0] for line in lines[:6]] == ["logical", "stored", "waiting", "dead", "overhead", "files"]
    assert lines[0] == "logical   90.0 MiB  plain bytes of 3 commits (2.6x)"
    bare = replace(report(), waiting=0, dead=0)
    assert [line.split()[0] for line in usage_lines(bare, LOOK)] == ["logical", "stored", "overhead", "files"]


def test_a_bar_shows_what_a_row_has_of_the_largest() -> None:
    rows = UsageRow("a", 2, 0, 20 * MiB, 0), UsageRow("b", 1, 0, 10 * MiB, MiB)
    lines = list(usage_lines(report(*rows), Look(10**18, ascii=True)))
    assert lines[7].endswith("#" * 10)
    assert lines[8].endswith(" " + "#" * 5)


def test_what_is_beyond_the_limit_is_told_in_one_line() -> None:
    rows = [UsageRow(str(number), 1, 0, MiB, 0) for number in range(5)]
    lines = list(usage_lines(report(*rows, commits=2), LOOK, 2))
    assert lines[-2] == "and 3 more with 3.0 MiB of their own"
    assert lines[-1] == "5.0 MiB unique and 8.0 MiB shared in all, of 2 chosen commits"


def test_names_of_components_and_dtypes() -> None:
    rows = UsageRow("", 1, 0, MiB, 0), UsageRow(None, 1, 0, 1, 0, codecs=(CodecUse("raw", 1, 1, 1),))
    shown = list(usage_lines(report(*rows, by="component"), LOOK))[7:9]
    assert [line.split()[0] for line in shown] == ["(root)", "(metadata)"]
    floats = UsageRow("float32", 1, 0, MiB, 0, codecs=(CodecUse("raw", 1, 1, MiB), CodecUse("delta", 1, 1, 10)))
    lines = list(usage_lines(report(floats, rows[1], by="dtype"), LOOK))
    assert lines[7].endswith("raw 1.0 MiB, delta 10 B")
    assert not lines[8].endswith("B")


def test_packs_that_cannot_be_read_are_told() -> None:
    found = replace(report(UsageRow("a", 1, 0, 1, 0)), unreadable=2)
    assert list(usage_lines(found, LOOK))[-1].startswith("2 packs without a table of contents")


def test_no_line_is_wider_than_the_terminal_and_none_is_obeyed_by_it() -> None:
    row = UsageRow("ab" * 32, 1, 9 * MiB, MiB, 0, run="r\x1b[2J" * 20, step=3, time_ns=1, state="waiting")
    cost = DropCost("ab" * 32, "r\x1b" * 30, 3, 1, MiB, MiB, ("tag \x1b]0;" * 20,))
    plan = DropPlan((cost,), ("cd" * 32,), MiB, 1, 2 * MiB)
    look = Look(10**18, width=110)
    for line in (*usage_lines(report(row, by="commit"), look), *drop_plan_lines(plan, look)):
        assert len(line) <= 110
        assert line.isprintable()
    assert "cannot be dropped, as a name or a pin holds it" in list(drop_plan_lines(plan, look))[-1]
