"""What time it is at a remote: how old its files are is asked of the one clock that dated them."""

from __future__ import annotations

from dataclasses import replace

from casckpt.errors import IntegrityError
from casckpt.format.remote import root_seq
from casckpt.remote.roots import append_root
from casckpt.remote.view import RemoteView
from casckpt.storage.objects import Listed


class RemoteClock:
    """The time at a remote as far as it is known: it is `now_ns` or later."""

    def __init__(self, view: RemoteView) -> None:
        self._view = view
        self.now_ns = 0
        self.is_set = False
        """Whether a root was made since this clock was."""

    def see(self, listed: Listed) -> None:
        """Take in when a file was made."""
        self.now_ns = max(self.now_ns, listed.time_ns)

    def roots(self) -> dict[int, int]:
        """When each root was made."""
        found: dict[int, int] = {}
        for listed in self._view.objects.list("root/"):
            try:
                found[root_seq(listed.key)] = listed.time_ns
            except IntegrityError:
                continue
            self.see(listed)
        return found

    def ask(self, push_id: bytes) -> None:
        """Make a root that changes nothing, so that the newest file is of now."""
        append_root(self._view, replace, push_id, note="gc: looks at the clock")
        self.is_set = True
        self.roots()
