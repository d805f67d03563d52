"""From the words on a command line to an exit code: run the command, print its answer or what went wrong.

This is the one place that writes to stdout, so with `--json` it holds exactly one object, whatever happens. Exit codes
are those of the error classes; 1 is a difference that was asked for, 2 a wrong call, 70 a bug, 130 an interrupt and 141
a reader that went away.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

import click

import casckpt
from casckpt.cli import failures
from casckpt.cli.call import Answer, Call
from casckpt.cli.group import LazyGroup
from casckpt.cli.output import Output
from casckpt.cli.version import version_answer
from casckpt.errors import RevisionWarning, StoreNotFound, UsageError
from casckpt.view import json as envelopes
from casckpt.view import records
from casckpt.view.failure import Failure, failure_lines

BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default that of the process; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    call = Call(Output(os.environ), os.environ)
    if "_CASCKPT_COMPLETE" in os.environ:
        from casckpt.cli.complete import respond

        return respond(root, call, os.environ["_CASCKPT_COMPLETE"])
    try:
        try:
            with call.opened, heard(call):
                answer = _run(call, words)
                code = 0 if answer is None else _print(call, answer)
                call.output.flush()
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            found = failures.failure_of(error, call)
            # A line that could not be parsed may not have got as far as its --json.
            if isinstance(error, click.ClickException | UsageError):
                call.json = call.json or "--json" in words
                call.ndjson = call.ndjson or "--ndjson" in words
            code = _fail(call, found, error)
            call.output.flush()
    except BrokenPipeError:
        call.output.abandon()
        return BROKEN_PIPE
    return code


@contextlib.contextmanager
def heard(call: Call) -> Iterator[None]:
    """Says what the Python API warns of as the command line does: on stderr or in the envelope, once."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RevisionWarning)
        other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], file: str, line: int, *rest: Any) -> None:
            if category is not RevisionWarning:
                other(message, category, file, line, *rest)
            elif all(known["message"] != str(message) for known in call.warnings):
                call.warn("rev.clash", str(message))

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _run(call: Call, words: list[str]) -> Answer | None:
    """Parse and run; None if only help was asked for, which is printed by then."""
    try:
        with root.make_context("casckpt", words, obj=call) as context:
            answer = version_answer(call) if call.version else root.invoke(context)
    except click.exceptions.Exit:
        return None
    return answer if isinstance(answer, Answer) else None


def _print(call: Call, answer: Answer) -> int:
    output = call.output
    if call.ndjson or call.tsv is not None:
        _print_records(call, answer)
    elif call.json:
        envelope = envelopes.success(
            answer.command or call.command,
            answer.data(),
            exit_code=answer.exit_code,
            version=casckpt.__version__,
            store=call.place,
            elapsed_s=call.elapsed_s(),
            warnings=call.warnings,
        )
        output.answer([envelopes.dumps(envelope)])
    elif not (answer.confirms and call.quiet):
        chosen = call.settings.get("pager")
        pager = None if chosen is None else str(chosen)
        output.page(answer.text(call.look(output.stdout)), wanted=not call.no_pager, chosen=pager)
    return answer.exit_code


def _print_records(call: Call, answer: Answer) -> None:
    if answer.records is None:
        option = "--ndjson" if call.ndjson else "--tsv"
        raise UsageError(problem=f"{option} is for answers that are lists, as of log; here --json gives one object")
    if call.ndjson:
        call.output.answer(records.ndjson_lines(answer.record, answer.records(), answer.exit_code, call.warnings))
    else:
        fields = (call.tsv or "").split(",")
        call.output.answer(records.tsv_lines(fields, answer.records(), header=call.header))


def _fail(call: Call, found: Failure, error: BaseException) -> int:
    output = call.output
    if call.ndjson and not output.is_lost:
        output.answer(records.failed_lines(found))
    elif call.json and not output.is_lost:
        output.answer([envelopes.dumps(envelopes.failure(found))])
    elif found.exit_code == failures.INTERRUPTED:
        output.errors([found.what])
    else:
        output.errors(failure_lines(found, call.look(output.stderr)))
    if call.verbose >= 2:
        output.errors(failures.traceback_lines(error))
    return found.exit_code


@click.command(
    "casckpt",
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "casckpt init",
        "casckpt commit out/ -r gpt -s 1200 --metric val/loss=0.231",
        "casckpt log -n 20",
        "casckpt checkout gpt/best best/",
    ),
)
@click.pass_obj
def root(call: Call) -> Answer | None:
    """A store for checkpoints: deduplicated, verified, with history.

    A revision names a commit: a run (its last commit), RUN/best, a tag, the first digits of an id, or @ for the current
    run. REV~2 is two commits before REV, REV@step=4000 the one at that step.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return None
    try:
        call.locate()
    except StoreNotFound:
        if call.for_program:
            raise
        shown = context.get_help().splitlines()
        return Answer(dict, lambda _: shown)
    command = cast(LazyGroup, context.command).get_command(context, "status")
    assert command is not None
    return cast(Answer, context.invoke(command))
