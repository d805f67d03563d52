"""Values that nothing else can store, as pickles: made and run only for those who ask for it, each time anew.

The pickle is a bytes value like any other; what a value hands out as buffers lies beside it, so that the arrays inside
still share chunks with other commits.
"""

from __future__ import annotations

import pickle
from typing import Any

from casckpt.state.checks import inconsistent
from casckpt.state.kinds.reduced import CannotReduce, Reduced

KIND = "pickle"
_PROTOCOL = 5


def reduce(value: Any) -> Reduced:
    """A value as pickle and buffers.

    Raises:
        CannotReduce: it cannot be pickled.
    """
    import numpy as np

    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, _PROTOCOL, buffer_callback=buffers.append)
        views = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
    except Exception as error:  # whatever the value's own code raises
        raise CannotReduce(f"it cannot be pickled: {error}") from error
    kind = type(value)
    return Reduced(KIND, f"{kind.__module__}:{kind.__qualname__}", [data, *views])


def make(_param: str | None, inner: Any) -> Any:
    """The value of a pickle. Runs whatever code the pickle names: only for data its reader trusts."""
    if type(inner) is not list or type(inner[:1] and inner[0]) is not bytes:
        raise inconsistent("a pickle is not a list that begins with bytes")
    return pickle.loads(inner[0], buffers=[memoryview(part) for part in inner[1:]])  # noqa: S301
