"""Settings: which there are, what they may say, where they may be said, and which of several places wins.

From the weakest place to the strongest: built in, the user's file, the file of the store, the environment, `-c` on
the command line. A place is a `Layer`: the values it gives, and what is wrong with the others, as errors that name
file and line. Nothing is raised while layers are made, so that a slip in a file stops only what the setting matters
to: `Settings.get` passes over it, `Settings.need` raises it.

The file of a store is data from whoever wrote the store. So it holds only what belongs to its commits; what could
start a program (`pager`) or change what a command means (`alias.NAME`) is the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from casckpt.errors import (
    CasckptError,
    DamagedSettings,
    InvalidName,
    InvalidRetention,
    InvalidSetting,
    SecretInUrl,
    UnknownSetting,
)
from casckpt.plan.names import check_name
from casckpt.units import parse_int

if TYPE_CHECKING:
    from casckpt.plan.policy import Retention

Value = str | int | float | bool | list[Any] | dict[str, Any] | None
BUILT_IN, USER, STORE, ENVIRONMENT, CALL = "built-in", "user", "store", "environment", "call"
PLACES = {
    BUILT_IN: "built in",
    USER: "the user's file",
    STORE: "the file of the store",
    ENVIRONMENT: "the environment",
    CALL: "the command line",
}
MAX_FILE_BYTES = 64 << 10
ALIAS = "alias."
RETENTION = "retention"
"""The table in the file of a store that is its retention policy. Each key of it is a setting, as `retention.keep_last`;
but if one is wrong, none is used: a rule that is lost in silence would cost commits."""
_THREADS_MAX = 1024
_SHOWN_MAX = 80
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Setting(NamedTuple):
    """One key: what kind of value it takes (run, choice, count, flag, words, policy), and what it is for."""

    name: str
    kind: str
    default: Value
    help: str
    of_store: bool = False
    """Whether the file of a store may say it."""
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that says it."""
        return "CASCKPT_" + re.sub("[^A-Z0-9]", "_", self.name.upper())

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        return {
            "run": "the name of a run",
            "choice": "one of " + ", ".join(self.choices),
            "count": f"a whole number from 1 to {_THREADS_MAX}",
            "flag": "true or false",
            "words": "a text",
        }[self.kind]


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("run", "run", None, "The current run: what commits belong to and @ means.", of_store=True),
        Setting(
            "compress", "choice", "auto", "Encode new data where it costs no time, always, never.",
            of_store=True, choices=("auto", "always", "off"),
        ),
        Setting("threads", "count", None, "Cores that one operation keeps busy.", of_store=True),
        Setting("upkeep", "flag", True, "After commits, apply kept policies, free and repack.", of_store=True),
        Setting(
            "health_gate", "flag", True, "Whether best and recovery pass over commits with NaN or Inf.", of_store=True
        ),
        Setting(
            "fetch_on_demand", "flag", True, "Whether remotes are asked for what commits lost here.", of_store=True
        ),
        Setting("color", "choice", "auto", "When to colour.", choices=("auto", "always", "never")),
        Setting("time", "choice", "relative", "How times are shown.", choices=("relative", "local", "utc", "iso")),
        Setting(
            "progress", "choice", "auto", "How progress is shown.", choices=("auto", "bar", "plain", "json", "none")
        ),
        Setting("pager", "words", None, "The pager for answers longer than the screen; an empty text for none."),
        Setting("ascii", "flag", False, "Draw with ASCII characters only."),
    )
}  # fmt: skip
"""All keys but those of tables: `retention.KEY`, `remote.NAME.KEY`, `alias.NAME`. In the order of lists."""


class Settled(NamedTuple):
    """The value of a setting, with the place it comes from: a file, a variable, `-c`."""

    value: Value
    origin: str = BUILT_IN
    place: str = ""


class Layer(NamedTuple):
    """What one place says: values by key, and what is wrong with the rest."""

    origin: str
    place: str
    values: Mapping[str, Value]
    problems: tuple[CasckptError, ...] = ()
    policy: Retention | None = None
    """What its table `retention` says, if nothing in it is wrong."""


class Settings:
    """Layers on top of each other, the weakest first."""

    def __init__(self, layers: Sequence[Layer] = ()) -> None:
        self.layers = tuple(layers)

    @property
    def problems(self) -> tuple[CasckptError, ...]:
        """What is wrong in any layer."""
        return tuple(problem for layer in self.layers for problem in layer.problems)

    def settled(self, key: str) -> Settled:
        """The value of a setting from the strongest layer that gives one.

        Raises:
            UnknownSetting: no setting has that name.
        """
        key = setting_of(key).name
        for layer in reversed(self.layers):
            if key in layer.values:
                place = setting_of(key).variable if layer.origin == ENVIRONMENT else layer.place
                return Settled(layer.values[key], layer.origin, place)
        return Settled(SETTINGS[key].default if key in SETTINGS else None)

    def get(self, key: str) -> Value:
        """The value of a setting, whatever is wrong elsewhere."""
        return self.settled(key).value

    def need(self, key: str) -> Value:
        """The value of a setting that decides what is written.

        Raises:
            InvalidSetting, DamagedSettings: a layer may say something else and cannot be read.
        """
        self.refuse_mistakes(key)
        return self.get(key)

    def policy(self) -> Retention | None:
        """The retention policy of the store, None if it keeps none.

        Raises:
            UnknownSetting, InvalidSetting, DamagedSettings: a key of it cannot be read.
        """
        self.refuse_mistakes(RETENTION)
        return next((layer.policy for layer in self.layers if layer.policy is not None), None)

    def refuse_mistakes(self, key: str) -> None:
        """Raise the first problem that may be about a key, or about one in the table of that name."""
        for problem in self.problems:
            if f"{problem.facts.get('key', key)}.".startswith(f"{key}."):
                raise problem

    def said_of(self, table: str, *origins: str) -> list[str]:
        """The keys of a table that are said; only those said in these places, if any are named."""
        layers = [layer for layer in self.layers if not origins or layer.origin in origins]
        return list(dict.fromkeys(key for layer in layers for key in layer.values if key.startswith(f"{table}.")))

    def aliases(self) -> dict[str, str]:
        """The command line that each alias stands for."""
        found = {key: value for layer in self.layers for key, value in layer.values.items() if key.startswith(ALIAS)}
        return {key.removeprefix(ALIAS): str(value) for key, value in sorted(found.items())}


def setting_of(key: str) -> Setting:
    """The setting with a name; every `alias.NAME` is one.

    Raises:
        UnknownSetting: no setting has that name; a near one is named.
    """
    if key in SETTINGS:
        return SETTINGS[key]
    if key.startswith(ALIAS) and _is_alias_name(key.removeprefix(ALIAS)):
        return Setting(key, "words", None, "A command line that this name stands for.")
    if key.startswith(f"{RETENTION}."):
        from casckpt.plan.policy_table import path_of

        try:
            path = path_of(key.removeprefix(f"{RETENTION}."))
        except InvalidRetention as error:
            raise UnknownSetting(key=shown(key), problem=error.facts["problem"]) from None
        words = "What a retention policy says; casckpt retain applies it."
        return Setting(".".join((RETENTION, *path)), "policy", None, words, of_store=True)
    if key.startswith("remote."):
        from casckpt.plan import remote_settings as remote

        name, part = remote.path_of(key.removeprefix("remote."))
        found = remote.REMOTE_KEYS[part]
        choices = ("true", "false") if found.kind == "flag" else found.choices
        return Setting(f"remote.{name}.{part}", "remote", found.default, found.help, True, choices)
    import difflib  # slow to import, and needed by errors only

    known = [*SETTINGS, f"{RETENTION}.KEY", "remote.NAME.KEY", "alias.NAME"]
    near = difflib.get_close_matches(key, known, 1, 0.5)
    problem = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise UnknownSetting(key=shown(key), problem=problem)


def _is_alias_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None


def parse_value(key: str, text: str, place: str, commands: Sequence[str] = ()) -> Value:
    """The value of a setting from its text, as it stands in a variable or on the command line.

    Raises:
        UnknownSetting, InvalidSetting: with the place.
    """
    setting = setting_of(key)
    value: Value = text
    if setting.kind == "count":
        value = parse_int(text) if parse_int(text) is not None else text
    elif setting.kind == "flag" and text.lower() in (*_YES, *_NO):
        value = text.lower() in _YES
    elif setting.kind == "policy":
        from casckpt.plan.policy_table import parsed

        value = parsed(parts_of(setting.name)[1:], text)
    elif setting.kind == "remote":
        from casckpt.plan import remote_settings

        value = remote_settings.parsed(remote_settings.path_of(setting.name.removeprefix("remote."))[1], text)
    return check_value(key, value, place, commands)


def check_value(key: str, value: object, place: str, commands: Sequence[str] = ()) -> Value:
    """The value itself, if the setting may have it.

    Args:
        commands: names of commands, which no alias may take and of which each must start with one; none checks neither.

    Raises:
        UnknownSetting, InvalidSetting, SecretInUrl: with the place.
    """
    setting = setting_of(key)
    if setting.kind == "policy":
        return _policy_value(setting.name, value, place)
    if setting.kind == "remote":
        from casckpt.plan import remote_settings

        part = remote_settings.path_of(setting.name.removeprefix("remote."))[1]
        return remote_settings.checked(part, value, place, setting.name)
    problem = _problem(setting, value)
    if not problem and key.startswith(ALIAS) and commands:
        problem = alias_problem(key.removeprefix(ALIAS), str(value), commands)
    if problem:
        raise InvalidSetting(key=key, value=shown(value), place=place, problem=problem)
    assert isinstance(value, str | int)
    return value


def _policy_value(key: str, value: object, place: str) -> Value:
    from casckpt.plan.policy_table import checked  # most calls know no policy

    try:
        found: Value = checked(parts_of(key)[1:], value)
    except InvalidRetention as error:
        own = f"{RETENTION}.{error.facts['key']}"
        raise InvalidSetting(key=own, value=shown(value), place=place, problem=error.facts["problem"]) from None
    return found


def parts_of(key: str) -> tuple[str, ...]:
    """The names on the way to a setting in a file."""
    if key.startswith(f"{RETENTION}."):
        from casckpt.plan.policy_table import path_of

        return (RETENTION, *path_of(key.removeprefix(f"{RETENTION}.")))
    return tuple(key.split("."))


def refuse_place(origin: str, key: str, value: object, place: str) -> None:
    """Raise InvalidSetting if that place may not say that setting."""
    setting, problem = setting_of(key), ""
    if origin == STORE and not setting.of_store:
        problem = "the file of a store cannot say it; say it in the user's file"
    elif origin != STORE and setting.kind == "policy":
        problem = "only the file of a store can say it, as it is about the commits there"
    elif origin == USER and setting.kind == "remote":
        problem = "the file of a store says it, or for one call the environment or -c"
    if problem:
        raise InvalidSetting(key=key, value=shown(value), place=place, problem=problem)


def shown(value: object) -> Value:
    """A value as an error names it: short, and of a type that JSON has."""
    if isinstance(value, bool | int) and abs(value) < 1 << 63:
        return value
    text = str(value) if isinstance(value, str | float) else type(value).__name__
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."


def _problem(setting: Setting, value: object) -> str:
    """Why a setting cannot have a value, empty if it can."""
    is_right = {
        "choice": value in setting.choices if isinstance(value, str) else False,
        "count": type(value) is int and 1 <= value <= _THREADS_MAX,
        "flag": type(value) is bool,
    }.get(setting.kind, isinstance(value, str) and value.isprintable())
    if not is_right:
        return f"it must be {setting.expected}"
    if setting.kind == "run":
        try:
            check_name("run", str(value))
        except InvalidName as error:
            return error.reason
    return ""


def alias_problem(name: str, words: str, commands: Sequence[str]) -> str:
    """Why an alias cannot be used, empty if it can. It starts with a command of casckpt, so never with a shell."""
    import shlex

    if name in commands:
        return f"{name!r} is a command, and no alias may shadow one"
    try:
        first = shlex.split(words)[:1]
    except ValueError as error:
        return f"it cannot be split into words: {error}"
    return "" if first and first[0] in commands else "it must start with a command of casckpt"


def unreadable(origin: str, path: str, problem: str) -> Layer:
    """The layer of a file that cannot be read."""
    return Layer(origin, path, {}, (DamagedSettings(file=path, problem=problem),))


def environment_layer(environ: Mapping[str, str], remotes: Sequence[str] = ()) -> Layer:
    """What the environment says; a variable that is empty says nothing, but that of a text, which may be empty.

    Args:
        remotes: names of remotes, of each of which it may say something else than the file of the store.
    """
    values: dict[str, Value] = {}
    problems: list[CasckptError] = []
    settings = dict(SETTINGS)
    if remotes and any(name.startswith("CASCKPT_REMOTE_") for name in environ):
        from casckpt.plan.remote_settings import REMOTE_KEYS

        known = [f"remote.{name}.{part}" for name in remotes for part in REMOTE_KEYS]
        settings |= {key: setting_of(key) for key in known}
    for key, setting in settings.items():
        text = environ.get(setting.variable)
        if text or (text is not None and setting.kind == "words"):
            try:
                values[key] = parse_value(key, text, f"the variable {setting.variable}")
            except (InvalidSetting, SecretInUrl) as error:
                problems.append(error)
    return Layer(ENVIRONMENT, "", values, tuple(problems))


def call_layer(pairs: Sequence[str]) -> Layer:
    """What `-c KEY=VALUE` says.

    Raises:
        UnknownSetting, InvalidSetting: a wrong call is refused at once.
    """
    values: dict[str, Value] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            setting_of(key)
            raise InvalidSetting(key=key, value="", place="-c", problem="it is -c KEY=VALUE")
        if key.startswith(ALIAS):
            raise InvalidSetting(key=key, value=text, place="-c", problem="an alias stands in the user's file")
        refuse_place(CALL, key, text, "-c")
        values[key] = parse_value(key, text, "-c")
    return Layer(CALL, "-c", values)
