"""The page of the command line names every command, option and exit code there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from casckpt import errors
from casckpt.cli.app import root
from casckpt.cli.options import global_options
from casckpt.cli.table import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^###? (\S.*?)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
GLOBAL = {name for option in global_options() for name in option.opts if name.startswith("--")} | {
    "--help",
    "--version",
}


def options(command: click.Command) -> set[str]:
    """The long names of a command's own options, and of its actions'."""
    if isinstance(command, click.Group):
        return set().union(*map(options, command.commands.values()))
    found = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
    found |= {name for option in command.params if isinstance(option, click.Option) for name in option.secondary_opts}
    return {name for name in found if name.startswith("--")} - GLOBAL


def documented(text: str) -> set[str]:
    """The long options in the first column of a table."""
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"--[a-z][a-z-]*", row)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_section_with_every_option(name: str) -> None:
    command = root.get_command(click.Context(root), name)  # type: ignore[attr-defined]
    assert command is not None
    assert f"`casckpt {name}" in SECTIONS[name]
    assert documented(SECTIONS[name]) == options(command)


def test_every_global_option_is_documented() -> None:
    assert documented(SECTIONS["Global options"]) == GLOBAL


def test_the_page_has_no_section_of_a_command_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (\S+)", PAGE, re.MULTILINE)) == set(COMMANDS)


def test_every_exit_code_of_an_error_is_documented() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {cls.exit_code for cls in classes if issubclass(cls, errors.CasckptError)}
    listed = {
        int(number) for number in re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)))
    }
    assert codes <= listed
