"""Canonical paths: the one name of every leaf, the same in every process and on every machine.

A path is elements joined by `/`. An element says the key's type as well as its value, so two keys of one container
never share an element:

    str                     itself, with `/`, `%` and lone surrogates percent-escaped
    str that could be       in double quotes, inner `"` escaped: decimal digits, the empty string,
      another element         and what starts with `"` or `:`
    int, index              decimal
    True, False, None       `:true`, `:false`, `:none`
    float                   `:x` + the big-endian double in 16 hex digits (NaN bits count)
    bytes                   `:b` + hex
    tuple                   `:t(` elements joined by `,` `)`; a str inside also escapes `,`, `(` and `)`

`:meta` is the `_metadata` attribute of an OrderedDict. Paths are compared and sorted as UTF-8 bytes, which is the
order of Python's `str`.
"""

from __future__ import annotations

import re
import struct

from casckpt import errors

METADATA = ":meta"
"""Element of an OrderedDict's `_metadata`; no key has it."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_. \-]*").fullmatch
_QUOTED = re.compile(r'-?[0-9]+|(?:[":].*)?', re.DOTALL).fullmatch
_ESCAPED = re.compile("[/%\ud800-\udfff]")
_ESCAPED_QUOTED = re.compile('[/%"\ud800-\udfff]')
_ESCAPED_INSIDE = re.compile("[/%,()\ud800-\udfff]")
_ESCAPED_INSIDE_QUOTED = re.compile('[/%",()\ud800-\udfff]')


def element(key: object) -> str:
    """The path element of one dict key or index, unique among the keys of a container.

    Raises:
        UnsupportedKey: `key` is of a type that cannot be a key of a state.
    """
    if type(key) is str and _PLAIN(key):  # nearly every key there is
        return key
    return _element(key, inside=False)


def join(path: str, name: str) -> str:
    """The path of the element `name` below `path`; the root's path is the empty string."""
    return f"{path}/{name}" if path else name


def text_of(name: str) -> str | None:
    """The str key whose element is `name`, None if that is the element of another kind of key."""
    if name.startswith(":"):
        return None
    if name.startswith('"'):
        name = name[1:-1]
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return raw.decode("utf-8", "surrogatepass")


def shown(path: str) -> str:
    """A path as errors show it, where the root needs a name."""
    return path or "the state"


def _element(key: object, *, inside: bool) -> str:
    kind = type(key)
    if kind is str:
        return _text(str(key), inside=inside)
    if kind is int or isinstance(key, bool) or key is None:
        return str(key) if kind is int else f":{key}".lower()
    if isinstance(key, float) and kind is float:
        return ":x" + struct.pack(">d", key).hex()
    if isinstance(key, bytes) and kind is bytes:
        return ":b" + key.hex()
    if isinstance(key, tuple) and kind is tuple:
        return ":t(" + ",".join(_element(part, inside=True) for part in key) + ")"
    raise errors.UnsupportedKey(path="a key", type=kind.__qualname__)


def _text(key: str, *, inside: bool) -> str:
    if _QUOTED(key):
        return '"' + (_ESCAPED_INSIDE_QUOTED if inside else _ESCAPED_QUOTED).sub(_percent, key) + '"'
    return (_ESCAPED_INSIDE if inside else _ESCAPED).sub(_percent, key)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
