"""Every Python example of the documentation runs, page by page, in an empty folder and in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSIONS = {DOCS / "tutorial.md"}
"""Pages that alternate between Python and the command line; test_tutorial.py runs them."""
PAGES = sorted(page for page in {*DOCS.rglob("*.md")} - SESSIONS if FENCE.search(page.read_text(encoding="utf-8")))


FRAMEWORKS = DOCS / "how-to" / "checkpoint-frameworks.md"
"""Lightning, transformers and what they import warn of each other."""


def marks(page: Path) -> list[pytest.MarkDecorator]:
    """What a page needs from pytest."""
    return [pytest.mark.filterwarnings("ignore")] if page == FRAMEWORKS else []


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(DOCS)), marks=marks(page)) for page in PAGES]
)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "example"}
    for block in FENCE.finditer(text):
        # Line numbers of a failure are those of the page.
        lines = text[: block.start(1)].count("\n")
        exec(compile("\n" * lines + block[1], str(page), "exec"), names)


def test_the_pages_that_teach_have_examples() -> None:
    wanted = {*(f"how-to/{page.name}" for page in (DOCS / "how-to").glob("*.md"))}
    assert wanted <= {str(page.relative_to(DOCS)) for page in PAGES}
