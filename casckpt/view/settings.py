"""Settings as text: what each says, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from casckpt.plan.settings import PLACES, Settings, Value, setting_of
from casckpt.view import text as t
from casckpt.view.text import Cell, Look, safe


def setting_dict(settings: Settings, key: str) -> dict[str, object]:
    """One setting as plain values: what holds, and where it comes from."""
    setting, settled = setting_of(key), settings.settled(key)
    return {
        "key": key,
        "value": settled.value,
        "origin": settled.origin,
        "place": settled.place or None,
        "default": setting.default,
        "help": setting.help,
    }


def value_text(value: Value) -> str:
    """A value as it would be typed; nothing for none."""
    return "" if value is None else safe(value) if isinstance(value, str) else _toml(value)


def _toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{safe(key)} = {_toml(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # A text of JSON is one of TOML too.
    return safe(json.dumps(value, ensure_ascii=False))


def list_lines(settings: Settings, keys: Sequence[str], look: Look, *, origin: bool) -> Iterator[str]:
    """A line a setting: key, value, and what it is for or where it comes from."""
    rows = []
    for key in keys:
        settled = settings.settled(key)
        last = origin_text(settings, key) if origin else setting_of(key).help
        role = t.MUTED if settled.origin == "built-in" else t.PLAIN
        rows.append(
            [Cell(key, t.LABEL), Cell(value_text(settled.value) or "-", role), Cell(last, t.MUTED, cut=not origin)]
        )
    yield from t.columns(rows, look)


def origin_text(settings: Settings, key: str) -> str:
    """Where the value of a setting comes from."""
    settled = settings.settled(key)
    return safe(settled.place) or PLACES[settled.origin]
