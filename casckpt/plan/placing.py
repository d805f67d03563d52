"""Which files, folders and links a commit of files becomes: decided, and refused, before anything is written.

What comes from a store is hostile. A name is one plain name, used once. A link is relative, and stays inside wherever
the links that it goes through lead: it may climb out of folders of the commit only, never out of the target. Links
are no folders and nothing is below them, so what a link descends through is a folder or a link that stays inside too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from casckpt.errors import LinkRefused, NotFoundError, UnsafePath, UsageError
from casckpt.state import paths
from casckpt.state.walk import LeafInfo

Names = tuple[bytes, ...]
Owner = TypeVar("Owner")

NAME_BYTES_MAX = 255
LINK_BYTES_MAX = 4095
"""Limits of POSIX systems for a name and for the target of a link."""

_OWN_FOLDER = ".casckpt"
_FOLDER = "dict"


class PlacedFile(NamedTuple, Generic[Owner]):
    """A file: its names below the target, none if it is the target itself, its leaf, and whose leaf that is."""

    names: Names
    leaf: LeafInfo
    owner: Owner


@dataclass(frozen=True, slots=True)
class Placing(Generic[Owner]):
    """What to make. Folders come in an order in which each is in one before it; links are made last.

    Args:
        is_folder: whether the target is a folder; else it is the only file.
    """

    is_folder: bool
    folders: list[Names] = field(default_factory=list)
    files: list[PlacedFile[Owner]] = field(default_factory=list)
    links: list[tuple[Names, bytes]] = field(default_factory=list)


def place_files(
    leaves: Iterable[tuple[Owner, LeafInfo]], path: str | None, *, links: bool, as_folder: bool = False
) -> Placing[Owner]:
    """What the leaves of a commit of files become, or those at and below a path in it.

    Args:
        leaves: with whatever the caller knows them by.
        path: of canonical elements or plain names; what has it becomes the target itself. None or empty for all of
            the commit: then a file that is all of it becomes the target.
        links: whether links may be made.
        as_folder: a file that is all there is lies in the target too, so that its name says where it comes from.

    Raises:
        UsageError: they are the leaves of a live state.
        NotFoundError: nothing has that path.
        UnsafePath: a name or a link that would leave the target, or means something else on another system.
        LinkRefused: there is a link, and `links` is False.
    """
    found = [(owner, leaf) for owner, leaf in leaves if leaf.kind != "part"]
    if not all(leaf.kind in ("file", _FOLDER, "link") for _, leaf in found):
        problem = "this commit holds a live state, not files"
        raise UsageError(problem=f"{problem}: casckpt export writes it as files, Store.checkout restores it in Python")
    wanted = path.strip("/").split("/") if path and path.strip("/") else []
    if wanted:
        found = _below(found, wanted)
    depth = len(wanted) or 1
    is_alone = len(found) == 1 and not as_folder
    is_file = is_alone and found[0][1].kind == "file" and len(_elements(found[0][1])) <= depth
    placing: Placing[Owner] = Placing(not is_file)
    kinds: dict[Names, str] = {} if is_file else {(): _FOLDER}
    for owner, leaf in found:
        names = tuple(_name(element, leaf.path) for element in _elements(leaf))
        _place(placing, kinds, owner, leaf, () if is_file else names[len(wanted) :])
    for _, leaf in found:
        if leaf.kind == "link":
            names = tuple(_name(element, leaf.path) for element in _elements(leaf))[len(wanted) :]
            placing.links.append((names, _link(names, leaf, kinds, wanted=links)))
    return placing


def _below(leaves: list[tuple[Owner, LeafInfo]], wanted: list[str]) -> list[tuple[Owner, LeafInfo]]:
    """The leaves at and below a path; of canonical elements, else of plain names, as people type them."""
    canonical = [(owner, leaf) for owner, leaf in leaves if _elements(leaf)[: len(wanted)] == wanted]
    found = canonical or [
        (owner, leaf) for owner, leaf in leaves if [paths.text_of(e) for e in _elements(leaf)[: len(wanted)]] == wanted
    ]
    if not found:
        raise NotFoundError(thing=f"path {'/'.join(wanted)!r} of the commit")
    return found


def _place(placing: Placing[Owner], kinds: dict[Names, str], owner: Owner, leaf: LeafInfo, names: Names) -> None:
    """Take in one leaf and the folders that it is in; `kinds` says what is there already."""
    folder = names if leaf.kind == _FOLDER else names[:-1]
    for end in range(1, len(folder) + 1):
        kind = kinds.get(folder[:end])
        if kind is None:
            kinds[folder[:end]] = _FOLDER
            placing.folders.append(folder[:end])
        elif kind != _FOLDER:
            raise UnsafePath(path=leaf.path, problem="it is in something that is no folder")
    if leaf.kind == _FOLDER:
        return
    if names in kinds:
        problem = "something else of the commit has the same name" if names else "it has no name in the target folder"
        raise UnsafePath(path=leaf.path, problem=problem)
    kinds[names] = leaf.kind
    if leaf.kind == "file":
        placing.files.append(PlacedFile(names, leaf, owner))


def _link(names: Names, leaf: LeafInfo, kinds: dict[Names, str], *, wanted: bool) -> bytes:
    """The target of a link that stays inside."""
    if not wanted:
        raise LinkRefused(path=leaf.path, problem="it is a symbolic link")
    target = leaf.value
    if not isinstance(target, bytes) or not target or b"\0" in target or b"\\" in target:
        raise UnsafePath(path=leaf.path, problem="its target is no plain path")
    if target.startswith(b"/"):
        raise UnsafePath(path=leaf.path, problem="it is a link to an absolute path")
    if len(target) > LINK_BYTES_MAX:
        raise UnsafePath(path=leaf.path, problem=f"its target is longer than {LINK_BYTES_MAX} bytes")
    at = names[:-1]
    for part in target.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            at += (part,)
            _check(part.decode(errors="surrogateescape"), part, leaf.path)
        elif not at:
            raise UnsafePath(path=leaf.path, problem="it is a link that leads out of the target folder")
        elif kinds.get(at) != _FOLDER:
            # It may be a link: what is above that, only the file system knows.
            raise UnsafePath(path=leaf.path, problem="it is a link that climbs out of what is no folder of the commit")
        else:
            at = at[:-1]
    return target


def _elements(leaf: LeafInfo) -> list[str]:
    return leaf.path.split("/") if leaf.path else []


def _name(element: str, path: str) -> bytes:
    """The file name of a path element."""
    try:
        name = paths.text_of(element)
        if name is not None and paths.element(name) == element:
            raw = name.encode(errors="surrogateescape")  # the bytes of a name that is no text here
            _check(name, raw, path)
            return raw
    except UnicodeError:
        pass
    raise UnsafePath(path=path, problem="it is no plain file name")


def _check(name: str, raw: bytes, path: str) -> None:
    problem = ""
    if name in ("", ".", "..") or "/" in name or "\0" in name or "\\" in name:
        problem = "it is no plain file name"
    elif len(raw) > NAME_BYTES_MAX:
        problem = f"a name in it is longer than {NAME_BYTES_MAX} bytes"
    elif name.casefold() == _OWN_FOLDER:
        problem = "a store's own folder is never written from a commit"
    if problem:
        raise UnsafePath(path=path, problem=problem)
