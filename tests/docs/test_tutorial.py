"""The tutorial is a session that really took place: what it shows is what comes out, but for ids, times and digits.

UPDATE_TRANSCRIPTS=1 writes down what comes out now; read the difference before it is committed.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.runner import run

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(py|python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def normal(text: str) -> list[str]:
    """Lines without what differs between machines: ids, ages, numbers, sizes of columns, curves, folders."""
    text = text.replace(os.path.realpath(os.getcwd()), "/home/you/first")
    lines = [line for line in text.splitlines() if not re.search("[\u2800-\u28ff┤]", line)]
    found = []
    for line in lines:
        line = re.sub(r"\b[0-9a-f]{12,64}\b", "ID", line)
        line = re.sub(r"just now|\d+ (?:s|min|h|d) ago", "AGE", line)
        line = re.sub(r"[▁▂▃▄▅▆▇█]+", "RECENT", line)
        line = re.sub(r"[●○] (?:running|stopped)", "STATE", line)
        line = re.sub(r"[+-]?\d[\d,.]*(?:e[+-]\d+)?", "N", line)
        line = re.sub(r"N (?:B|KiB|MiB|GiB|TiB)\b", "SIZE", line)
        found.append(re.sub(r" +", " ", line).rstrip())
    return found


def session(commands: list[str], trained: str) -> str:
    """What a terminal without colour shows of commands."""
    shown = ""
    for command in commands:
        program, *words = shlex.split(command)
        shown += f"$ {command}\n"
        if program == "python":
            assert words[0] == "train.py"
            sys.argv = words
            exec(compile(trained, "train.py", "exec"), {"__name__": "__main__"})
        else:
            assert program == "casckpt"
            done = run(*words, environ={"COLUMNS": "100"})
            shown += done.out + done.err
    return shown


def test_the_tutorial_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order, so that the trainings go as on the page
    text = PAGE.read_text(encoding="utf-8")
    [trained] = [block[2] for block in BLOCK.finditer(text) if block[1] == "py"]
    names: dict[str, Any] = {"__name__": "example"}
    pieces, end = [], 0
    for block in BLOCK.finditer(text):
        pieces.append(text[end : block.start(2)])
        end = block.end(2)
        shown = block[2]
        if block[1] == "console":
            shown = session([line[2:] for line in block[2].splitlines() if line.startswith("$ ")], trained)
            shown = shown.replace(os.path.realpath(os.getcwd()), "/home/you/first")
            if not os.environ.get("UPDATE_TRANSCRIPTS"):
                assert normal(shown) == normal(block[2]), f"at {block[2].splitlines()[0]}"
        elif block[1] == "python":
            exec(compile(block[2], str(PAGE), "exec"), names)
        pieces.append(shown)
    torch.set_num_threads(threads)
    names["store"].close()
    capsys.readouterr()
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        PAGE.write_text("".join([*pieces, text[end:]]), encoding="utf-8")
