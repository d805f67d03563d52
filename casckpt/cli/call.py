"""One call of the command line: its settings, its clock, the store it works on. And the answer a command gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from casckpt.distant import is_address
from casckpt.errors import StoreNotFound

if TYPE_CHECKING:
    from casckpt.cli.output import Output
    from casckpt.cli.progress import Progress
    from casckpt.plan.settings import Settings
    from casckpt.store import Store
    from casckpt.view.text import Look

STORE_FOLDER = ".casckpt"
READ_ONLY_OUTCOME = "nothing was changed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found or did. The store it comes from stays open until it is printed, so it may be lazy.

    Args:
        data: the `data` of the `--json` envelope.
        text: the lines for people.
        exit_code: 0, or what this answer means to a script.
        confirms: it only says that the command did its work, so `-q` leaves it out.
        command: names the schema; by default the command that was called.
        records: of an answer that is a list: its items, for `--ndjson` and `--tsv`.
        record: what one of them is, the `type` of its line.
    """

    data: Callable[[], Mapping[str, Any]]
    text: Callable[[Look], Iterable[str]]
    exit_code: int = 0
    confirms: bool = False
    command: str | None = None
    records: Callable[[], Iterable[Mapping[str, Any]]] | None = None
    record: str = "record"


@dataclass
class Call:
    """Settings start empty and are filled by the global options, wherever on the line they stand."""

    output: Output
    environ: Mapping[str, str]
    store: str | None = None
    json: bool = False
    ndjson: bool = False
    tsv: str | None = None
    header: bool = False
    quiet: bool = False
    verbose: int = 0
    color: str | None = None
    ascii: bool = False
    time: str | None = None
    full_id: bool = False
    progress_mode: str | None = None
    no_pager: bool = False
    assignments: list[str] = field(default_factory=list)
    """The `-c KEY=VALUE` of the line, each known to be right."""
    version: bool = False
    command: str = "status"
    place: str | None = None
    """The folder of the store in use, once it is open."""
    outcome: str = READ_ONLY_OUTCOME
    """What to say after an interrupt; commands that change something set it as they go."""
    warnings: list[dict[str, str]] = field(default_factory=list)
    started: float = field(default_factory=monotonic)
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes the stores of the call, once its answer is printed."""

    @property
    def for_program(self) -> bool:
        """Whether a program reads stdout as JSON: then nothing is said in words."""
        return self.json or self.ndjson

    def open(self, *needs: str) -> Store:
        """The store that -C, CASCKPT_STORE or the working folder names, open until the answer is printed.

        Args:
            needs: settings that decide what is written: where they cannot be read, nothing is done. What is wrong with
                others is a warning.

        Raises:
            StoreNotFound: there is none.
            InvalidSetting, DamagedSettings: something that is needed cannot be read.
        """
        from casckpt import store as api
        from casckpt.ops.settings import StoreSettings

        self.place = self.locate()
        for key in needs:
            self.settings.need(key)
        for problem in self.settings.problems:
            self.warn(problem.code, f"{problem.summary}: {problem.reason}")
        return self.opened.enter_context(api.open(self.place, settings=StoreSettings.of(self.settings, strict=False)))

    @cached_property
    def settings(self) -> Settings:
        """All settings that hold for this call; what cannot be read is among their problems."""
        from casckpt.cli.settings import settings_of

        try:
            place = self.locate()
        except StoreNotFound:
            place = None
        return settings_of(self.environ, place, self.assignments)

    def look(self, stream: TextIO) -> Look:
        """How to draw on a stream."""
        from casckpt.cli.settings import color_of

        ascii_only, time = self.ascii or bool(self.settings.get("ascii")), self.time or str(self.settings.get("time"))
        color = self.color or color_of(self.settings, self.environ)
        return self.output.look(stream, color, ascii_only=ascii_only, time=time, full_id=self.full_id)

    def progress(self, what: str) -> Progress:
        """How far something is, on stderr: a context manager, called with the bytes done and in all."""
        mode = self.progress_mode or str(self.settings.get("progress"))
        if mode == "auto" and (self.quiet or self.for_program):
            mode = "none"
        return self.output.progress(what, mode, ascii_only=self.ascii or bool(self.settings.get("ascii")))

    def named_store(self) -> str | None:
        """The store named by -C or CASCKPT_STORE, None if the working folder decides."""
        return self.store or self.environ.get("CASCKPT_STORE") or None

    def locate(self) -> str:
        """The absolute path of the store. A named folder may be the store itself or hold `.casckpt/`.

        The address of a remote is that of a store too, which can only be read.
        """
        named = self.named_store()
        if named is not None and is_address(named):
            return named
        if named is not None:
            path = os.path.abspath(named)
            inner = os.path.join(path, STORE_FOLDER)
            is_inner = not os.path.exists(os.path.join(path, "format")) and os.path.isdir(inner)
            return inner if is_inner else path
        try:
            here = folder = os.getcwd()
        except FileNotFoundError as error:
            raise StoreNotFound(path=os.curdir, problem="the working folder is gone") from error
        while not os.path.isdir(os.path.join(folder, STORE_FOLDER)):
            parent = os.path.dirname(folder)
            if parent == folder:
                raise StoreNotFound(path=here, problem=f"neither it nor a folder above holds {STORE_FOLDER}/")
            folder = parent
        return os.path.join(folder, STORE_FOLDER)

    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return monotonic() - self.started

    def note(self, text: str) -> None:
        """Say something on stderr that is no part of the answer."""
        if not (self.quiet or self.for_program):
            self.output.note(text)

    def warn(self, code: str, text: str) -> None:
        """Warn: on stderr, or in the envelope."""
        self.warnings.append({"code": code, "message": text})
        if not (self.quiet or self.for_program):
            self.output.note(f"warning: {text}")
