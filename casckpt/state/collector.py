"""The garbage collector, kept from walking a state while its ten thousands of objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No automatic collection in this process until the block ends; for short work that makes no cycles.

    Every 700 new containers the collector looks for cycles among them, and now and then among all objects of the
    process, which is half of the time it takes to make 20 000 tensors. Blocks may nest and meet in several threads:
    whoever found the collector running starts it again.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
