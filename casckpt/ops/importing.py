"""import: existing checkpoint files and folders become one run, a commit each, oldest first.

What a commit was made of is kept with it, as its `data`: name, length, time and content id of the file. So a second
import takes only what is new, and one that was killed goes on where it was. The files are read, never changed.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from casckpt.errors import (
    FileChanged,
    FormatError,
    NotFoundError,
    PickledObjects,
    StateError,
    StorageError,
    UsageError,
)
from casckpt.format.ids import checksum_of
from casckpt.odb.repository import Repository
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.decode import DECODED, decode
from casckpt.ops.files import commit_paths
from casckpt.ops.inspect import metadata
from casckpt.ops.reports import ImportedCheckpoint, ImportReport
from casckpt.ops.values import CommitInfo, Progress
from casckpt.plan.checkpoint_names import SUFFIXES, Place, is_shard, order, place_of
from casckpt.plan.graph import ancestors
from casckpt.plan.names import check_name, head_ref, is_text
from casckpt.state.flatten import flatten
from casckpt.storage.posix import OPEN_FLAGS, OsErrors

Form = Literal["files", "state"]
"""How a checkpoint is committed: byte for byte, or decoded into a state."""

_PIECE = 1 << 20
_Entry = tuple[str, int, int]
"""Relative path of a file, its length, its time in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint on disk; `entries` are its files as they were when they were listed, of a file itself only."""

    name: str
    path: Path
    is_folder: bool
    place: Place
    entries: tuple[_Entry, ...]

    @property
    def nbytes(self) -> int:
        return sum(size for _, size, _ in self.entries)

    @property
    def mtime_ns(self) -> int:
        """Time of its newest file."""
        return max((mtime for _, _, mtime in self.entries), default=0)

    def content(self) -> str:
        """The id of its bytes: of a file their BLAKE3, of a folder that of the names and ids of its files."""
        if not self.is_folder:
            return checksum_of(_pieces(self.path)).hex()
        parts = ((name, checksum_of(_pieces(self.path / name))) for name, _, _ in self.entries)
        return checksum_of(f"{name}\0".encode("utf-8", "surrogateescape") + identity for name, identity in parts).hex()

    def require_same(self) -> None:
        """Refuse it if a file of it was written to since it was listed."""
        if _entries(self.path, self.is_folder) != self.entries:
            raise FileChanged(path=self.name)


def import_path(
    repository: Repository,
    paths: Iterable[str | os.PathLike[str]],
    run: str,
    form: str = "files",
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
    allow_pickle: bool = False,
) -> ImportReport:
    """Import checkpoints; see `Store.import_path`."""
    check_name("run", run)
    if form not in get_args(Form):
        raise UsageError(problem=f"form is one of {', '.join(get_args(Form))}, not {form!r}")
    if allow_pickle and form != "state":
        raise UsageError(problem="allow_pickle goes with form='state': files are never unpickled")
    found = sorted(_discover(map(Path, paths)), key=lambda one: order(one.name, one.place, one.mtime_ns))
    names = Counter(one.name for one in found)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UsageError(problem=f"two checkpoints are called {twice!r}: import them into different runs")
    known = _known(repository, run, form)
    total = sum(one.nbytes for one in found)
    done, results = 0, []
    for one in found:
        advance = partial(_advance, progress, done, one.nbytes, total)
        results.append(_import(repository, one, run, form, known, advance, dry_run, allow_pickle))
        done += one.nbytes
        advance(1, 1)
    return ImportReport(run, form, dry_run, tuple(results))


def _advance(progress: Progress | None, before: int, share: int, total: int, done: int, of: int) -> None:
    """Progress within one checkpoint as progress over the bytes of all."""
    if progress is not None:
        progress(before + share * min(done, of) // max(of, 1), total)


def _import(
    repository: Repository,
    one: Candidate,
    run: str,
    form: str,
    known: dict[str, list[dict[str, Any]]],
    advance: Callable[[int, int], None],
    dry_run: bool,
    allow_pickle: bool,
) -> ImportedCheckpoint:
    """Import one checkpoint, unless the run has it. What is wrong with the checkpoint itself is its result."""

    def result(**found: Any) -> ImportedCheckpoint:
        place = one.place
        return ImportedCheckpoint(one.name, place.step, place.epoch, dict(place.metrics), one.nbytes, **found)

    same = [record for record in known.get(one.name, []) if record["bytes"] == one.nbytes]
    before = next((record for record in same if record["mtime_ns"] == one.mtime_ns), None)
    try:
        if before is None and (same or not dry_run):
            content = one.content()
            before = next((record for record in same if record["content"] == content), None)
        if before is not None:
            return result(commit=before["commit"], skipped=True)
        if dry_run:
            return result()
        record = {"name": one.name, "bytes": one.nbytes, "mtime_ns": one.mtime_ns, "content": content, "form": form}
        options = _options(one, run, record)
        one.require_same()
        info, opaque = _commit(repository, one, options, form, _watched(one, advance), allow_pickle)
    except (UsageError, StateError, FormatError, NotFoundError) as error:
        return result(problem=error.message, code=error.code, exit_code=error.exit_code)
    except StorageError as error:
        if not str(error.facts.get("path", "")).startswith(str(one.path)):
            raise  # the store failed, not the checkpoint
        return result(problem=error.message, code=error.code, exit_code=error.exit_code)
    hit = {"nonfinite": info.nonfinite, "nonfinite_paths": info.nonfinite_paths}
    return result(commit=info.id, added=info.added, opaque=opaque, **hit)


def _watched(one: Candidate, advance: Callable[[int, int], None]) -> Progress:
    """Progress that cancels the commit at its end if a file has changed meanwhile."""

    def watch(done: int, total: int) -> None:
        if done >= total:
            one.require_same()
        advance(done, total)

    return watch


def _options(one: Candidate, run: str, record: dict[str, Any]) -> CommitOptions:
    if not is_text(one.name):
        raise UsageError(problem=f"the name {one.name!a} is no text that can be kept")
    return CommitOptions(
        run=run,
        step=one.place.step,
        epoch=one.place.epoch,
        metrics=one.place.metrics,
        message=f"import {one.name}",
        data={"import": record},
    )


def _commit(
    repository: Repository,
    one: Candidate,
    options: CommitOptions,
    form: str,
    progress: Progress,
    allow_pickle: bool,
) -> tuple[CommitInfo, tuple[str, ...]]:
    """The commit, and which files of a folder are in its state as bytes since they hold pickled objects."""
    if form == "files":
        # The files of a folder are committed without it: their paths then stay the same from step to step.
        paths = [one.path / name for name in sorted(os.listdir(one.path))] if one.is_folder else [one.path]
        return commit_paths(repository, tuple(paths), options, progress=progress), ()
    spool = None if repository.storage.path is None else Path(repository.storage.path) / "tmp"
    read = partial(decode, spool=spool, allow_pickle=allow_pickle)
    opaque: list[str] = []
    state = _folder_state(one, read, opaque) if one.is_folder else read(one.path, one.name)
    return commit_state(repository, flatten(state), options, progress=progress), tuple(opaque)


def _folder_state(one: Candidate, read: Callable[[Path, str], Any], opaque: list[str]) -> dict[str, Any]:
    """The files of a folder by name: states where their suffix says how to decode them, the others as bytes.

    A file with pickled objects stays bytes too, and its name joins `opaque`: trainers put one beside the tensors in
    every folder, and the rest should not be lost for it.
    """
    state: dict[str, Any] = {}
    for name, _, _ in one.entries:
        *folders, last = name.split("/")
        place = state
        for folder in folders:
            place = place.setdefault(folder, {})
        path = one.path / name
        if path.suffix.lower() in DECODED:
            try:
                place[last] = read(path, f"{one.name}/{name}")
                continue
            except PickledObjects:
                opaque.append(name)
        place[last] = b"".join(_pieces(path))
    return state


def _discover(paths: Iterable[Path]) -> Iterator[Candidate]:
    """The checkpoints that paths name: files, folders that are one, and folders of both."""
    for path in paths:
        with OsErrors("read", str(path)):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError as error:
                raise NotFoundError(thing=str(path)) from error
            if not stat.S_ISDIR(mode):
                yield _candidate(path, is_folder=False)
                continue
            inside = sorted(os.scandir(path), key=lambda entry: entry.name)
            files = [entry.name for entry in inside if entry.is_file(follow_symlinks=False)]
            if place_of(path.absolute().name).is_known or any(map(is_shard, files)):
                yield _candidate(path, is_folder=True)
                continue
            found = [
                _candidate(path / entry.name, is_folder=entry.is_dir(follow_symlinks=False))
                for entry in inside
                if _is_checkpoint(entry)
            ]
            if not found:
                raise NotFoundError(
                    thing=f"a checkpoint in {path} (files {' '.join(SUFFIXES)}, folders like step_1000)"
                )
            yield from found


def _is_checkpoint(entry: os.DirEntry[str]) -> bool:
    """Links are passed over: `last.ckpt` is often one, to a checkpoint beside it."""
    if entry.is_dir(follow_symlinks=False):
        return place_of(entry.name).is_known
    return entry.is_file(follow_symlinks=False) and entry.name.endswith(SUFFIXES)


def _candidate(path: Path, *, is_folder: bool) -> Candidate:
    name = path.absolute().name
    return Candidate(name, path, is_folder, place_of(name), _entries(path, is_folder))


def _entries(path: Path, is_folder: bool) -> tuple[_Entry, ...]:
    """The files below a path, by name, as they are now."""
    if not is_folder:
        status = path.lstat()
        return (("", status.st_size, status.st_mtime_ns),)
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            relative = os.path.relpath(os.path.join(folder, name), path)
            found.append((relative, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def _pieces(path: Path) -> Iterator[bytes]:
    with OsErrors("read", str(path), names_pass=False):
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
        with open(descriptor, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                yield piece


def _known(repository: Repository, run: str, form: str) -> dict[str, list[dict[str, Any]]]:
    """What the run was made of by earlier imports in this form: records by name, each with its commit."""
    database = repository.database
    database.refresh()
    last = database.ref(head_ref(run, "last"))
    found: dict[str, list[dict[str, Any]]] = {}
    for identity, commit in () if last is None else ancestors([last], database.commit):
        if commit.data is None or commit.run != run:
            continue
        data = metadata(database, identity)["data"]
        record = data.get("import") if isinstance(data, dict) else None
        keys = {"name", "bytes", "mtime_ns", "content", "form"}
        if isinstance(record, dict) and keys <= set(record) and record["form"] == form:
            found.setdefault(str(record["name"]), []).append({**record, "commit": identity.hex()})
    return found
