"""Options every command takes, before or after its name, and the class of our commands.

A global option writes into the `Call` that travels with click's context, so its place on the line does not matter;
given twice, the later one wins, and `-v` adds up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.types import StringParamType

from casckpt.cli.call import Call

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def call_of(context: click.Context) -> Call:
    """The call a context belongs to."""
    call = context.find_object(Call)
    assert call is not None
    return call


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and parameter.name is not None:
        setattr(call_of(context), parameter.name, value)


def _add(context: click.Context, _: click.Parameter, value: int) -> None:
    call_of(context).verbose += value


def _assign(context: click.Context, _: click.Parameter, pairs: tuple[str, ...]) -> None:
    if pairs:
        from casckpt.plan.settings import call_layer

        call_layer(pairs)
        call_of(context).assignments += pairs


def _global(*names: str, callback: Callable[..., None] = _store, **settings: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=callback, **settings)


def global_options() -> list[click.Option]:
    """Fresh options, since click ties them to one command."""
    return [
        _global(
            "-C", "--store", metavar="PATH",
            help="The store.  [default: CASCKPT_STORE, else the nearest .casckpt/ in this folder or above]",
        ),
        _global(
            "-c", "assignments", metavar="KEY=VALUE", multiple=True, callback=_assign,
            help="A setting for this call; repeatable. casckpt config lists them.",
        ),
        _global("--json", is_flag=True, default=None, help="Print one JSON object, also on failure."),
        _global("--ndjson", is_flag=True, default=None, help="Print a list as a JSON object a line, and an end mark."),
        _global("--tsv", metavar="FIELDS", help="Print fields of a list with tabs, as id,step,metrics.val/loss."),
        _global("--header", is_flag=True, default=None, help="With --tsv: the names of the fields first."),
        _global("-q", "--quiet", is_flag=True, default=None, help="Print no confirmations and notes."),
        _global("-v", "--verbose", count=True, callback=_add, help="Say more; -vv shows tracebacks."),
        _global("--color", type=click.Choice(["auto", "always", "never"]), help="When to colour."),
        _global("--ascii", is_flag=True, default=None, help="Draw with ASCII characters only."),
        _global("--time", type=click.Choice(["relative", "local", "utc", "iso"]), help="How to print times."),
        _global("--full-id", is_flag=True, default=None, help="Print ids with all their 64 digits."),
        _global("--no-pager", is_flag=True, default=None, help="Do not page what is longer than the screen."),
        _global(
            "--progress", "progress_mode", type=click.Choice(["auto", "bar", "plain", "json", "none"]),
            help="How to show progress on stderr.",
        ),
    ]  # fmt: skip


def _version_option() -> click.Option:
    return _global(
        "--version", is_flag=True, default=None, help="Print the version; with -v also what casckpt runs on."
    )


class _Text(StringParamType):
    """A text whose completion is found by the name of its parameter, so that commands need not know of it."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from casckpt.cli.complete import values

        return values(ctx, param, incomplete)


class Command(click.Command):
    """A command with the global options: in its help they have a section of their own, and examples end it.

    Args:
        examples: whole command lines.
    """

    is_root: ClassVar = False

    def __init__(self, name: str | None, examples: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init__(name, **settings)
        self.examples = examples
        self.params += [_version_option()] if self.is_root else []
        self.params += global_options()
        for parameter in self.params:
            if parameter.type is click.STRING:
                parameter.type = _Text()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        bare = {name for parameter in self.params if isinstance(parameter, OptionalValue) for name in parameter.opts}
        return super().parse_args(ctx, [f"{word}=" if word in bare else word for word in args] if bare else args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (own if parameter.expose_value or parameter.name == "help" else common).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        with formatter.section("Global options"):
            if ctx.parent is None:
                formatter.write_dl(common)
            else:  # a page that says the same for every command hides what is its own
                names = ", ".join(names.partition(" ")[0].rstrip(",") for names, _ in common)
                formatter.write_text(f"{names}: see {ctx.find_root().info_name} --help")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class CommandGroup(Command, click.Group):
    """A command with actions, which are commands of their own."""

    def __init__(self, name: str, examples: tuple[str, ...], **settings: Any) -> None:
        super().__init__(name, examples, no_args_is_help=False, subcommand_metavar="ACTION [ARGS]...", **settings)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


class OptionalValue(click.Option):
    """An option whose value may be left out, and is empty then; `--option=VALUE` gives one.

    A word behind it is never taken for its value: it may be an argument of the command.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return f"{self.opts[0]}[={self.metavar}]", self.help or ""


def dry_run(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that changes something; the function takes `dry_run`."""
    text = "Check everything and say what would be done, but change nothing."
    return click.option("-n", "--dry-run", is_flag=True, help=text)(function)


def command(*examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command: named by it, less `_command`; helped by its docstring; called with the `Call`."""

    def make(function: Callable[..., Any]) -> click.Command:
        return click.command(cls=Command, examples=examples)(click.pass_obj(function))

    return make
