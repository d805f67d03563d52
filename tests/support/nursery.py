"""Processes of their own that start in milliseconds: forked from one that has imported what they need.

A nursery is a fresh interpreter that runs a prelude, mostly imports, and from then on does nothing but fork. It never
opens a store and has no thread, and nothing of the test's own process is in it; so its children are what a new
interpreter would be after the same imports: they die by any signal, and end as interpreters end, up to the point where
nothing is left but what the prelude imported. To take that apart in each child would cost half a second with torch.

    python -m tests.support.nursery DESCRIPTOR PRELUDE     the nursery itself
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
_LONGEST_MESSAGE = 1 << 16


class Child:
    """A running process: what tests use of `subprocess.Popen[str]`."""

    def __init__(self, connection: socket.socket, pid: int, output: int, errors: IO[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = os.fdopen(output)
        self._errors = errors
        self._connection = connection

    def kill(self) -> None:
        """End it by SIGKILL. Nobody else can have its number: that is free only once `communicate` has waited."""
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end, which comes by SIGKILL after `timeout` seconds; what is left of its output, its errors."""
        watch = threading.Timer(timeout, self.kill)
        watch.start()
        with self.stdout, self._errors:
            output = self.stdout.read()
            self.returncode = _ask(self._connection, {"wait": self.pid})
            watch.cancel()
            watch.join()
            self._errors.seek(0)
            return output, self._errors.read()


class Nursery:
    """Where children come from; use it in one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def start(self, program: str, *arguments: object) -> Child:
        """Run a program in a new child of the nursery, its arguments in `sys.argv[1:]`."""
        output, theirs = os.pipe()
        # No pipe, which would have to be read along with the other.
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the child that comes of it closes it
        try:
            request = {"program": program, "arguments": [str(argument) for argument in arguments]}
            return Child(self._connection, _ask(self._connection, request, theirs, errors.fileno()), output, errors)
        finally:
            os.close(theirs)


def _ask(connection: socket.socket, request: object, *files: int) -> int:
    socket.send_fds(connection, [json.dumps(request).encode()], files)
    return int(connection.recv(_LONGEST_MESSAGE))


@contextmanager
def nursery(prelude: str) -> Iterator[Nursery]:
    """A nursery whose children have run the prelude. What still runs of them afterwards is killed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-m", __spec__.name, str(theirs.fileno()), prelude]
    with ours:
        process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        try:
            yield Nursery(ours)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _next_program(connection: socket.socket) -> str | None:
    """Serve requests; returns in each child with its program, and in the nursery with None once nobody can ask."""
    while True:
        message, files, _, _ = socket.recv_fds(connection, _LONGEST_MESSAGE, 2)
        if not message:
            return None
        request = json.loads(message)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                os.dup2(files[0], 1)
                os.dup2(files[1], 2)
            for file in files:
                os.close(file)
            if answer == 0:
                sys.argv[1:] = request["arguments"]
                return str(request["program"])
        connection.send(str(answer).encode())


class _End:
    """The end of a child. The interpreter itself says what went wrong, waits for threads and calls what asked for it;
    then this is called, finds what the program left alone as garbage, and leaves."""

    def __init__(self) -> None:
        self._code: int | None = None
        atexit.register(self._leave)  # before the prelude: the first one to come is called last

    def after(self, program: str) -> None:
        """Run a program; the exit code it asks for is what an interpreter makes of how it ends."""
        try:
            exec(program, {"__name__": "__main__"})
            self._code = 0
        except SystemExit as end:
            self._code = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
            raise
        except Exception:
            self._code = 1
            raise

    def _leave(self) -> None:
        # Without a code it is the nursery itself, or a child that ends by KeyboardInterrupt, and so by a signal.
        if self._code is not None:
            gc.collect()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._code)


if __name__ == "__main__":
    descriptor, prelude_ = sys.argv[1:]
    end_ = _End()
    exec(prelude_, {"__name__": "prelude"})
    # Nothing of it will ever be garbage: a child that looks there would copy every page of it.
    gc.collect()
    gc.freeze()
    program_ = _next_program(socket.socket(fileno=int(descriptor)))
    if program_ is not None:
        end_.after(program_)
