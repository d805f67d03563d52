"""What a settings file says, and where in it mistakes are.

A mistake costs the setting it is about and no other; but of a retention policy either all keys are used or none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from casckpt.errors import (
    CasckptError,
    DamagedSettings,
    InvalidRetention,
    InvalidSetting,
    SecretInUrl,
    UnknownSetting,
)
from casckpt.plan.policy_table import items, policy_of
from casckpt.plan.settings import RETENTION, Layer, Value, check_value, refuse_place, setting_of, shown, unreadable

_PROBLEMS_MAX = 10
"""How many mistakes of a file are named; what is behind them is not read."""


def file_layer(origin: str, path: str, text: str) -> Layer:
    """What a settings file says."""
    try:
        # tomllib nests calls as deep as the text nests brackets.
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return unreadable(origin, path, str(error) or type(error).__name__)
    values: dict[str, Value] = {}
    problems: list[CasckptError] = []
    for key, value in _flat(found):
        if len(problems) == _PROBLEMS_MAX:
            problems.append(DamagedSettings(file=path, problem="it has more mistakes than these"))
            break
        place = _place_of(path, text, key)
        try:
            refuse_place(origin, key, value, place)
            values[setting_of(key).name] = check_value(key, value, place)
        except UnknownSetting as error:
            problems.append(UnknownSetting(**{**error.facts, "problem": f"{place}: {error.reason}"}))
        except (InvalidSetting, SecretInUrl) as error:
            problems.append(error)
    policy = None
    if any(key.startswith(f"{RETENTION}.") for key in values) and not any(map(_is_about_policy, problems)):
        try:
            policy = policy_of(found[RETENTION])
        except InvalidRetention as error:
            key = f"{RETENTION}.{error.facts['key']}"
            facts = {"value": shown(dict(_flat(found)).get(key)), "place": _place_of(path, text, key)}
            problems.append(InvalidSetting(key=key, **facts, problem=error.facts["problem"]))
    return Layer(origin, path, values, tuple(problems), policy)


def _is_about_policy(problem: CasckptError) -> bool:
    return str(problem.facts.get("key", RETENTION)).startswith(RETENTION)


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if not above and name == RETENTION and isinstance(value, dict):
            yield from ((".".join((RETENTION, *path)), one) for path, one in items(value))
        elif name == RETENTION and above.startswith("remote.") and above.count(".") == 2:
            yield f"{above}{name}", value
        elif isinstance(value, dict) and value and above.count(".") < 4:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _place_of(path: str, text: str, key: str) -> str:
    """The file, and the line that sets a key or the nearest table around it."""
    while key:
        line = _line_of(text, key)
        if line is not None:
            return f"{path}, line {line}"
        key = key.rpartition(".")[0]
    return path


def _line_of(text: str, key: str) -> int | None:
    """The line that sets a key, as far as that can be told without a parser that keeps places."""
    section, _, last = key.rpartition(".")
    inside = not section
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            table = header[1].replace('"', "").replace("'", "")
            inside = table == section
            if table == key:
                return number
        name, equals, _ = line.partition("=")
        name = name.strip().replace('"', "").replace("'", "")
        if equals and (name == key or (inside and name == last)):
            return number
    return None
