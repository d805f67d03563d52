"""The next root of a remote: the one step that changes it, and how to find out whether it happened.

    CREATED    -> LIST: ours is the newest, or the newest leads back to it, link by link: done. Else its number had been
                  used and removed before, and nobody will read it: go round again
    EXISTS     -> GET: ours after all (an answer was lost, or the request came twice), or somebody was first: go round
    UNKNOWN    -> as EXISTS; where nothing is there, the same bytes are sent once more

A root is decided by creating its number, so of all who do at once one wins, and the others start from its root.
"""

from __future__ import annotations

import os
import pwd
import random
import time
from collections.abc import Callable
from dataclasses import replace

from casckpt.errors import CasckptError, OutcomeUnknown, RemoteUnavailable, StorageError
from casckpt.format.ids import checksum
from casckpt.format.remote import PUSH_ID_BYTES, Push, RemoteRoot, root_key
from casckpt.format.remote_about import ABOUT_KEY, RemoteAbout
from casckpt.remote.view import LINKS_MAX, RemoteView
from casckpt.storage.objects import Outcome

ROUNDS = 100
"""How often somebody else may be first."""
TRIES = 6
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0


def new_push_id() -> bytes:
    """A random id for what one command does to a remote."""
    return os.urandom(PUSH_ID_BYTES)


def append_root(
    view: RemoteView, change: Callable[[RemoteRoot], RemoteRoot], push_id: bytes, *, note: str = ""
) -> RemoteRoot:
    """Make the next root of a remote; the newest one then.

    Args:
        view: refreshed.
        change: makes the next root of the newest; number, link and push are set here. It is called once for each root
            that somebody else was first with, so it says no to what is out of date by raising. If it returns the root
            it was given, nothing is written. Of an empty remote it gets a root with the number 0.
        push_id: of the push; the root names it.
        note: goes into the root.

    Raises:
        OutcomeUnknown: the root may be there, or come to be there; nobody answers. To do the same again is safe.
        RemoteUnavailable, RemoteDenied: nothing was changed.
        and what `change` and `RemoteView.refresh` raise.
    """
    for number in range(ROUNDS):
        if number:
            _pause(number)
            view.refresh()
        base, before = view.root, view.root_hash
        start = empty_root(push_id) if base is None else base
        wanted = change(start)
        if wanted is start:
            return start
        if base is None:
            _describe(view)
        root = replace(wanted, seq=start.seq + 1, prev=before, push=_push(push_id, note))
        data = root.encode()
        if _is_settled(view, root, data):
            view.adopt(root, data)
            return root
    problem = f"others were first {ROUNDS} times"
    raise RemoteUnavailable(remote=view.objects.url, operation="take a new root", problem=problem)


def empty_root(push_id: bytes) -> RemoteRoot:
    """What comes before the first root of a remote; it is not written."""
    return RemoteRoot(0, None, 0, _push(push_id, ""))


def pusher() -> str:
    """Who pushes, for people: user and host."""
    return f"{_user()}@{os.uname().nodename}"


def _push(identity: bytes, note: str) -> Push:
    return Push(identity, os.uname().nodename, _user(), "casckpt", time.time_ns(), note)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _describe(view: RemoteView) -> None:
    """Write casckpt.json. Whoever was first with it decides what it says, and nobody reads it without a root."""
    about = RemoteAbout(os.urandom(16), time.time_ns())
    for number in range(TRIES):
        if view.objects.create(ABOUT_KEY, about.encode()) is not Outcome.UNKNOWN:
            return
        _pause(number)
    problem = "nobody knows whether casckpt.json was written"
    raise RemoteUnavailable(remote=view.objects.url, operation="take its first file", problem=problem)


def _is_settled(view: RemoteView, root: RemoteRoot, data: bytes) -> bool:
    """Whether a root became part of the chain; False if it certainly did not."""
    outcome = view.objects.create(root_key(root.seq), data)
    problem: Exception | str = "no answer told"
    for number in range(TRIES):
        try:
            settled, outcome = _look(view, root, data, outcome)
        except (StorageError, OSError) as error:
            # The first request may have come through, or may do so any moment: only an answer ends this.
            problem = error
        else:
            if settled is not None:
                return settled
        _pause(number)
    facts = {"push": root.push.id.hex(), "remote": view.objects.url, "problem": _text(problem)}
    raise OutcomeUnknown(**facts) from (problem if isinstance(problem, Exception) else None)


def _look(view: RemoteView, root: RemoteRoot, data: bytes, outcome: Outcome) -> tuple[bool | None, Outcome]:
    """(whether it is settled and how, what is known of the upload now)."""
    if outcome is not Outcome.CREATED:
        try:
            theirs = view.read_root(root.seq)[1]
        except FileNotFoundError:
            # Nothing has this number, or nothing any more: where newer ones are, it had been used and removed.
            if view.numbers(root.seq):
                return False, outcome
            outcome = view.objects.create(root_key(root.seq), data)
            if outcome is not Outcome.CREATED:
                return None, outcome
        else:
            if theirs != data:
                return False, outcome
            outcome = Outcome.CREATED
    numbers = view.numbers(root.seq - 1)
    if root.seq not in numbers:
        # It was created, so it was removed since: by a collector that found newer roots, or by somebody else.
        return False, outcome
    # The next link alone would not do: it may be of another who was as late as this one. Behind too many links it may
    # have been part of the chain all the same, which whoever goes round sees from what the newest root says.
    newest = max(numbers)
    is_near = newest - root.seq <= LINKS_MAX
    return is_near and _follow(view, checksum(data), range(root.seq + 1, newest + 1)), outcome


def _follow(view: RemoteView, identity: bytes, numbers: range) -> bool:
    """Whether roots with these numbers follow one with this hash, each the one before."""
    for number in numbers:
        try:
            root, data = view.read_root(number)
        except FileNotFoundError:
            return False
        if root.prev != identity:
            return False
        identity = checksum(data)
    return True


def _text(problem: Exception | str) -> str:
    return str(problem.facts.get("problem", problem)) if isinstance(problem, CasckptError) else str(problem)


def _pause(number: int) -> None:
    """Step back for a random while, so that those who collide do not collide again."""
    time.sleep(random.uniform(0, min(_FIRST_PAUSE_S * 2**number, _LONGEST_PAUSE_S)))
