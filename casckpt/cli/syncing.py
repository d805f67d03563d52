"""What push, fetch, pull, clone and drill have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

ARRIVED = "what arrived stays; the same command again goes on and brings nothing twice"


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
