"""What `--json` prints: one envelope around the answer of a command, or around an error.

    {"schema": "casckpt.log/1", "ok": true, "exit": 0, "version", "store", "elapsed_s", "data": {...}, "warnings": []}
    {"schema": "casckpt.error/1", "ok": false, "exit": 3, "error": {"code", "what", "why", "hints", "details"}}

Names are snake_case, ids full, times RFC 3339 UTC, non-finite numbers strings, bytes lowercase hex. Keys may be added
under the same schema number; a key that goes or changes its meaning needs the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from casckpt.units import json_number
from casckpt.view.failure import Failure

DIFFERS = 1
"""The exit code that answers a question instead of reporting trouble."""


def plain(value: Any) -> Any:
    """A value as JSON can hold it; whatever JSON does not know becomes its text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return json_number(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def success(
    command: str,
    data: Mapping[str, Any],
    *,
    exit_code: int,
    version: str,
    store: str | None,
    elapsed_s: float,
    warnings: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The envelope of an answer; `ok` says that nothing needs care, also true when `--exit-code` found a difference."""
    return {
        "schema": f"casckpt.{command}/1",
        "ok": exit_code in (0, DIFFERS),
        "exit": exit_code,
        "version": version,
        "store": store,
        "elapsed_s": round(elapsed_s, 3),
        "data": plain(data),
        "warnings": [dict(warning) for warning in warnings],
    }


def failure(found: Failure) -> dict[str, Any]:
    """The envelope of an error."""
    return {
        "schema": "casckpt.error/1",
        "ok": False,
        "exit": found.exit_code,
        "error": {
            "code": found.code,
            "what": found.what,
            "why": found.why,
            "hints": list(found.hints),
            "details": plain(found.details),
        },
    }


def dumps(envelope: Mapping[str, Any]) -> str:
    """An envelope as one line of ASCII: foreign characters are escaped, so no terminal obeys them."""
    return json.dumps(envelope, ensure_ascii=True, allow_nan=False)
