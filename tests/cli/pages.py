"""What the command line says in the words of the documentation: its glossary, and when an error happens.

`python -m tests.cli.pages` writes both anew, after docs/reference has changed.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SHIPPED = ROOT / "casckpt" / "cli" / "pages"


def glossary_rows() -> list[tuple[str, str]]:
    """Words and meanings, without the marks of Markdown."""
    lines = (REFERENCE / "glossary.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    plain = [(_plain(word), _plain(meaning)) for word, meaning in rows]
    return [row for row in plain if row[0] not in ("word", "---")]


def _plain(text: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("\\|", "|")
    return re.sub(r"[`*]", "", text).strip()


def glossary_page() -> str:
    """What `casckpt help glossary` is to say."""
    lines = ["Glossary: one word, one meaning", "===============================", ""]
    for word, meaning in glossary_rows():
        lines += [word, *textwrap.wrap(meaning, 78, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """When each class of error is raised and what to do, a block a class."""
    lines: list[str] = []
    for line in (REFERENCE / "errors.md").read_text().splitlines():
        cells = [_plain(cell) for cell in line.strip("| ").split(" | ")]
        if line.startswith("| `") and len(cells) == 6:
            lines += [cells[0], f"    {cells[4]}", f"    {cells[5]}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (SHIPPED / "glossary.txt").write_text(glossary_page())
    (SHIPPED / "errors.txt").write_text(errors_page())
