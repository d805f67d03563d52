"""Which types are stored as something simpler, and how they are made again: the table of tables.

Libraries are asked for their types only where they are imported already; one that is not cannot have made a value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from casckpt.errors import OpaqueWarning, UnknownType
from casckpt.state.checks import unknown
from casckpt.state.kinds import objects, pickled, registry
from casckpt.state.kinds.opaque import Opaque
from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown, Make, Reduce, Reduced

UNKNOWN = "its values have no form that is the same in every process"
"""Why a value is not kept of which nothing is known."""


def reducer(kind: type) -> Reduce | None:
    """What reduces values of exactly this type to something simpler; None if nothing does."""
    if kind is Opaque:
        return lambda value: Reduced(value.kind, value.param, value.fields)
    return objects.reducer(kind) or _library_reducer(kind)


def _library_reducer(kind: type) -> Reduce | None:
    """What reduces the smaller things of libraries: generators, dtypes, sizes, devices."""
    packages = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "random" in packages:
        from casckpt.state.kinds import generators

        return generators.reduce
    if "torch" in packages:
        from casckpt.state.kinds import tensor_objects

        return _known(tensor_objects.reduce)
    if "numpy" in packages:
        from casckpt.state.kinds import array_objects

        return _known(array_objects.reduce)
    return None


def _known(reduce: Callable[[Any], Reduced | None]) -> Reduce:
    def known(value: Any) -> Reduced:
        found = reduce(value)
        if found is None:
            raise CannotReduce(UNKNOWN)
        return found

    return known


def is_stateful(kind: type) -> bool:
    """Whether values are stored as what their `state_dict()` gives: modules, optimizers, schedulers, scalers."""
    return callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))


def make(kind: str, param: str | None, inner: Any, *, strict: bool, allow_pickle: bool) -> Any:
    """The value of a kind; hostile input.

    Args:
        inner: what it is made of, made already.
        strict: refuse a value of a class that is not here, instead of an `Opaque` and a warning.
        allow_pickle: run pickles, and so whatever code whoever wrote them wanted.

    Raises:
        FormatError: a kind this release does not know, or of a library that is not installed.
        IntegrityError: param and inner value are not of the kind.
        UnknownType: the class is not here, with `strict`.
    """
    if kind == pickled.KIND and not allow_pickle:
        raise unknown("a pickle that nobody agreed to")
    try:
        return _maker(kind)(param, inner)
    except ClassUnknown as error:
        if strict:
            raise UnknownType(type=param or kind, problem=str(error)) from error
        text = f"{param or kind} is given as casckpt.Opaque: {error}"
        warnings.warn(text, OpaqueWarning, stacklevel=2)
        return Opaque(kind, param, inner)


def _maker(kind: str) -> Make:
    if kind == registry.KIND:
        return registry.make
    if kind == pickled.KIND:
        return pickled.make
    found = _library_makers(kind.partition(".")[0]).get(kind) if "." in kind else objects.MAKERS.get(kind)
    if found is None:
        raise unknown(f"values of kind {kind[:40]!r}")
    return found


def _library_makers(package: str) -> Mapping[str, Make]:
    if package == "torch":
        try:
            from casckpt.state.kinds import tensor_objects
        except ImportError as error:
            raise unknown("it holds values of torch, which is not installed: pip install casckpt[torch]") from error
        return tensor_objects.MAKERS
    if package == "numpy":
        from casckpt.state.kinds import array_objects

        return array_objects.MAKERS
    from casckpt.state.kinds import generators

    return generators.MAKERS
