"""Classes by name: stored as `module:qualname`, found again only among what this process has imported already."""

from __future__ import annotations

import sys

from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown


def class_name(kind: type) -> str:
    """The name a class is stored under.

    Raises:
        CannotReduce: a class made inside a function has no name by which it could be found again.
    """
    if "<locals>" in kind.__qualname__:
        raise CannotReduce("its class was made inside a function, where nothing finds it again")
    return f"{kind.__module__}:{kind.__qualname__}"


def find_class(name: str | None) -> type:
    """The class of a stored name; hostile input.

    Imports nothing and calls nothing: it looks in the dictionaries of modules and classes only, since `getattr` on a
    module may run code that imports.

    Raises:
        ClassUnknown: no imported module has it.
    """
    module_name, _, path = (name or "").partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        raise ClassUnknown(f"no module {module_name!r} is imported")
    # Not `vars`: a lazy module is loaded by whatever asks it for its dictionary in the usual way.
    space = object.__getattribute__(module, "__dict__")
    found: object = None
    for part in path.split("."):
        found = space.get(part)
        space = type.__getattribute__(found, "__dict__") if isinstance(found, type) else {}
    if not isinstance(found, type):
        raise ClassUnknown(f"module {module_name!r} has no class {path!r}")
    return found
