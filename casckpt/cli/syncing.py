"""What push, fetch, pull, clone and drill have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from casckpt.errors import UsageError
from casckpt.units import SECOND, parse_duration

if TYPE_CHECKING:
    from casckpt.remote.locks import RemoteLock
    from casckpt.store import Store

ARRIVED = "what arrived stays; the same command again goes on and brings nothing twice"


class Duration(click.ParamType[int]):
    """A length of time, as `30s` or `10min`, in seconds."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found_ns = parse_duration(str(value))
        if found_ns is None:
            self.fail(f"{value!r} is no length of time, as 30s or 10min.", param, ctx)
        return found_ns // SECOND


def limit_rate(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that moves bytes over a line; the function takes `limit_rate`."""
    text = "Most bytes a second, as 500KB or 20MiB."
    return click.option("--limit-rate", metavar="RATE", help=text)(function)


def accept_rollback(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that reads what may have been set back; the function takes `accept_rollback`."""
    text = "Take the remote as it is, even if it is older than it was."
    return click.option("--accept-rollback", is_flag=True, help=text)(function)


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options for a part of what a remote has; the function takes `depth` and `only`."""
    depth = "Of each run bring the content of the N newest commits, the others as names."
    only = "Bring only components that fit, as model; repeatable."
    for option in (
        click.option("--only", metavar="GLOB", multiple=True, help=only),
        click.option("--depth", type=click.IntRange(min=0), metavar="N", help=depth),
    ):
        function = option(function)
    return function


def on_conflict(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option for runs that went on on both sides; the function takes `on_conflict`."""
    text = "Where both sides went on: refuse (ff), or take the newer and keep the other under conflicts/."
    return click.option("--on-conflict", type=click.Choice(["ff", "newest"]), help=text)(function)


def patterns(only: Sequence[str]) -> list[str] | None:
    """Patterns as the Python API takes them."""
    return list(only) or None


def under_lock(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that works under a lock of a remote; the function takes `lock` and `wait_s`."""
    for option in (
        click.option("--wait", "wait_s", type=Duration(), help="With --lock: how long to wait for it, as 30s."),
        click.option("--lock", metavar="NAME", help="Do it under this lock of the remote only."),
    ):
        function = option(function)
    return function


@contextmanager
def holding(
    store: Store, remote: str | None, name: str | None, wait_s: int | None, *, dry_run: bool
) -> Iterator[RemoteLock | None]:
    """Hold the lock that `--lock` names: the one that the store keeps, else one for this command only.

    A dry run takes none, and only looks that nobody else holds it.
    """
    if name is None:
        if wait_s is not None:
            raise UsageError(problem="--wait is for the lock that --lock names")
        yield None
    elif dry_run:
        store.unlock_remote(remote, name, dry_run=True)  # who could let go of it could also take it
        yield None
    else:
        with store.lock_remote(remote, name, wait_s=wait_s or 0) as lock:
            yield lock
