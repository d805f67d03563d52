"""The command `casckpt`, as a process of its own: what suits one that soon ends and nothing else."""

import contextlib
import gc
import os
import sys

from casckpt.cli import main

GARBAGE_AFTER = 100_000
"""So many more containers than before are made before garbage is looked for; Python's own rule is some hundred."""


def entry() -> None:
    """Run the command line of the process and end it.

    What a command makes mostly lives as long as the command, so garbage is looked for seldom. And an orderly end of
    the interpreter frees one by one what the end of the process frees at once: stores are closed and streams flushed by
    then, and threads that still run are daemons.
    """
    gc.set_threshold(GARBAGE_AFTER)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # what could not be written was answered with the exit code
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
