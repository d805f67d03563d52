"""Hints at the end of a pack: which commits wrote what is in it. Of packs that are written anew, those of all of them.

One commit stands in the hints itself, as a commit writes them; several stand in a list under `commits`. Nothing but
salvage reads them, so they may be incomplete, and are cut off at a mebibyte. `added` is kept whole: from a sealed pack
it says how much each commit added when it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from casckpt.format.canonical import encode

COMMITS_BYTES = 1 << 20
_OF_A_COMMIT = ("run", "step", "metrics", "time", "tree")
_Hints = Mapping[str, Any]


def commits_of(hints: _Hints) -> list[dict[str, Any]]:
    """What the hints of a pack say of commits: a map for each with `run`, `time` and what else is known."""
    listed = hints.get("commits")
    found = [dict(one) for one in listed if type(one) is dict] if type(listed) is list else []
    own = {key: hints[key] for key in _OF_A_COMMIT if key in hints}
    return [own, *found] if "run" in own else found


def merged(sources: Iterable[_Hints], wanted: Callable[[_Hints], bool] = lambda _: True) -> dict[str, Any]:
    """The hints of a pack made of several.

    Args:
        wanted: whether what a map says of a commit is kept.
    """
    commits: list[dict[str, Any]] = []
    added: dict[bytes, int] = {}
    room = COMMITS_BYTES
    for hints in sources:
        for one in commits_of(hints):
            room -= len(encode(one))
            if room >= 0 and one not in commits[-1:] and wanted(one):
                commits.append(one)
        pairs = hints.get("added")
        for pair in pairs if type(pairs) is list else ():
            if type(pair) is list and len(pair) == 2 and type(pair[0]) is bytes and type(pair[1]) is int:
                added[pair[0]] = pair[1]
    found: dict[str, Any] = dict(commits[0]) if len(commits) == 1 else {"commits": commits} if commits else {}
    return found | ({"added": [list(pair) for pair in added.items()]} if added else {})
