"""Keys of a retention policy as settings: `keep_last`, and `runs.PATTERN.keep_last` for what is said of some runs.

A pattern may hold dots, a key of a policy holds none: so a setting is read from both its ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from casckpt.errors import InvalidRetention
from casckpt.plan.policy import Retention, key_of

_TEXTS = ("metric", "mode", "within", "grace")
"""Keys whose value is the text as it stands, also where it looks like a number."""


def path_of(key: str) -> tuple[str, ...]:
    """Where a key stands in a policy, by the policy's own names.

    Raises:
        InvalidRetention: a policy has no such key.
    """
    first, _, rest = key.partition(".")
    if first != "runs":
        return (key_of(key),)
    pattern, _, name = rest.rpartition(".")
    if pattern[:1] in ("'", '"') and pattern[-1:] == pattern[:1]:
        pattern = pattern[1:-1]
    if not pattern:
        raise InvalidRetention(key=f"{key:.60}", problem="it is runs.PATTERN.KEY, as runs.sweep-*.keep_last")
    return ("runs", pattern, *path_of(name))


def items(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Where each key stands that a table says, and its value; what is wrong with them is not looked at."""
    for name, value in table.items():
        if name != "runs" or not isinstance(value, Mapping):
            yield (name,), value
            continue
        for pattern, inner in value.items():
            if isinstance(inner, Mapping):
                yield from ((("runs", pattern, key), one) for key, one in inner.items())
            else:
                yield ("runs", pattern), inner


def policy_of(table: Mapping[str, Any]) -> Retention | None:
    """The policy that a table says, None if it says nothing; tables without a key are passed over.

    Raises:
        InvalidRetention: as `Retention.from_dict`.
    """
    said = dict(table)
    if isinstance(said.get("runs"), Mapping):
        said["runs"] = {pattern: inner for pattern, inner in said["runs"].items() if inner != {}}
        if not said["runs"]:
            del said["runs"]
    return Retention.from_dict(said) if said else None


def checked(path: tuple[str, ...], value: Any) -> Any:
    """A value as the policy has it.

    Raises:
        InvalidRetention: it cannot be meant.
    """
    for name in reversed(path):
        value = {name: value}
    found: Any = Retention.from_dict(value).to_dict()
    for name in path:
        found = found[name]
    return found


def parsed(path: tuple[str, ...], text: str) -> Any:
    """The value that a text says as TOML does: `3`, `true`, `["1000 steps", "1d"]`; any other text is itself."""
    import tomllib  # only a change of a policy needs it

    if path[-1] in _TEXTS:
        return text
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text
