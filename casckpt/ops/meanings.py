"""What a name means besides its present value: what it meant at a time, and what else it could mean."""

from __future__ import annotations

import warnings
from collections.abc import Collection

from casckpt.errors import RevisionWarning
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb.database import Database
from casckpt.ops import lookup
from casckpt.ops.ref_changes import changes
from casckpt.ops.reports import RefChange
from casckpt.plan.moments import Moment
from casckpt.plan.names import head_ref, tag_ref

_shown: dict[str | tuple[str, type[Warning], int], int] = {}


def value_then(database: Database, refs: Collection[str], time_ns: int) -> CommitId | str | None:
    """What a ref named at a time, by the journal; why that is not known, in words; None if it never had a value.

    Args:
        refs: full names; of several the one that was set last before that time counts.

    Cost: reads the journal back to that time.
    """
    later: RefChange | None = None
    for change in changes(database, refs):
        if change.time_ns <= time_ns:
            if change.new is not None:
                return CommitId(ObjectId(bytes.fromhex(change.new)))
            named = "" if change.old is None else f" and had named {change.old[:12]}"
            return f"it was removed at {_at(change)}{named}"
        later = change
    if later is None:
        return None
    named = "was removed" if later.new is None else f"named {later.new[:12]}"
    return f"the journal knows it from {_at(later)} on, when it {named}"


def _at(change: RefChange) -> str:
    """When a change was, exact to the nanosecond, so that it can be asked for again."""
    return str(Moment(change.time_ns))


def warn_of_clash(database: Database, base: str) -> None:
    """Warn, once for each text, if a bare word is more than one of tag, run and the start of an id."""
    meanings = [
        (f"the {kind} {name}", name)
        for kind, name, ref in (("tag", f"tags/{base}", tag_ref(base)), ("run", f"runs/{base}", head_ref(base, "last")))
        if database.ref(ref) is not None
    ]
    ids = lookup.commits_by_prefix(database, base) if meanings and not base.startswith("id:") else []
    if ids:
        meanings.append((f"the commit id:{base}", f"id:{base}") if len(ids) == 1 else ("several commits", f"id:{base}"))
    if len(meanings) > 1:
        others = " and ".join(what for what, _ in meanings[1:])
        names = " or ".join(name for _, name in meanings)
        text = f"{base!r} is taken as {meanings[0][0]}, and is {others} too: write {names}"
        # Shown once, wherever in the program the name is used.
        warnings.warn_explicit(text, RevisionWarning, "casckpt", 1, "casckpt", _shown)
