"""What of a remote is asked for, and which of its names and settings can be believed.

A remote is written by others: what it calls its refs, runs and rules is checked here before anybody acts on it or sees
it on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from casckpt.errors import InvalidName, NotOnRemote, RemoteUntrusted, UsageError
from casckpt.format.ids import CommitId
from casckpt.format.remote import RemoteRoot
from casckpt.odb.renames import listed
from casckpt.ops.lookup import close_names, did_you_mean
from casckpt.ops.run_changes import ENDS
from casckpt.plan.names import HEADS, check_name, head_ref, run_of, tag_ref
from casckpt.state.select import may_reach

_ID_PREFIX = re.compile(r"[0-9a-f]{4,64}", re.ASCII)
_CONFLICT = re.compile(r"conflicts/(.+)/[0-9a-f]{12}", re.ASCII)
_SHOWN = 8


class Selection(NamedTuple):
    """What of a remote is asked for; nothing of the first four means all of its refs.

    Args:
        names: of runs, tags and refs, or ids of commits, whichever the remote has.
        runs: names of runs.
        refs: names of refs, whole or short: `runs/gpt/best`, `gpt/best`, `v1`.
        revisions: ids of commits, or their first digits.
        depth: of how many commits behind each name the content is fetched; None for all.
        only: patterns of the components that are fetched; None for all.
        whole: bring also what an earlier fetch left out. Else only `depth` and `only` ask for content of commits that
            are known here, so that who has a short history is not given the long one by the next fetch.
    """

    runs: Sequence[str] = ()
    refs: Sequence[str] = ()
    revisions: Sequence[str] = ()
    depth: int | None = None
    only: Sequence[str] | None = None
    whole: bool = False
    names: Sequence[str] = ()

    @property
    def is_deeper(self) -> bool:
        """Whether content of commits that are known here is asked for."""
        return self.whole or self.depth is not None or self.only is not None

    @property
    def is_all(self) -> bool:
        """Whether all refs are asked for."""
        return not (self.runs or self.refs or self.revisions or self.names)

    def check(self) -> None:
        """Raise UsageError for what nobody can mean."""
        depth = self.depth
        if depth is not None and (type(depth) is not int or depth < 0):
            raise UsageError(problem=f"depth must be a whole number of 0 or more, not {depth!a}")
        for text in self.revisions:
            if not _ID_PREFIX.fullmatch(text):
                raise UsageError(problem=f"{text!a} is not the id of a commit, or its first digits")
        if self.only is not None:
            may_reach(self.only, "")


def refs_of(root: RemoteRoot | None, url: str) -> dict[str, CommitId]:
    """The refs of a remote that this release knows, by name; those of other forms are passed over.

    Raises:
        RemoteUntrusted: one says that it is of a run or a tag, and none can be called so.
    """
    found: dict[str, CommitId] = {}
    for ref, value in ({} if root is None else root.refs).items():
        conflict = _CONFLICT.fullmatch(ref)
        try:
            if _is_known(conflict[1] if conflict else ref):
                found[ref] = value.commit
        except InvalidName as error:
            raise RemoteUntrusted(remote=url, problem=f"it has a ref {ref!a}: {error}") from error
    return found


def _is_known(ref: str) -> bool:
    head = run_of(ref)
    if head is not None:
        check_name("run", head[0])
        return head[1] in HEADS
    if ref.startswith("tags/"):
        check_name("tag", ref.removeprefix("tags/"))
        return True
    return False


def chosen_refs(known: Mapping[str, CommitId], selection: Selection, url: str) -> tuple[dict[str, CommitId], list[str]]:
    """The refs that are asked for, and the ids of commits that are, or their first digits.

    Raises:
        NotOnRemote: the remote has none of such a name.
    """
    ids = list(selection.revisions)
    if selection.is_all:
        return dict(known), ids
    found: dict[str, CommitId] = {}
    for run in dict.fromkeys((*selection.runs, *selection.names)):
        own = {ref: commit for ref, commit in known.items() if (run_of(ref) or ("",))[0] == run}
        if not own and run in selection.runs:
            runs = {head[0] for head in map(run_of, known) if head is not None}
            raise NotOnRemote(remote=url, object=f"run {run!a}", problem=_near(run, runs))
        found |= own
    for ref in (*selection.refs, *selection.names):
        exact = next((one for one in (ref, *_meanings(ref)) if one in known), None)
        if exact is not None:
            found[exact] = known[exact]
        elif ref in selection.names and _ID_PREFIX.fullmatch(ref):
            ids.append(ref)
        else:
            raise NotOnRemote(remote=url, object=f"ref {ref!a}", problem=_near(ref, known))
    return found, ids


def _meanings(ref: str) -> tuple[str, ...]:
    run, _, head = ref.rpartition("/")
    heads = (head_ref(run, head),) if run and head in HEADS else ()
    return (tag_ref(ref), head_ref(ref, "last"), *heads)


def _near(name: str, known: Collection[str]) -> str:
    if not known:
        return "it has none yet"
    shown = ", ".join(sorted(known)[:_SHOWN]) + (" and more" if len(known) > _SHOWN else "")
    return did_you_mean(close_names(name, set(known))) or f"it has {shown}"


def _is_best(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and type(value[0]) is str and value[1] in ("min", "max")


def _is_finished(value: Any) -> bool:
    return type(value) is dict and type(value.get("time")) is int and value.get("status") in ENDS


def _is_renamed(value: Any) -> bool:
    try:
        for _, name in listed(value):
            check_name("run", name)
    except InvalidName:
        return False
    return type(value) is list and len(listed(value)) == len(value)


RUN_SETTINGS: dict[str, Callable[[Any], bool]] = {
    "best": _is_best,
    "finished": _is_finished,
    "renamed": _is_renamed,
}
"""Settings of runs that are taken over, and what each can be. What a run keeps is decided where it is kept."""


def plain_rule(rule: str, url: str) -> str:
    """A rule that a remote says, which will be shown to people."""
    if not rule.isprintable():
        raise RemoteUntrusted(remote=url, problem=f"a record of a drop says {rule[:_SHOWN]!a}")
    return rule
