"""The rules of the house: this checkout keeps each of them, and each of them can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools import house
from tools.pages import anchors
from tools.source import House, imports_of

ROOT = Path(house.__file__).resolve().parent.parent
RULES = {rule.__name__: rule for rule in house.RULES}


@pytest.fixture(scope="module")
def checkout() -> House:
    """This checkout, parsed once for all rules; none of them changes it."""
    return house.read(ROOT)


@pytest.mark.parametrize("name", RULES)
def test_this_checkout_keeps_the_rule(checkout: House, name: str) -> None:
    assert [str(finding) for finding in RULES[name](checkout)] == []


def test_every_room_of_the_table_stands_on_one_floor() -> None:
    rooms = [room for line in house.FLOORS for room in line]
    assert len(rooms) == len(set(rooms))
    assert set(house.PURE) <= set(rooms)


def found(root: Path, rule: str, files: dict[str, str]) -> list[str]:
    """What one rule says of a checkout with these files, as `path:line: text`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [f"{one.path}:{one.line}: {one.text}" for one in RULES[rule](house.read(root))]


BREACHES = {
    "syntax": [
        ({"casckpt/odb/locks.py": "def :\n"}, "casckpt/odb/locks.py:1: invalid syntax"),
        ({"tools/run": "x =\n"}, "tools/run:1: invalid syntax"),
        (
            {"casckpt/odb/locks.py": "x = '\0'\n"},
            "casckpt/odb/locks.py:1: source code string cannot contain null bytes",
        ),
    ],
    "exhaustive": [
        ({"casckpt/utils.py": ""}, "casckpt/utils.py:1: utils has no place in FLOORS (tools/house.py)"),
        ({"casckpt/core/deep/a.py": ""}, "casckpt/core/deep/a.py:1: core has no place in FLOORS (tools/house.py)"),
    ],
    "floors": [
        ({"casckpt/odb/a.py": "import casckpt.ops.commit"}, ":1: odb stands below ops: casckpt.ops.commit"),
        ({"casckpt/odb/a.py": "def f():\n    from casckpt import ops"}, ":2: odb stands below ops: casckpt.ops"),
        (
            {"casckpt/odb/a.py": "from ..plan import graph"},
            ":1: odb and plan do not know each other: casckpt.plan.graph",
        ),
        ({"casckpt/errors.py": "import casckpt.units"}, ":1: errors and units do not know each other: casckpt.units"),
        (
            {"casckpt/state/a.py": "if TYPE_CHECKING:\n    from casckpt.store.store import Store"},
            ":2: state stands below store: casckpt.store.store.Store",
        ),
        (
            {"casckpt/ops/a.py": "import importlib\nimportlib.import_module('casckpt.cli.app')"},
            ":2: ops stands below cli: casckpt.cli.app",
        ),
        (
            {
                "casckpt/ops/a.py": "from importlib import import_module\n"
                "X = {'a': 'casckpt.view.a:f'}\nimport_module(X[n])"
            },
            ":2: ops stands below view: casckpt.view.a",
        ),
        (
            {"casckpt/ops/a.py": "from importlib import import_module\nimport_module(f'casckpt.cli.{n}')"},
            ":2: ops stands below cli: casckpt.cli.*",
        ),
        ({"casckpt/ops/a.py": "from casckpt import open"}, ":1: ops stands below casckpt itself: casckpt.open"),
        (
            {"casckpt/__init__.py": "from casckpt.ops import commit"},
            ":1: casckpt itself loads store and errors only: casckpt.ops.commit",
        ),
    ],
    "values": [
        (
            {"casckpt/view/a.py": "from casckpt.ops.diff import Diff, diff", "casckpt/ops/diff.py": "def diff(): ..."},
            "casckpt/view/a.py:1: view takes values from ops, not the verb diff",
        ),
    ],
    "cycles": [
        (
            {
                "casckpt/odb/a.py": "\nfrom casckpt.odb import b",
                "casckpt/odb/b.py": "def f():\n    from casckpt.odb.c import x",
                "casckpt/odb/c.py": "if TYPE_CHECKING:\n    from .a import A",
            },
            "casckpt/odb/a.py:2: casckpt.odb.a -> casckpt.odb.b -> casckpt.odb.c -> casckpt.odb.a",
        ),
        (
            {
                "casckpt/cli/app.py": "from importlib import import_module\nimport_module(f'casckpt.cli.{name}')",
                "casckpt/cli/log.py": "from casckpt.cli.app import pass_store",
            },
            "casckpt/cli/app.py:2: casckpt.cli.app -> casckpt.cli.log -> casckpt.cli.app",
        ),
    ],
    "underscores": [
        ({"casckpt/odb/a.py": "from casckpt.odb.b import _x"}, "casckpt/odb/a.py:1: _x is private to casckpt.odb.b"),
        (
            {"casckpt/odb/a.py": "from casckpt.odb import b as c\nc._x()", "casckpt/odb/b.py": ""},
            "casckpt/odb/a.py:2: _x is private to c",
        ),
        (
            {"casckpt/odb/a.py": "import casckpt.odb.b\ncasckpt.odb.b._x()", "casckpt/odb/b.py": ""},
            "casckpt/odb/a.py:2: _x is private to casckpt.odb.b",
        ),
    ],
    "doors": [
        ({"casckpt/odb/a.py": "from blake3 import blake3"}, ":1: blake3 comes in through casckpt.format.ids"),
        (
            {"casckpt/cli/log.py": "def f():\n    import tomlkit.items"},
            ":2: tomlkit comes in through casckpt.ops.settings_edit",
        ),
        (
            {"casckpt/ops/a.py": "import torch"},
            f":1: torch comes in through {' or '.join(house.DOORS['torch'])}",
        ),
        (
            {"casckpt/ops/a.py": "import requests"},
            ":1: requests comes in through a door named in DOORS (tools/house.py)",
        ),
        (
            {"casckpt/plan/a.py": "import numpy as np"},
            ":1: numpy slows the start: import it inside the function, or give a reason in NUMPY_AT_TOP",
        ),
    ],
    "purity": [
        *(
            ({"casckpt/plan/a.py": f"def f():\n    {line}"}, f":2: plan is pure and may not import {name}")
            for name, line in {
                "os": "from os.path import join",
                "io": "from io import BytesIO",
                "time": "import time",
                "random": "import random",
                "pathlib": "from pathlib import Path",
                "concurrent": "import concurrent.futures",
            }.items()
        ),
        ({"casckpt/format/a.py": "open('x')"}, ":1: format is pure and may not call open()"),
        ({"casckpt/view/a.py": "datetime.datetime.now(UTC)"}, ":1: view is pure and may not call now()"),
        ({"casckpt/plan/a.py": "import casckpt.storage.base"}, ":1: plan is pure and may not import storage"),
    ],
    "speech": [
        ({"casckpt/ops/a.py": "print(1)"}, ":1: print() is called in cli only"),
        ({"casckpt/train/a.py": "import os\nos.environ['A']"}, ":2: os.environ is read in cli only"),
        ({"casckpt/train/a.py": "from os import getenv"}, ":1: os.getenv is read in cli only"),
        ({"casckpt/storage/credentials.py": "print(1)"}, ":1: print() is called in cli only"),
    ],
    "sizes": [
        ({"casckpt/ops/a.py": "#\n" * 401}, ":401: 401 lines, at most 400"),
        ({"tools/demo/run.py": "#\n" * 401}, ":401: 401 lines, at most 400"),
        ({"casckpt/ops/a.py": "class A:\n  def f():\n" + "    1\n" * 70}, ":2: f has 71 lines, at most 70"),
    ],
    "inits": [
        (
            {"casckpt/ops/a.py": ""},
            "casckpt/ops/__init__.py:1: missing; it says what lives here and where to read first",
        ),
        (
            {"casckpt/ops/__init__.py": ""},
            "casckpt/ops/__init__.py:1: needs a docstring: what lives here and where to read first",
        ),
        (
            {"casckpt/ops/__init__.py": '"""Verbs."""\nfrom casckpt.ops.a import f'},
            "casckpt/ops/__init__.py:2: holds more than a docstring",
        ),
        (
            {"casckpt/cli/__init__.py": '"""Text."""\nX = 1\n\ndef main(): ...'},
            "casckpt/cli/__init__.py:2: holds more than a docstring",
        ),
    ],
    "startup": [
        (
            {
                "casckpt/__init__.py": "",
                "casckpt/cli/__init__.py": "from casckpt.cli.app import main",
                "casckpt/cli/app.py": "import json\nimport numpy.linalg\n\ndef main(): ...",
                "numpy/__init__.py": "",
                "numpy/linalg.py": "",
            },
            "casckpt/cli/app.py:2: import casckpt.cli loads numpy through casckpt.cli.app",
        ),
        (
            {"casckpt/__init__.py": "", "casckpt/cli/__init__.py": "def main(): ...\nraise ValueError('no')"},
            "casckpt/cli/__init__.py:1: import casckpt.cli fails: ValueError: no",
        ),
    ],
    "links": [
        ({"README.md": "\n[a](docs/absent.md)"}, "README.md:2: docs/absent.md does not exist"),
        ({"README.md": "[a]: <no where.md> 'title'"}, "README.md:1: no where.md does not exist"),
        (
            {"docs/a/b.md": "![x](../c.md#two-words)", "docs/c.md": "# Two words\n# One"},
            None,
        ),
        (
            {"docs/a/b.md": "[x](../c.md#none)", "docs/c.md": "# Two words\n```\n# none\n```"},
            "docs/a/b.md:1: ../c.md#none names no heading of c.md",
        ),
        ({"docs/a.md": "`[a](b)` [web](https://x.y/z) [here](#here)\n~~~\n[a](b)\n~~~\n## Here"}, None),
    ],
}


def test_every_rule_has_a_breach() -> None:
    assert set(BREACHES) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "files", "finding"), [(rule, *breach) for rule, breaches in BREACHES.items() for breach in breaches]
)
def test_breach_is_found(tmp_path: Path, rule: str, files: dict[str, str], finding: str | None) -> None:
    if finding and finding.startswith(":"):
        finding = next(iter(files)) + finding
    assert found(tmp_path, rule, files) == ([finding] if finding else [])


@pytest.mark.parametrize("rule", RULES)
def test_sound_house_has_no_findings(tmp_path: Path, rule: str) -> None:
    files = {
        "casckpt/__init__.py": "def __getattr__(name):\n    from casckpt.store.store import Store",
        "casckpt/errors.py": "",
        "casckpt/cli/__init__.py": '"""Text."""\n\n\ndef main() -> None:\n    from casckpt.cli.output import draw',
        "casckpt/cli/output.py": "import os\ndef draw():\n    import click\n    print(os.environ)",
        "casckpt/store/__init__.py": '"""API."""',
        "casckpt/store/store.py": "from casckpt.ops.commit import commit\nfrom casckpt.view.text import lines",
        "casckpt/view/__init__.py": '"""Text."""',
        "casckpt/view/text.py": "from casckpt.ops.commit import Commit\nfrom datetime import datetime, UTC\n"
        "def lines(clock): return clock.now()",
        "casckpt/ops/__init__.py": '"""Verbs."""',
        "casckpt/ops/commit.py": "import os\nfrom casckpt.plan.graph import Graph\nclass Commit: ...\n"
        "def commit():\n    import numpy as np",
        "casckpt/plan/__init__.py": '"""Decisions."""',
        "casckpt/plan/graph.py": "from pathlib import PurePosixPath\nfrom casckpt import errors\nclass Graph: ...",
        "README.md": "[plan](casckpt/plan) [top](#the-top)\n# The *top*",
    }
    assert found(tmp_path, rule, files) == []


def test_empty_checkout_has_no_findings(tmp_path: Path) -> None:
    assert house.check(tmp_path) == []


def test_relative_imports_are_made_absolute() -> None:
    tree = ast.parse("from . import b\nfrom ..units import MiB\nfrom .c import *\nimport_module('.d', __package__)")
    assert [one.full for one in imports_of(tree, "casckpt.odb")] == [
        "casckpt.odb.b",
        "casckpt.units.MiB",
        "casckpt.odb.c",
        "casckpt.odb.d",
    ]


def test_headings_of_the_same_words_are_numbered(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` (c)\n## A b c\n### [Linked](x.md): yes\n<a id='own'></a>\n")
    assert anchors(page) == {"a-b-c", "a-b-c-1", "linked-yes", "own"}


@pytest.mark.parametrize("script", ["check", "run"])
def test_tools_parse_and_can_be_run(script: str) -> None:
    path = ROOT / "tools" / script
    ast.parse(path.read_text())
    assert path.stat().st_mode & 0o111


def test_run_without_a_verb_says_what_it_can_do() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tools/run demo" in done.stdout
