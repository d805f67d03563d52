"""Exports and imports as text: one line each, harmless to a terminal."""

from __future__ import annotations

from typing import Any

from casckpt.ops.reports import ExportReport, ImportedCheckpoint, ImportReport
from casckpt.view.exchange import export_lines, import_lines
from casckpt.view.text import Look

LOOK = Look(0, ascii=True)


def one(name: str, **words: Any) -> ImportedCheckpoint:
    return ImportedCheckpoint(name, words.pop("step", None), words.pop("epoch", None), {}, 2048, **words)


def test_an_export_is_one_line() -> None:
    report = ExportReport("ab" * 32, "model", "m\x1b.npz", "npz", 2, 4096)
    assert list(export_lines(report, LOOK)) == ["abababababab:model -> m\\x1b.npz (npz, 2 leaves, 4.0 KiB)"]


def test_an_import_is_a_line_a_checkpoint_a_sum_and_its_failures() -> None:
    report = ImportReport(
        "gpt",
        "files",
        False,
        (
            one("step_1.pt", step=1, commit="12" * 32, added=1024),
            one("step_2.pt", step=2, epoch=0.5, commit="34" * 32, skipped=True, opaque=("a.bin", "b\x1b.bin")),
            one("bad\n.pt", problem="it is bad\x07", code="file.malformed", exit_code=2),
        ),
    )
    assert list(import_lines(report, LOOK)) == [
        "121212121212  step_1.pt  step 1             2.0 KiB  +1.0 KiB",
        "343434343434  step_2.pt  step 2, epoch 0.5  2.0 KiB            already there",
        "              bad\\n.pt                      2.0 KiB            failed",
        "1 checkpoint imported into gpt, 1 already there, 1 failed",
        "- step_2.pt: as bytes, for they are pickles: a.bin, b\\x1b.bin",
        "! bad\\n.pt: it is bad\\x07",
    ]
    assert (report.ok, report.exit_code) == (False, 2)
    assert report.to_dict()["checkpoints"][2]["problem"] == "it is bad\x07"


def test_a_dry_run_says_so() -> None:
    report = ImportReport("gpt", "files", True, (one("a.pt"), one("b.pt")))
    assert list(import_lines(report, LOOK))[-1] == "2 checkpoints would be imported into gpt"
