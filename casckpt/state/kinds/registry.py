"""Classes of users that say themselves how they are stored: registered ones, and those with `__casckpt__`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from casckpt.errors import UsageError
from casckpt.state.checks import inconsistent
from casckpt.state.kinds.classes import class_name, find_class
from casckpt.state.kinds.reduced import ClassUnknown, Reduce, Reduced

KIND = "registered"


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of one class are stored.

    Args:
        name: of the class in stores; by default `module:qualname`.
        to: a value as something simpler.
        of: the value of something simpler and the version that made it.
        version: of what `to` gives, from 1.
    """

    name: str
    to: Callable[[Any], Any]
    of: Callable[[Any, int], Any]
    version: int


_by_class: dict[type, Codec] = {}
_by_name: dict[str, Codec] = {}


def register(
    cls: type, *, to: Callable[[Any], Any], of: Callable[[Any, int], Any], version: int = 1, name: str | None = None
) -> None:
    """Store values of exactly this class through functions of yours; a later call for the class replaces an earlier.

    Args:
        to: gives what is stored of a value: anything a state may hold. Must give the same for equal values.
        of: called at checkout with what `to` gave and the version it was stored with; gives the value.
        version: of what `to` gives, 1 or more; raise it when `to` changes, and let `of` know both.
        name: the class's name in stores, for one that moves between modules; by default `module:qualname`.

    Raises:
        UsageError: another class has the name, or an argument is not what it should be.
    """
    if not isinstance(cls, type) or not callable(to) or not callable(of):
        raise UsageError(problem="register takes a class and two functions: to(value) and of(stored, version)")
    if type(version) is not int or version < 1:
        raise UsageError(problem=f"a version is 1 or more, not {version!r}")
    codec = Codec(name or class_name(cls), to, of, version)
    if "@" in codec.name or any(known is not cls and one.name == codec.name for known, one in _by_class.items()):
        raise UsageError(problem=f"{codec.name!r} cannot be the name of this class: it has an @, or is another's")
    before = _by_class.get(cls)
    if before is not None:
        del _by_name[before.name]
    _by_class[cls] = _by_name[codec.name] = codec


def reducer(kind: type) -> Reduce | None:
    """What stores values of a class that says so itself."""
    codec = _by_class.get(kind)
    if codec is not None:
        param, to = f"{codec.name}@{codec.version}", codec.to
    elif callable(getattr(kind, "__casckpt__", None)):
        param = f"{class_name(kind)}@{_version(kind)}"
        to = kind.__casckpt__  # type: ignore[attr-defined]
    else:
        return None
    return lambda value: Reduced(KIND, param, to(value))


def make(param: str | None, inner: Any) -> Any:
    """The value of a class that says itself how it is made; hostile input, of which that class has to beware.

    Raises:
        ClassUnknown: it is neither registered nor imported, or older than what made the value.
    """
    name, mark, digits = (param or "").rpartition("@")
    if not mark or not digits.isascii() or not digits.isdecimal():
        raise inconsistent("a registered value without a version")
    version = int(digits[:18])
    codec = _by_name.get(name)
    if codec is not None:
        known, of = codec.version, codec.of
    else:
        kind = find_class(name)
        if not callable(getattr(kind, "__from_casckpt__", None)):
            raise ClassUnknown(f"{name} is not registered and has no __from_casckpt__")
        known, of = _version(kind), kind.__from_casckpt__  # type: ignore[attr-defined]
    if version > known:
        raise ClassUnknown(f"it was stored by version {version} of {name}, here is version {known}")
    return of(inner, version)


def _version(kind: type) -> int:
    return int(getattr(kind, "__casckpt_version__", 1))
