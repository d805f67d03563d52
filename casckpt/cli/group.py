"""The root of the command line: knows every command by name and help line, and imports one only to run it."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import click

from casckpt.cli.options import Command, call_of
from casckpt.cli.table import COMMANDS, SECTIONS


class LazyGroup(Command, click.Group):
    """The commands of the table. The module of a command defines it as `<name>_command`, dashes as underscores."""

    is_root = True

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"casckpt.cli.commands.{entry.module or name}")
        return cast(click.Command, getattr(module, f"{name}_command"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click suggests from `self.commands`, which a lazy group leaves empty.
        name = args[0]
        if name not in COMMANDS:
            raise click.NoSuchCommand(name, possibilities=self.list_commands(ctx), ctx=ctx)
        call_of(ctx).command = name
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])
        super().format_options(ctx, formatter)
