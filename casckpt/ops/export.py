"""export: a state or a part of it as a file of another program. Written aside and renamed, so it is whole or absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, get_args

from casckpt.errors import IntegrityError, NotFoundError, UsageError
from casckpt.format.ids import CommitId
from casckpt.odb.repository import Repository
from casckpt.ops.aside import written_aside
from casckpt.ops.consent import agreed
from casckpt.ops.history import require_tree
from casckpt.ops.remains import lost_parts
from casckpt.ops.reports import CheckoutReport, ExportReport
from casckpt.ops.resolve import resolve
from casckpt.ops.selection import Patterns, Selection, select_state, what_is_left
from casckpt.ops.values import Progress, counted
from casckpt.plan.revision import split_path
from casckpt.state import paths
from casckpt.state.branches import Branch, Leaf, grow, leaves
from casckpt.state.nodes import FileNode, LinkNode

Form = Literal["safetensors", "pt", "npz", "json", "h5"]
SUFFIXES: dict[str, Form] = {f".{form}": form for form in get_args(Form)} | {".pth": "pt", ".hdf5": "h5"}
"""Format by the suffix of a target."""
VIEWS: dict[str, Form] = {f".{form}": form for form in get_args(Form)}
"""Format by the suffix of a path inside a commit."""


def export(
    repository: Repository,
    revision: str,
    destination: str | os.PathLike[str],
    form: str | None = None,
    select: Patterns | None = None,
    progress: Progress | None = None,
    *,
    replace: bool = False,
    dry_run: bool = False,
) -> ExportReport:
    """Write a state or a part of it to a file; see `Store.export`."""
    path, identity, left, whole = _looked_up(repository, revision)
    target = Path(destination)
    file = _file(whole, path or "")
    if file is not None:
        return _export_file(left, file, identity, target, form, progress, replace=replace, dry_run=dry_run)
    part, viewed = view_of(whole, path or "")
    if part and lost_parts(repository.database, identity):
        # Of a thinned commit the part that is asked for by its path is enough, as it is there or refused.
        require_tree(repository.database, identity, lambda name: name != part.partition("/")[0])
        select = part if select is None else select
    wanted = _form(form, viewed, target)
    selection = select_state(repository.database, identity, select)
    if select is not None:
        whole = _grown(selection)
    tree = find(whole, part)
    if tree is None:
        raise NotFoundError(thing=f"{part!r} in commit {selection.loader.commit}")
    with written_aside(target, replace=replace, dry_run=dry_run) as out:
        count = _write(repository, selection, tree, wanted, out, target, progress)
        nbytes = out.seek(0, os.SEEK_END)
    return ExportReport(identity.hex(), part, str(target), wanted, count, nbytes, dry_run)


def checkout_view(
    repository: Repository,
    revision: str,
    destination: str | os.PathLike[str],
    *,
    replace: bool,
    dry_run: bool,
    progress: Progress | None,
) -> CheckoutReport | None:
    """Export what a path with the suffix of a format asks for; None if it asks for something that is committed."""
    path = split_path(revision)[1]
    if path is None or PurePosixPath(path).suffix not in VIEWS:
        return None
    try:
        whole = _looked_up(repository, revision)[-1]
    except IntegrityError:
        return None  # damage elsewhere is nothing to a checkout of a file
    is_committed = find(whole, path) is not None
    if is_committed or any(isinstance(leaf.node, FileNode | LinkNode) for leaf in leaves(whole)):
        return None
    report = export(repository, revision, destination, None, None, progress, replace=replace, dry_run=dry_run)
    return CheckoutReport(report.commit, report.path, 1, report.nbytes, dry_run=dry_run)


def _looked_up(repository: Repository, revision: str) -> tuple[str | None, CommitId, Selection, Branch | Leaf]:
    """The path of a revision; the id of its commit, all that this has not lost, and the tree of that."""
    name, path = split_path(revision)
    identity = resolve(repository.database, name)
    left = what_is_left(repository.database, identity)
    return path, identity, left, _grown(left)


def _grown(selection: Selection) -> Branch | Leaf:
    return grow([(one.loaded.name, one.node, one.values) for one in selection.chosen])


def view_of(tree: Branch | Leaf, path: str) -> tuple[str, Form | None]:
    """What a path asks for: the path of a part, and the format that its suffix names, None if there is such a part."""
    if find(tree, path) is not None:
        return path, None
    suffix = f".{path.rpartition('.')[2]}"
    form = VIEWS.get(suffix)
    return (path, None) if form is None else (path.removesuffix(suffix), form)


def find(tree: Branch | Leaf, path: str) -> Branch | Leaf | None:
    """What lies at a canonical path, None if nothing does."""
    found: Branch | Leaf | None = tree
    while isinstance(found, Branch) and found.path != path:
        below = (child for child in found.children if child.path == path or path.startswith(f"{child.path}/"))
        found = next(below, None)
    return found if found is not None and found.path == path else None


def _form(given: str | None, viewed: Form | None, target: Path) -> Form:
    """The format that is asked for: by name, by the suffix of the path in the commit, or by that of the target.

    Raises:
        UsageError: by none of them, or two of them differ.
    """
    known = get_args(Form)
    if given is not None and given not in known:
        raise UsageError(problem=f"format is one of {', '.join(known)}, not {given!r}")
    asked: list[Form] = [form for form in (given, viewed) if form is not None]  # type: ignore[misc]
    suffix = SUFFIXES.get(target.suffix)
    if given is None and suffix is not None:
        asked.append(suffix)
    if not asked:
        endings = ", ".join(VIEWS)
        raise UsageError(problem=f"{target.name} does not say a format: end it in {endings}, or give format=")
    if len(set(asked)) > 1:
        raise UsageError(problem=f"{' and '.join(asked)} are asked for at once: let suffixes and format agree")
    return asked[0]


def _write(
    repository: Repository,
    selection: Selection,
    tree: Branch | Leaf,
    form: Form,
    file: BinaryIO,
    target: Path,
    progress: Progress | None,
) -> int:
    """Write a tree in a format; returns how many leaves."""
    folder = target.absolute().parent

    def advance(total: int) -> Callable[[int], None]:
        return counted(progress, total)

    if form == "json":
        from casckpt.ops.export_json import write_json

        return write_json(selection, tree, file, advance)
    if form == "h5":
        from casckpt.ops.h5 import write_h5

        return write_h5(selection, tree, file, folder, advance)
    if form == "pt":
        from casckpt.ops.torch_files import save

        save(_value(repository, selection, tree, progress), file)
        return sum(1 for _ in leaves(tree))
    from casckpt.ops.export_flat import write_npz, write_safetensors

    write = write_npz if form == "npz" else write_safetensors
    return write(selection, tree, file, folder, advance)


def _value(repository: Repository, selection: Selection, tree: Branch | Leaf, progress: Progress | None) -> Any:
    """What is at a tree, checked out: memory for all of it, once."""
    from casckpt.ops.checkout import read_state

    if tree.path:
        found = selection.at(tree.path)
        assert found is not None  # its tree was grown from the same nodes
        selection = Selection(selection.loader, [found], ())
    trust = agreed(selection.chosen, selection.loader.commit, strict=False, allow_pickle=False)
    return read_state(repository, selection, trust, progress)


def _file(tree: Branch | Leaf, path: str) -> Leaf | None:
    """The file at a path, or that which a commit of a single file holds; None if there is none."""
    found = find(tree, path)
    if not path and isinstance(found, Branch) and len(found.children) == 1:
        found = found.children[0]
    return found if isinstance(found, Leaf) and isinstance(found.node, FileNode) else None


def _export_file(
    left: Selection,
    file: Leaf,
    identity: CommitId,
    target: Path,
    form: str | None,
    progress: Progress | None,
    *,
    replace: bool,
    dry_run: bool,
) -> ExportReport:
    """Write a committed file as it is, if nothing else is asked for."""
    assert isinstance(file.node, FileNode)
    name = paths.text_of(file.path.rpartition("/")[2]) or file.path
    own = SUFFIXES.get(PurePosixPath(name).suffix)
    wanted = form or SUFFIXES.get(target.suffix)
    if wanted not in (None, own):
        problem = (
            f"{name} is a file, which comes out as it is and not as {wanted}; casckpt import --as state decodes it"
        )
        raise UsageError(problem=problem)
    loaded = left.chosen[file.part].loaded
    blob = file.node.blob
    done = counted(progress, 0 if blob is None else loaded.structure.sizes[blob])
    with written_aside(target, replace=replace, dry_run=dry_run) as written:
        for piece in () if blob is None else left.loader.pieces(loaded, blob):
            written.write(piece)
            done(len(piece))
        nbytes = written.seek(0, os.SEEK_END)
    return ExportReport(identity.hex(), file.path, str(target), "file", 1, nbytes, dry_run)
