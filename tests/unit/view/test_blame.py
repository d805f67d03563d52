"""When leaves changed last, as text."""

from typing import Any

from casckpt.ops.reports import BlameLine
from casckpt.view.blame import blame_lines
from casckpt.view.text import Look

LOOK = Look(10**18, ascii=True)


def line(**given: Any) -> BlameLine:
    values: dict[str, Any] = {
        "path": "w", "leaves": 1, "of": 1, "change": "changed", "id": "ab" * 32, "run": "gpt", "step": 1000,
        "time_ns": 10**18 - 7200 * 10**9, "commits": 1, "exact": True, "shared": False,
    }  # fmt: skip
    return BlameLine(**{**values, **given})


def test_a_line_names_the_commit_and_says_what_is_not_certain() -> None:
    found = [
        line(path="w\x1b"),
        line(path="bias", change="added", step=None, exact=False, shared=True),
        line(path="h", change="first", leaves=1200, of=1300, commits=1000, exact=False),
    ]
    assert list(blame_lines(found, LOOK)) == [
        "~  w\\x1b                         changed        abababababab  gpt  step 1,000  2 h ago       1 commit",
        "+  bias                          added          abababababab  gpt              2 h ago       1 commit"
        "  at or before, or a neighbour in its chunk",
        "=  h      1,200 of 1,300 leaves  never changed  abababababab  gpt  step 1,000  2 h ago  1,000 commits"
        "  at or before",
    ]


def test_a_long_path_is_cut_to_the_terminal() -> None:
    look = Look(10**18, width=80)
    [text] = blame_lines([line(path="model/" + "layers/" * 30 + "weight")], look)
    assert len(text) <= 80
    assert text.startswith("~  model/lay")
