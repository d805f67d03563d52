"""Which leaves of a commit are those of another under a new path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from casckpt.ops.stored_leaves import Chunks, StoredLeaf


def renamed(
    removed: Mapping[str, StoredLeaf], added: Mapping[str, StoredLeaf], chunks: Chunks
) -> Iterator[tuple[str, str]]:
    """Pairs of old and new path with the same type, layout and bytes.

    Large leaves are known by their ids. Small ones are read, if there is one of the same type and shape on the other
    side. What is at most 64 bytes long is easily equal by chance, so it must also have kept the last name of its path.
    Of several equal leaves those are paired that have most of the ends of their paths in common, as after a change of
    prefix.
    """
    gone, come = (_by_form(leaves) for leaves in (removed, added))
    for form in gone.keys() & come.keys():
        old = _by_content({path: removed[path] for path in gone[form]}, chunks)
        new = _by_content({path: added[path] for path in come[form]}, chunks)
        for content in old.keys() & new.keys():
            yield from zip(sorted(old[content], key=_backwards), sorted(new[content], key=_backwards), strict=False)


def _by_form(leaves: Mapping[str, StoredLeaf]) -> dict[Any, list[str]]:
    found: dict[Any, list[str]] = {}
    for path, leaf in leaves.items():
        if leaf.info.blob is not None:
            form = leaf.inside, leaf.nbytes, leaf.is_grouped
            found.setdefault(form if leaf.tiny is None else (form, path.rpartition("/")[2]), []).append(path)
    return found


def _by_content(leaves: Mapping[str, StoredLeaf], chunks: Chunks) -> dict[Any, list[str]]:
    found: dict[Any, list[str]] = {}
    for path, leaf in leaves.items():
        content: object = leaf.runs
        if leaf.is_grouped:
            content = hashlib.blake2b(chunks.read(leaf, leaf.runs[0])).digest()
        found.setdefault(content, []).append(path)
    return found


def _backwards(path: str) -> list[str]:
    return path.split("/")[::-1]
