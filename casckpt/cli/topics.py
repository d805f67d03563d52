"""What `casckpt help` explains: commands, concept pages (`pages/*.txt`) and error codes (from the error classes)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from casckpt import errors
from casckpt.cli.table import COMMANDS
from casckpt.errors import CasckptError

PAGES = {
    "revisions": "Text that names a commit, and ranges of commits.",
    "filters": "Which commits --where keeps.",
    "names": "Runs, heads, refs and tags, and what they may be called.",
    "json": "Answers for programs: --json, --ndjson, --tsv.",
    "output": "Streams, colour, pager, progress, widths.",
    "exit-codes": "What a command ends with.",
    "environment": "Variables that casckpt reads.",
    "settings": "Keys, files, and which place wins.",
    "durability": "What survives a crash, and when.",
    "glossary": "What words mean here.",
}
"""Concept pages by name, with what each is about."""

OTHER_CODES = {
    "bug": (70, "something happened that casckpt did not expect", "repeat it with -vv, and report the traceback"),
    "interrupted": (130, "an interrupt (Ctrl-C) ended the command", "repeat it; what was committed before stays"),
}
"""Codes that no error class has: the exit code, what happened, what to do."""

_NEXT = {
    errors.UsageError: "the call is wrong: change it",
    errors.NotFoundError: "nothing has that name: look for the right one",
    errors.ConflictError: "someone or something was there first: look again, then retry",
    errors.BusyError: "something was not free in time: wait, then retry",
    errors.IntegrityError: "stored bytes are not what was written: casckpt fsck",
    errors.FormatError: "this release does not know it: use a newer one",
    errors.StorageError: "the disk or the system failed: mend that, then retry",
    errors.StateError: "a value cannot be stored or restored: change the state or the call",
    CasckptError: "see what it says",
}
"""What a caller can do next, by the branch of the tree of errors."""


def codes() -> dict[str, list[type[CasckptError]]]:
    """The classes of every error code, in the order of the code."""
    found: dict[str, list[type[CasckptError]]] = {}
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, CasckptError) and one is not CasckptError:
            found.setdefault(one.code, []).append(one)
    return dict(sorted(found.items()))


def topics() -> Iterator[tuple[str, str]]:
    """Everything that can be asked for, with a few words about it."""
    yield from PAGES.items()
    yield from ((name, entry.help) for name, entry in COMMANDS.items())
    yield from ((code, _filled(classes[0].what)) for code, classes in codes().items())
    yield from ((code, what) for code, (_, what, _) in OTHER_CODES.items())


def page(name: str) -> list[str]:
    """The lines of a concept page."""
    path = os.path.join(os.path.dirname(__file__), "pages", f"{name}.txt")
    with open(path, encoding="ascii") as file:
        return file.read().splitlines()


def code_page(code: str) -> list[str]:
    """What an error code means: a page made from its classes."""
    if code in OTHER_CODES:
        exit_code, what, advice = OTHER_CODES[code]
        return [f"{code}: exit code {exit_code}", "", *_field("what", what), *_field("try", advice)]
    classes = codes()[code]
    branch = next(branch for branch in _NEXT if issubclass(classes[0], branch))
    lines = [f"{code}: exit code {classes[0].exit_code}", "", *_wrapped(f"In short, {_NEXT[branch]}.", "")]
    told = _told()
    for one in classes:
        when, advice = told.get(one.__name__, ("", ""))
        lines += ["", f"casckpt.errors.{one.__name__}"]
        says = _filled("; ".join(part for part in (one.what, one.why) if part))
        for label, text in (("says", says), ("when", when), ("do", advice), ("try", _filled(one.hint))):
            lines += _field(label, text) if text else []
    lines += ["", "Words in capitals stand for what the message names."]
    return lines


def _told() -> dict[str, tuple[str, str]]:
    """When each class of error is raised, and what to do: in the words of the reference."""
    lines = [line.strip() for line in page("errors")]
    return {name: (when, do) for name, when, do in zip(lines[::3], lines[1::3], lines[2::3], strict=True)}


def _filled(template: str) -> str:
    """A template with its facts as words in capitals."""
    return re.sub(r"\{(\w+)(?:![rsa])?(?::[^}]*)?\}", lambda fact: fact[1].upper(), template)


def _field(label: str, text: str) -> list[str]:
    first, *rest = _wrapped(text, "        ")
    return [f"  {label + ':':<6}{first.strip()}", *rest]


def _wrapped(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 78, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
