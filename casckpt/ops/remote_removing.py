"""The end of a collection of a remote: files that a root condemned are removed, and roots that tell of times long ago.

A key is removed if the newest root condemns it, and one that is old enough did so too. A condemned key stays so until
it is removed, and no name is used twice, so that it does not matter who removes it, how often, or how late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from casckpt.format.remote import RemoteRoot, root_key
from casckpt.remote.clock import RemoteClock
from casckpt.remote.roots import append_root
from casckpt.remote.view import RemoteView

_DELETES = 1000
"""Files removed by one request."""
_OLD_ROOTS = 100
"""Roots removed by one request: an interrupt in the midst of it leaves so many at most behind a gap."""


def remove_condemned(
    view: RemoteView, clock: RemoteClock, delay_ns: int, push_id: bytes, removed: Callable[[list[str]], None]
) -> None:
    """Remove what was condemned for long enough, and make a root that does not name it any more.

    Args:
        delay_ns: 0 to remove all that is condemned.
        removed: called with keys that are gone.
    """
    gone: set[str] = set()
    keys = _old_enough(view, clock, delay_ns, push_id)
    for start in range(0, len(keys), _DELETES):
        part = keys[start : start + _DELETES]
        view.objects.delete(part)
        gone.update(part)
        removed(part)

    def change(root: RemoteRoot) -> RemoteRoot:
        left = tuple(key for key in root.condemned if key not in gone)
        return replace(root, condemned=left) if len(left) < len(root.condemned) else root

    if gone:
        append_root(view, change, push_id, note=f"gc: removed {len(gone)} files")


def remove_old_roots(view: RemoteView, clock: RemoteClock, keep: int, keep_ns: int) -> int:
    """Remove roots, the oldest first, but for the newest `keep` and all younger than `keep_ns`; how many went."""
    times = clock.roots()
    numbers = sorted(times)
    old: list[int] = []
    for number in numbers[: max(len(numbers) - max(keep, 1), 0)]:
        if times[number] > clock.now_ns - keep_ns:
            break  # those behind it stay too, so that there is no gap
        old.append(number)
    for start in range(0, len(old), _OLD_ROOTS):
        view.objects.delete([root_key(number) for number in old[start : start + _OLD_ROOTS]])
    return len(old)


def _old_enough(view: RemoteView, clock: RemoteClock, delay_ns: int, push_id: bytes) -> list[str]:
    """What the newest root condemns and one from before the delay did.

    Files are removed only after a root of this collection: that one is known to be part of the chain, and with it what
    it condemns. A root that was only read may be one that a late writer made, with the number of one that was removed.
    """
    if not _condemned(view):
        return []
    if not clock.is_set:
        if delay_ns and not _condemned(view) & _condemned_at(view, clock.roots(), time.time_ns() - delay_ns):
            return []  # the clock here does not count, but if not even that says so, the other need not be asked
        clock.ask(push_id)
    if not delay_ns:
        return sorted(_condemned(view))
    times = clock.roots()
    return sorted(_condemned(view) & _condemned_at(view, times, clock.now_ns - delay_ns))


def _condemned(view: RemoteView) -> set[str]:
    return set() if view.root is None else set(view.root.condemned)


def _condemned_at(view: RemoteView, times: Mapping[int, int], until_ns: int) -> set[str]:
    """What the newest root made at a time or before condemns; nothing if there is none any more."""
    numbers = [number for number, time_ns in times.items() if time_ns <= until_ns]
    if not numbers:
        return set()
    try:
        return set(view.read_root(max(numbers))[0].condemned)
    except FileNotFoundError:
        return set()
