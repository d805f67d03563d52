"""One pass over a store that changes nothing: what is damaged or missing, which leaves and commits that hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from casckpt.errors import CasckptError, DamagedObject, FormatError, IntegrityError, StorageError
from casckpt.format import pack as p
from casckpt.format.commit import Commit
from casckpt.format.entry import PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId, short_id
from casckpt.odb.database import Database
from casckpt.odb.fold import Gap, repaired_gaps
from casckpt.odb.journal import Tail, file_name
from casckpt.odb.pack_writer import pack_name
from casckpt.ops.load import Loader
from casckpt.ops.lookup import pinned
from casckpt.ops.reports import Finding
from casckpt.ops.required import RequiredPaths
from casckpt.ops.strays import find_strays
from casckpt.ops.values import Progress, counted
from casckpt.storage.base import read_exact

_READ_ERRORS = (IntegrityError, FormatError, StorageError, FileNotFoundError)


@dataclass
class Survey:
    """What one pass over the store found, in the form a repair needs."""

    findings: list[Finding] = field(default_factory=list)
    bad_packs: dict[PackRef, str] = field(default_factory=dict)
    """Packs that must be rewritten or given up, with what is wrong."""
    unlisted: list[str] = field(default_factory=list)
    """Pack files no journal frame names."""
    strays: dict[str, PackRef] = field(default_factory=dict)
    """Files in packs/ that are a pack of the set which is not whole under its own name, by file name."""
    gaps: list[Gap] = field(default_factory=list)
    """Damage in the journal that no repair has gone over."""
    objects: int = 0
    nbytes: int = 0
    commits: int = 0
    lost: dict[ObjectId, str] = field(default_factory=dict)
    """Objects no copy of which is whole, with the file that should hold them."""
    hit: dict[CommitId, tuple[str, ...]] = field(default_factory=dict)
    """Commits that something is wrong with, and their leaves that it hits; those of one blob in one text."""

    def note(self, severity: str, what: str, where: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(severity, what, where))


def check(database: Database, *, full: bool, progress: Progress | None = None) -> Survey:
    """Look at everything once.

    Args:
        full: also compare every stored byte with its id.
        progress: hears of the bytes of packs that were looked through.
    """
    survey = Survey()
    packs = sorted(database.pack_set())
    advance = counted(progress, sum(pack.nbytes for pack in packs))
    _check_journal(database, survey, full=full)
    suspects: dict[ObjectId, str] = {}
    for pack in packs:
        _check_pack(database, pack, survey, suspects, full=full, advance=advance)
    _check_names(database, survey)
    for identity, where in suspects.items():
        if not _has_whole_copy(database, identity):
            survey.lost[identity] = where
    _check_commits(database, survey)
    return survey


def _check_names(database: Database, survey: Survey) -> None:
    """Look at files in packs/ that no pack of the set has as its own, and at those in the place of a pack."""
    listed = {pack_name(pack.id) for pack in database.pack_set()}
    others = [name for name in (f"packs/{name}" for name in database.storage.list("packs")) if name not in listed]
    survey.strays = find_strays(database, survey.bad_packs, others)
    for name, pack in survey.strays.items():
        survey.note("notice", f"it is pack {short_id(pack.id)} under a wrong name: a repair gives it its own", name)
    for name in others:
        if name.endswith(".pack") and name not in survey.strays:
            survey.unlisted.append(name.removeprefix("packs/"))
            survey.note("notice", "no journal frame names this pack: an interrupted commit left it", name)


def _check_journal(database: Database, survey: Survey, *, full: bool) -> None:
    gaps: list[Gap] = []
    repaired: set[Gap] = set()

    def notice(tail: Tail) -> None:
        gaps.extend(tail.gaps)
        if tail.kind == "torn":
            survey.note("notice", "an unfinished frame at the end, never acknowledged", file_name(tail.position.file))

    last = -1
    for placed, entry in database.history(notice):
        last = placed.frame.seq
        repaired.update(repaired_gaps(entry))
        for record, _ in entry.objects:
            survey.objects += 1
            if full:
                moved = record._replace(offset=placed.payload_offset + record.offset)
                try:
                    database.packs.read_record(file_name(placed.file), moved)
                    survey.nbytes += record.stored
                except (DamagedObject, FormatError) as error:
                    survey.note("damage", _said(error), file_name(placed.file))
    for gap in gaps:
        text = f"bytes {gap[1]} to {gap[2]} hold no valid frame"
        if gap in repaired:
            survey.note("notice", f"{text}; a repair has gone over it", file_name(gap[0]))
        else:
            survey.gaps.append(gap)
            survey.note("damage", f"{text}: what was acknowledged there is lost", file_name(gap[0]))
    known = database.tail.position.seq - 1
    if last < known:
        what = f"frames {last + 1} to {known} were acknowledged and cannot be read any more"
        survey.note("damage", what, file_name(database.tail.position.file))


def _check_pack(
    database: Database,
    pack: PackRef,
    survey: Survey,
    suspects: dict[ObjectId, str],
    *,
    full: bool,
    advance: Callable[[int], None],
) -> None:
    """Check one pack; objects that cannot be read from it go into `suspects`."""
    name = pack_name(pack.id)
    size = database.storage.size(name)
    problem = "" if size == pack.nbytes else f"it has {size} bytes instead of {pack.nbytes}"
    if size is None:
        problem = "the file is missing"
    try:
        database.packs.forget(name)
        records = [] if size is None else database.packs.contents(pack.id).records
    except _READ_ERRORS as error:
        problem = problem or (_said(error) if isinstance(error, CasckptError) else str(error))
        records = []
    survey.objects += len(records)
    if problem:
        survey.bad_packs[pack] = problem
        survey.note("damage", f"pack {short_id(pack.id)}: {problem}", name)
        records = []
    elif full:
        _read_pack(database, pack, records, survey, suspects, advance)
    # In a full check the records have been counted, and what lies around them is left.
    advance(pack.nbytes - (sum(record.stored for record in records) if full else 0))


def _read_pack(
    database: Database,
    pack: PackRef,
    records: list[p.Record],
    survey: Survey,
    suspects: dict[ObjectId, str],
    advance: Callable[[int], None],
) -> None:
    name = pack_name(pack.id)
    file = database.packs.open(name)
    for record in records:
        survey.nbytes += record.stored
        advance(record.stored)
        try:
            stored = read_exact(file, record.offset, record.stored)
            if p.check_of(record.codec, record.id, record.kind, stored) != record.check:
                raise IntegrityError(object="a record", problem="its stored bytes do not match their check")
            database.packs.read_record(name, record)
        except (*_READ_ERRORS, DamagedObject) as error:
            suspects[record.id] = name
            survey.bad_packs[pack] = f"object {short_id(record.id)} is damaged"
            reason = error.facts.get("problem", error) if isinstance(error, CasckptError) else error
            what = f"object {short_id(record.id)} at offset {record.offset}: {reason}"
            survey.note("damage", what, name)
    if len(database.packs.salvage(pack.id)) != len(records):
        survey.bad_packs.setdefault(pack, "an extent table is damaged")
        survey.note("damage", f"pack {short_id(pack.id)}: an extent table is damaged; the data is whole", name)


def _has_whole_copy(database: Database, identity: ObjectId) -> bool:
    for name, record in database.copies(identity):
        try:
            database.packs.read_record(name, record)
            return True
        except (DamagedObject, FormatError):
            continue
    return False


def _check_commits(database: Database, survey: Survey) -> None:
    """Follow every commit that is not dropped down to its chunk ids; gather hits by what is missing."""
    for name, identity in database.refs().items():
        if database.commit(identity) is None:
            survey.note("damage", f"it names commit {short_id(identity)}, which is missing", f"ref {name}")
    for identity in pinned(database):
        if database.commit(identity) is None:
            survey.note("damage", "it is pinned and missing", f"commit {short_id(identity)}")
    hits: dict[tuple[str, str, str], list[str]] = {}
    seen: dict[ObjectId, list[tuple[str, str, str]]] = {}
    required = RequiredPaths()
    for identity, commit in database.commits():
        survey.commits += 1
        drop = database.drop(identity)
        if drop is not None and drop.parts is None:
            continue
        loader = Loader(database, identity, commit)
        thinned = () if drop is None or drop.parts is None else drop.parts
        problems = list(_tree_problems(database, loader, thinned, survey.lost, seen, required))
        if commit.required and not problems and not thinned:
            # Only where the whole structure was read: what is lost or was given up is not missing by mistake.
            problems = _missing_paths(loader, commit, required)
        if problems:
            survey.hit[identity] = tuple(sorted({leaf for leaf, _, _ in problems}))
        for problem in problems:
            hits.setdefault(problem, []).append(identity.hex())
    for (leaf, what, where), commits in hits.items():
        survey.findings.append(Finding("damage", what, where, leaf, tuple(sorted(commits))))


def _tree_problems(
    database: Database,
    loader: Loader,
    thinned: Iterable[str],
    lost: dict[ObjectId, str],
    seen: dict[ObjectId, list[tuple[str, str, str]]],
    required: RequiredPaths,
) -> Iterator[tuple[str, str, str]]:
    """(leaf, what, where) for everything of a tree that is missing or lost; a component seen before is not walked."""
    try:
        tree = loader.tree()
    except IntegrityError as error:
        yield "the whole state", _said(error), "tree"
        return
    for name, identity in tree.components:
        if name in thinned:
            continue
        if identity not in seen:
            seen[identity] = list(_component_problems(database, loader, name, identity, lost, required))
        yield from seen[identity]


def _missing_paths(loader: Loader, commit: Commit, required: RequiredPaths) -> list[tuple[str, str, str]]:
    """(pattern, what, where) for every path that a commit's schema requires and its state does not have."""
    assert commit.schema is not None
    name, version = commit.schema
    try:
        missing = required.missing(loader, loader.tree(), commit)
    except (IntegrityError, FormatError) as error:
        return [("the whole state", _said(error), "tree")]
    what = f"the state has no such path, and version {version} of the schema {name!r} requires it"
    return [(pattern, what, "schema") for pattern in missing]


def _component_problems(
    database: Database,
    loader: Loader,
    name: str,
    identity: ObjectId,
    lost: dict[ObjectId, str],
    required: RequiredPaths,
) -> Iterator[tuple[str, str, str]]:
    try:
        loaded = loader.component(name, identity)
        required.learn(loaded)
    except (IntegrityError, FormatError) as error:
        yield name or "the root of the state", _said(error), "tree"
        return
    for blob in range(len(loaded.structure.sizes)):
        try:
            missing = [
                span.chunk
                for span in loader.spans(loaded, blob)
                if span.chunk in lost or not _is_there(database, span.chunk)
            ]
        except (IntegrityError, FormatError) as error:
            yield ", ".join(loaded.paths_of({blob})), _said(error), "tree"
            continue
        for chunk in dict.fromkeys(missing):
            paths = ", ".join(loaded.paths_of({blob})) or name
            yield paths, f"chunk {short_id(chunk)} is damaged or missing", lost.get(chunk, "no pack")


def _is_there(database: Database, chunk: ObjectId) -> bool:
    """Whether a chunk has a row into a file that exists, or any other copy."""
    row = database.row(chunk)
    name = None if row is None else database.file_of(row)
    if row is not None and row.kind == Kind.CHUNK and name is not None and database.storage.size(name) is not None:
        return True
    return next(iter(database.copies(chunk)), None) is not None


def _said(error: CasckptError) -> str:
    """What an error says, without its advice: that is for whoever reads the whole report."""
    return "; ".join(part for part in (error.summary, error.reason) if part)
