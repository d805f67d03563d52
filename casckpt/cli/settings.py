"""Where the settings of a call come from: the user's file, the file of the store, the environment, `-c`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from casckpt.cli.table import COMMANDS
from casckpt.errors import InvalidSetting

if TYPE_CHECKING:
    from casckpt.plan.settings import Layer, Settings


def user_file(environ: Mapping[str, str]) -> str:
    """The path of the user's settings file, whether it is there or not."""
    # The standard says that a relative path in the variable means nothing.
    base = environ.get("XDG_CONFIG_HOME", "")
    base = base if os.path.isabs(base) else os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "casckpt", "config.toml")


def settings_of(environ: Mapping[str, str], place: str | None, assignments: Sequence[str]) -> Settings:
    """All settings that hold for a call with the store at `place`, if there is one, and `-c` as it was given."""
    from casckpt.plan.settings import Settings, call_layer, environment_layer

    layers = [_user_layer(environ)]
    layers += [] if place is None else [_store_layer(place)]
    remotes = {key.split(".")[1] for layer in layers for key in layer.values if key.startswith("remote.")}
    return Settings([*layers, environment_layer(environ, sorted(remotes)), call_layer(assignments)])


def _user_layer(environ: Mapping[str, str]) -> Layer:
    path = user_file(environ)
    if not os.path.lexists(path):  # most have none, and then nothing that reads files is needed
        from casckpt.plan.settings import USER, Layer

        return Layer(USER, path, {})
    from casckpt.ops.settings import user_layer

    return user_layer(path)


def _store_layer(place: str) -> Layer:
    if not os.path.lexists(os.path.join(place, "config.toml")):
        from casckpt.plan.settings import STORE, Layer

        return Layer(STORE, os.path.join(place, "config.toml"), {})
    from casckpt.ops.settings import store_layer
    from casckpt.storage.local import LocalStorage

    return store_layer(LocalStorage(place, read_only=True))


def color_of(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The choice that a setting makes, None where the environment or the terminal decides.

    NO_COLOR, CASCKPT_COLOR and FORCE_COLOR stand between `-c` and the user's file.
    """
    value, origin, _ = settings.settled("color")
    is_weak = origin == "user" and not (environ.get("NO_COLOR") or environ.get("FORCE_COLOR"))
    return str(value) if origin == "call" or is_weak else None


def aliases(environ: Mapping[str, str]) -> dict[str, str]:
    """The aliases of the user, right or not."""
    from casckpt.plan.settings import Settings

    return Settings([_user_layer(environ)]).aliases()


def expanded(environ: Mapping[str, str], words: list[str]) -> list[str]:
    """A command line whose first word is no command: with what that word is an alias for, or as it is.

    Raises:
        InvalidSetting: the alias does not start with a command.
    """
    known = aliases(environ)
    if words[0] not in known:
        return words
    from casckpt.plan.settings import alias_problem

    line = known[words[0]]
    problem = alias_problem(words[0], line, list(COMMANDS))
    if problem:
        raise InvalidSetting(key=f"alias.{words[0]}", value=line, place=user_file(environ), problem=problem)
    import shlex

    return [*shlex.split(line), *words[1:]]
