"""A value as something simpler: how everything beyond the plain types is stored.

Plain are dicts, lists, tuples, numbers, texts, bytes, numpy arrays and strided tensors. A value of any other type is
*reduced*: to a kind (which says how to make it again), a parameter that belongs to its look, and an inner value of
simpler types, which is walked like any other. So a set is a sorted list, a sparse tensor is its indices and values, and
their tensors are hashed, shared and read like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Reduced(NamedTuple):
    """A value as something simpler.

    Args:
        kind: how to make the value again: "set", "torch.sparse_coo".
        param: what belongs to its look, not to its values: a class, a factory; None if there is nothing.
        inner: the simpler value. Views of the value's own memory where it has any, never copies of large data.
    """

    kind: str
    param: str | None
    inner: Any


Reduce = Callable[[Any], Reduced]
"""Reduces a value of a type it knows.

Raises:
    CannotReduce: this very value cannot be kept.
"""

Make = Callable[[str | None, Any], Any]
"""The value of a parameter and an inner value; hostile input, refused by `checks.unknown` or `checks.inconsistent`."""


class CannotReduce(Exception):
    """A value of a known type cannot be kept; its text says why, as a clause. The walk adds the path."""


class IsDistributed(CannotReduce):
    """The value is one rank's part of a tensor that several processes hold."""


class ClassUnknown(Exception):
    """A stored value is of a class that this process does not have, or has otherwise; its text says which of both."""
