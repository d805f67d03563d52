"""casckpt help."""

from __future__ import annotations

from collections.abc import Iterator

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.cli.table import COMMANDS
from casckpt.cli.topics import OTHER_CODES, PAGES, code_page, codes, page, topics
from casckpt.errors import TopicNotFound
from casckpt.view import text as t
from casckpt.view.text import Cell, Look


@command("casckpt help", "casckpt help revisions", "casckpt help log", "casckpt help rev.not-found")
@click.argument("topic", required=False)
def help_command(call: Call, topic: str | None) -> Answer:
    """Explain a command, a concept or an error.

    TOPIC is a command (its --help), one of the concept pages, or the code of an error as `--json` gives it. Without it
    all are listed.
    """
    if topic is None:
        found = [{"topic": name, "about": about} for name, about in topics()]
        return Answer(lambda: {"topics": found}, _list_lines, records=lambda: found, record="topic")
    lines = _explained(topic)
    return Answer(lambda: {"topic": topic, "text": "\n".join(lines)}, lambda _: lines)


def _explained(topic: str) -> list[str]:
    if topic in COMMANDS:
        root = click.get_current_context().find_root()
        assert isinstance(root.command, click.Group)
        found = root.command.get_command(root, topic)
        assert found is not None
        return found.get_help(click.Context(found, root, info_name=topic)).splitlines()
    if topic in PAGES:
        return page(topic)
    if topic in codes() or topic in OTHER_CODES:
        return code_page(topic)
    import difflib  # slow to import, and needed by errors only

    known = [name for name, _ in topics()]
    near = difflib.get_close_matches(topic.lower(), known, 3, 0.5)
    near += [name for name in known if topic.lower() in name.split(".") and name not in near]
    problem = f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else "no command, page or error is called so"
    raise TopicNotFound(topic=topic, problem=problem)


def _list_lines(look: Look) -> Iterator[str]:
    """The pages and commands with a line each, the codes by name alone, since an error names its own."""
    yield "casckpt help TOPIC explains it. Topics are"
    for title, entries in (
        ("Concepts", list(PAGES.items())),
        ("Commands", [(name, entry.help) for name, entry in COMMANDS.items()]),
    ):
        yield ""
        yield look.paint(t.LABEL, f"{title}:")
        rows = ([Cell(name), Cell(about, t.MUTED, cut=True)] for name, about in entries)
        yield from t.columns(rows, look, indent="  ")
    yield ""
    yield look.paint(t.LABEL, "Errors:")
    yield from _flowing([*codes(), *OTHER_CODES])


def _flowing(names: list[str]) -> Iterator[str]:
    line = " "
    for name in names:
        if len(line) + 1 + len(name) > 78:
            yield line
            line = " "
        line += f" {name}"
    yield line
