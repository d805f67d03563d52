"""From what is known of a remote to the remote itself, ready for use, with the count of what it is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from casckpt.errors import UsageError
from casckpt.odb.repository import Repository
from casckpt.ops.line import OverTheLine, line
from casckpt.ops.remotes import Remote
from casckpt.plan.remote_settings import rate_of
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.view import RemoteView
from casckpt.storage import metered
from casckpt.storage.addresses import Access, parse
from casckpt.storage.fitness import Fitness, probe
from casckpt.storage.metered import PRICES, Traffic
from casckpt.storage.opening import open_objects

if TYPE_CHECKING:
    from casckpt.storage.objects import Objects

R = TypeVar("R")
P = TypeVar("P", bound=OverTheLine)


@dataclass(frozen=True, slots=True)
class Connection:
    """A remote that is open."""

    remote: Remote
    objects: Objects
    traffic: Traffic
    began_s: float = field(default_factory=time.monotonic)

    def counts(self) -> dict[str, Any]:
        """What went over the line so far: requests by class, bytes up and down, and about what that costs in dollars.

        The cost is None where nobody knows a price.
        """
        asked = dict(sorted(self.traffic.requests.items()))
        up, down = self.traffic.up, self.traffic.down
        return {"requests": asked, "up": up, "down": down, "cost": cost(self.remote, asked, down)}

    def counted(self, report: R) -> R:
        """A report with these counts."""
        return replace(report, **self.counts())  # type: ignore[type-var]

    def priced(self, report: P) -> P:
        """A report of requests that it would take, with about what they cost."""
        found = cost(self.remote, report.requests, report.down)
        return replace(report, cost=found)  # type: ignore[type-var]

    def policy(self, asked: str | None, *known: str) -> Any:
        """What is done where both sides went on: as asked, or as is known of the remote.

        Raises:
            UsageError: there is no such policy.
        """
        policy = self.remote.policy if asked is None else asked
        if policy not in known:
            raise UsageError(problem=f"a policy is {', '.join(known)}, not {policy!a}")
        return policy


def connect(remote: Remote, *, limit_rate: int | str | None = None) -> Connection:
    """Open a remote.

    Args:
        limit_rate: most bytes a second, also as `20MiB`, in place of what is known of the remote.

    Raises:
        UsageError: a package is missing, or a profile that is named; or the rate is none.
        RemoteNotFound: it is a folder, and is not there.
        RemoteDenied: there are no usable credentials.
    """
    rate = remote.limit_rate if limit_rate is None else rate_of(str(limit_rate))
    if rate is None and limit_rate is not None:
        raise UsageError(problem=f"a rate is bytes a second, as 500KB or 20MiB, not {limit_rate!a}")
    opened = open_objects(parse(remote.url), access(remote), limit_rate=rate or 0)
    return Connection(remote, opened.objects, opened.traffic)


def view_of(repository: Repository, at: Connection) -> RemoteView:
    """What a remote is, and what a store remembers of it."""
    return RemoteView(at.objects, RemoteFolder(repository.storage, at.remote.name))


def access(remote: Remote) -> Access:
    """How a remote is reached.

    Raises:
        UsageError, SecretInUrl: something that is said of it cannot be.
    """
    usual = Access()
    return Access(
        profile=remote.profile or "",
        region=remote.region or "",
        endpoint=remote.endpoint or "",
        path_style=remote.path_style,
        allow_http=remote.allow_http,
        credentials=remote.credentials,
        storage_class=remote.storage_class or "",
        checksum=remote.checksum,
        timeout_s=usual.timeout_s if remote.timeout_s is None else remote.timeout_s,
    )


def cost(remote: Remote, requests: Mapping[str, int], down: int) -> float | None:
    """About what requests and bytes cost in dollars, None where nobody knows a price."""
    prices = _prices(remote)
    if not prices:
        return None
    return round(metered.cost(requests, down, prices), 9)


def _prices(remote: Remote) -> dict[str, float]:
    """Prices by the keys of `remote.NAME.cost`: the list prices of the service, unless something else is said.

    Those of Amazon, Google and Microsoft are known. A service at an endpoint of its own has others.
    """
    known: Mapping[str, float] = {} if remote.endpoint else PRICES.get(parse(remote.url).scheme, {})
    return {**known, **dict(remote.cost)}


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a remote was found to be able to do."""

    remote: str
    url: str
    writes: bool
    """Whether it can be written at all; if not, or if nothing was to be written, what follows is None."""
    creates_once: bool | None
    """Whether of two writers of one key the second is told so. Without it only one machine may push."""
    deletes: bool | None
    """Whether these credentials may delete: gc of the remote needs it, a push does not."""
    leftover: str
    """The key of the trial object that could not be deleted, empty if there is none. A gc of the remote removes it."""
    seconds: float
    requests: Mapping[str, int] = field(default_factory=dict)
    """By class: `put`, `get`, `list`, `head`, `delete`."""
    up: int = 0
    """Bytes that were sent in all."""
    down: int = 0
    """Bytes that came in all."""
    cost: float | None = None
    """About what that costs in dollars; None where nobody knows a price."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "remote": self.remote,
            "url": self.url,
            "writes": self.writes,
            "creates_once": self.creates_once,
            "deletes": self.deletes,
            "leftover": self.leftover or None,
            "seconds": self.seconds,
            **line(self),
        }


def probe_remote(remote: Remote, *, dry_run: bool = False) -> ProbeReport:
    """Try out a remote: create a key twice, read it back in every way, delete it; or only look whether it is there.

    Raises:
        RemoteUnfit: it cannot be a remote; says why and what to do instead.
        RemoteNotFound, RemoteDenied, RemoteUnavailable: it is not there, does not let us, or did not answer.
    """
    connection = connect(remote)
    objects = connection.objects
    found: Fitness | None = None
    if objects.read_only or dry_run:
        next(iter(objects.list("root/")), None)
    else:
        found = probe(objects, single_writer=remote.single_writer)
    report = ProbeReport(
        remote.name,
        remote.url,
        not objects.read_only,
        None if found is None else found.creates_once,
        None if found is None else found.deletes,
        "" if found is None else found.leftover,
        time.monotonic() - connection.began_s,
    )
    return connection.counted(report)
