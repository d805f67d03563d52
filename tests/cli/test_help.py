"""`casckpt help`: every command, concept, error code, exit code, option, variable, key and term has its place."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from casckpt import errors
from casckpt.cli.app import root
from casckpt.cli.call import Call
from casckpt.cli.complete import VARIABLE
from casckpt.cli.options import global_options
from casckpt.cli.output import Output
from casckpt.cli.table import COMMANDS
from casckpt.cli.topics import OTHER_CODES, PAGES, codes, page
from casckpt.plan.settings import SETTINGS
from tests.cli.pages import SHIPPED, errors_page, glossary_page, glossary_rows
from tests.cli.runner import run

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SOURCE = Path(__file__).parents[2] / "casckpt" / "cli"


def text_of(name: str) -> str:
    return "\n".join(page(name))


def reference(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_any_terminal(name: str) -> None:
    done = run("help", name)
    assert done.code == 0
    assert done.out.isascii()
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.out.splitlines() == page(name)


def test_no_page_is_unlisted() -> None:
    assert {path.stem for path in SHIPPED.glob("*.txt")} == {*PAGES, "errors"}


@pytest.mark.parametrize("code", [*codes(), *OTHER_CODES])
def test_every_error_code_has_a_page_and_its_row(code: str) -> None:
    done = run("help", code)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.out.isascii()
    assert done.out.startswith(f"{code}: exit code ")
    for one in codes().get(code, []):
        assert f"casckpt.errors.{one.__name__}" in done.out
        assert re.search(rf"{one.__name__}\n(?:  .*\n)*?  when: ", done.out), one
        assert f"| `{code}` | {one.exit_code} |" in reference("errors.md")


def test_every_exit_code_is_explained() -> None:
    wanted = {cls.exit_code for classes in codes().values() for cls in classes} | {0, 1, 12, 130, 141}
    wanted |= {code for code, _, _ in OTHER_CODES.values()}
    assert {int(code) for code in re.findall(r"^  (\d+) ", text_of("exit-codes"), re.MULTILINE)} == wanted
    listed = re.findall(r"^\| ([\d, ]+) \|", reference("cli.md"), re.MULTILINE)
    assert {int(code) for row in listed for code in re.findall(r"\d+", row)} == wanted


def test_every_global_option_is_explained() -> None:
    pages = "\n".join(text_of(name) for name in PAGES if name != "glossary")
    for option in global_options():
        assert any(re.search(rf"(?<![\w-]){name}(?![\w-])", pages) for name in option.opts), option.opts


def test_every_variable_is_explained() -> None:
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    used = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', source)) | {VARIABLE, "CASCKPT_STORE"}
    used |= {setting.variable for setting in SETTINGS.values()}
    used -= {"COMP_LINE", "COMP_WORDBREAKS"}  # part of what a shell says with _CASCKPT_COMPLETE
    for name in used:
        assert re.search(rf"\b{name}\b", text_of("environment")), name
        assert f"`{name}`" in reference("settings.md"), name


@pytest.mark.parametrize("key", [*SETTINGS, "alias.NAME"])
def test_every_key_is_explained(key: str) -> None:
    assert re.search(rf"^  {re.escape(key)} ", text_of("settings"), re.MULTILINE)
    assert f"| `{key}` |" in reference("settings.md")


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_choice_of_a_key_is_explained(setting: object) -> None:
    for choice in getattr(setting, "choices", ()):
        assert re.search(rf"\b{choice}\b", text_of("settings")), choice


def test_glossary_and_errors_are_those_of_the_reference() -> None:
    """Run `python -m tests.cli.pages` after docs/reference/glossary.md or errors.md changed."""
    assert text_of("glossary") + "\n" == glossary_page()
    assert text_of("errors") + "\n" == errors_page()
    assert len(glossary_rows()) > 60
    named = [line for line in page("errors") if not line.startswith(" ")]
    assert sorted(named) == sorted(one.__name__ for one in vars(errors).values() if is_error(one))


def is_error(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, errors.CasckptError)


LINES = [
    (name, line.strip()) for name in PAGES for line in page(name) if line.startswith("  casckpt ")
]  # fmt: skip


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_every_line_on_a_page_is_a_call_that_can_be_made(name: str, line: str) -> None:
    _, *words = shlex.split(line)
    context = root.make_context("casckpt", words, obj=Call(Output({}), {}))
    found, command, rest = root.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
    assert found in COMMANDS
    assert command.make_context(found, rest, parent=context)


def test_there_are_lines_to_check() -> None:
    assert len(LINES) > 20


@pytest.mark.parametrize("name", COMMANDS)
def test_help_on_a_command_is_its_help(name: str) -> None:
    assert run("help", name).out == run(name, "--help").out


def test_without_a_topic_everything_is_listed() -> None:
    out = run("help").out
    assert max(map(len, out.splitlines())) <= 80
    for name in (*PAGES, *COMMANDS, *codes(), *OTHER_CODES):
        assert re.search(rf"(?<!\S){re.escape(name)}(?!\S)", out), name


@pytest.mark.parametrize(
    ("topic", "near"), [("revision", "'revisions'"), ("rev.notfound", "'rev.not-found'"), ("comit", "'commit'")]
)
def test_an_unknown_topic_names_near_ones(topic: str, near: str) -> None:
    done = run("help", topic, "--json")
    assert (done.code, done.envelope["error"]["code"]) == (3, "help.unknown")
    assert near in done.envelope["error"]["why"]


def test_hints_name_topics_that_exist() -> None:
    for classes in codes().values():
        for one in classes:
            for topic in re.findall(r"casckpt help ([\w.-]+)", one.hint):
                assert topic in ("lists", *PAGES, *COMMANDS, *codes()), one
