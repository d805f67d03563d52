"""fsck: is everything there, and is it what was written? Damage names the file, the leaf and every commit it hits.

    quick   the journal's chain, every pack's length and table of contents, every commit's tree down to its chunk ids
            and the paths its schema requires
    full    also every stored byte against its id, and every extent table

Repair gives packs whose files have a wrong name their own (ops.strays). Then (ops.repair) it rewrites damaged packs
from what is whole or has a second copy, moves damaged files to trash/, takes back in what a damaged journal lost, and
rebuilds the index. Commits that are hit after that get a mark, so that neither `best` nor `recovery` moves to them; a
full repair takes it from those that are whole again.

With a remote to repair from, what has no whole copy here is brought from there (ops.refetch). Such a repair is always
full: only who has read every byte knows what to ask for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from casckpt.errors import UsageError
from casckpt.format.ids import CommitId
from casckpt.odb import locks
from casckpt.odb.repository import Repository
from casckpt.ops.repair import heal, note_damage
from casckpt.ops.reports import Brought, FsckReport
from casckpt.ops.strays import return_strays
from casckpt.ops.survey import check
from casckpt.ops.values import Progress

if TYPE_CHECKING:
    from casckpt.remote.view import RemoteView

DEPTHS = ("quick", "full")


def fsck(
    repository: Repository,
    depth: str = "quick",
    *,
    repair: bool = False,
    source: RemoteView | None = None,
    progress: Progress | None = None,
) -> FsckReport:
    """Verify a store, and heal it if asked to.

    Args:
        source: a remote to repair from; the check is a full one then.
        progress: hears of the bytes of packs that were looked through, with a repair anew for each pass.

    Raises:
        UsageError: an unknown depth, or a source without a repair.
        BusyError: a collector did not end; it waits for a check that runs.
        and with a source what `refetch` raises.

    Cost: quick reads footers and trees; full reads every byte once. Memory: one pack's records and 1 MiB.
    """
    if depth not in DEPTHS:
        raise UsageError(problem=f"depth must be one of {', '.join(DEPTHS)}, not {depth!r}")
    if source is not None:
        if not repair:
            raise UsageError(problem="a remote is asked only to repair: say so, or leave it out")
        depth = "full"
    # What is being read must not be collected meanwhile: a pack that left would look like one that was lost.
    with locks.committing(repository.storage):
        return _fsck(repository, depth, repair=repair, source=source, progress=progress)


def _fsck(
    repository: Repository, depth: str, *, repair: bool, source: RemoteView | None, progress: Progress | None
) -> FsckReport:
    """The check itself; nothing leaves the store meanwhile."""
    database = repository.database
    database.refresh()
    survey = check(database, full=depth == "full", progress=progress)
    fresh: tuple[CommitId, ...] = ()
    cleared: tuple[CommitId, ...] = ()
    brought: Brought | None = None
    if repair:
        before = survey.findings
        done = return_strays(database, survey.strays)
        if done:
            # A pack that is back may be whole: then nothing of it is to be rewritten, let alone given up.
            survey = check(database, full=depth == "full", progress=progress)
            before = [*before, *(finding for finding in survey.findings if finding not in before)]
        done |= heal(repository, survey)
        if source is not None:
            from casckpt.ops.refetch import refetch  # few need a remote for it

            brought = refetch(repository, source, progress)
        survey = check(repository.database, full=depth == "full", progress=progress)
        fresh, cleared = note_damage(repository, survey, full=depth == "full")
        left = {finding.what for finding in survey.findings}
        healed = [
            replace(finding, repaired=done.get(finding.where, "healed"))
            for finding in before
            if finding.severity == "damage" and finding.what not in left
        ]
        survey.findings = [*survey.findings, *healed]
    return FsckReport(
        depth=depth,
        packs=sum(1 for _ in repository.database.pack_set()),
        objects=survey.objects,
        commits=survey.commits,
        nbytes=survey.nbytes,
        findings=tuple(survey.findings),
        marked=tuple(identity.hex() for identity in fresh),
        cleared=tuple(identity.hex() for identity in cleared),
        brought=brought,
    )
