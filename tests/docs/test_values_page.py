"""The page of the values that are kept names every kind that numpy, torch and random are stored as, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from casckpt.state.kinds import array_objects, generators, tensor_objects

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "values.md"


def test_the_page_lists_the_kinds_of_the_code() -> None:
    _, _, table = PAGE.read_text().partition("## How they are stored")
    cells = [line.split(" | ")[0] for line in table.splitlines() if re.match(r"\| `(numpy|torch|random)\.", line)]
    listed = [kind for cell in cells for kind in re.findall(r"`([^`]+)`", cell)]
    assert sorted(listed) == sorted({*array_objects.MAKERS, *tensor_objects.MAKERS, *generators.MAKERS})
