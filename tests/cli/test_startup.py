"""The command line starts fast: what a command does not need is not imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import scenes

ROOT = Path(__file__).resolve().parents[2]


PROGRAM = """
import sys
from casckpt.cli import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded_by(folder: Path, *words: str) -> set[str]:
    """The modules a process has imported once it has run a command."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    [
        ["log", "-n", "20"],
        ["log", "gpt~2..gpt", "-w", "step > 1"],
        ["status"],
        ["show"],
        ["tag"],
        ["runs"],
        ["reflog"],
        ["pin"],
        ["note", "gpt"],
        ["undo", "--list"],
        ["compare", "gpt~1", "gpt"],
        ["diff", "gpt", "wide", "--meta"],
        ["ls", "gpt:model"],
        ["cat", "gpt:name"],
        ["cat", "gpt:model/weight"],
    ],
)
def test_looking_imports_no_arrays_and_no_commands_but_its_own(tmp_path: Path, words: list[str]) -> None:
    scenes.history(tmp_path)
    loaded = loaded_by(tmp_path, *words)
    assert not loaded & {"numpy", "torch", "rich", "hypothesis", "importlib.metadata"}
    assert {name for name in loaded if name.startswith("casckpt.cli.commands.")} == {f"casckpt.cli.commands.{words[0]}"}
    assert not loaded & {"casckpt.ops.commit", "casckpt.ops.fsck", "casckpt.ops.files", "casckpt.plan.schema"}


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_import_no_store(tmp_path: Path, word: str) -> None:
    loaded = loaded_by(tmp_path, word)
    assert "casckpt.cli.app" in loaded
    assert not {name for name in loaded if name.startswith(("casckpt.cli.commands.", "casckpt.store", "casckpt.odb"))}
    assert not loaded & {"lmdb", "msgpack", "zstandard", "numpy", "torch", "rich"}


def test_printing_a_file_imports_no_arrays(tmp_path: Path) -> None:
    scenes.empty(tmp_path)
    loaded_by(tmp_path, "init")
    loaded_by(tmp_path, "commit", "out/sub/notes.txt")
    assert not loaded_by(tmp_path, "cat", "@") & {"numpy", "torch", "casckpt.ops.commit"}
