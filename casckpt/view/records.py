"""Lists for programs: a JSON object a line with an end mark, or fields with tabs between them.

    {"type": "commit", "id": ...}
    {"type": "end", "ok": true, "exit": 0, "count": 1, "warnings": []}

Whoever reads no end mark knows that the list was cut. A failure is a line of the type `error`, then the end mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from casckpt.errors import UsageError
from casckpt.view.failure import Failure
from casckpt.view.json import DIFFERS, dumps, failure, plain
from casckpt.view.text import safe

_ABSENT = object()


def ndjson_lines(
    kind: str, items: Iterable[Mapping[str, Any]], exit_code: int, warnings: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    """A line a record, each as it comes, then the end mark."""
    count = 0
    for item in items:
        yield dumps({"type": kind, **plain(item)})
        count += 1
    end = {"type": "end", "ok": exit_code in (0, DIFFERS), "exit": exit_code, "count": count}
    yield dumps({**end, "warnings": [dict(warning) for warning in warnings]})


def failed_lines(found: Failure) -> Iterator[str]:
    """What went wrong, as a record; then the end mark."""
    envelope = failure(found)
    yield dumps({"type": "error", **{key: envelope[key] for key in ("exit", "error")}})
    yield dumps({"type": "end", "ok": False, "exit": found.exit_code, "count": None, "warnings": []})


def tsv_lines(fields: Sequence[str], items: Iterable[Mapping[str, Any]], *, header: bool = False) -> Iterator[str]:
    """A line a record: the fields with tabs between them; tabs and line breaks in texts are `\\t` and `\\n`.

    Args:
        fields: paths of keys with dots, as `metrics.val/loss`. A key may have dots itself.
        header: the names first.

    Raises:
        UsageError: a field is empty, or its first key is none of the record's.
    """
    if not all(fields):
        raise UsageError(problem="--tsv needs names of fields with commas between them, as id,step")
    if header:
        yield "\t".join(_escaped(field) for field in fields)
    for item in items:
        yield "\t".join(_text(_field(item, field)) for field in fields)


def _field(item: Mapping[str, Any], field: str) -> Any:
    found = _inside(item, field)
    if found is _ABSENT:
        if not any(field == key or field.startswith(f"{key}.") for key in item):
            raise UsageError(problem=f"a record has no field {field!r}; it has {', '.join(item)}")
        return None
    return found


def _inside(value: Any, field: str) -> Any:
    """What a path of keys leads to; the longest key that fits is tried first, since keys may hold dots."""
    if not isinstance(value, Mapping):
        return _ABSENT
    if field in value:
        return value[field]
    parts = field.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        key = ".".join(parts[:cut])
        if key in value:
            found = _inside(value[key], ".".join(parts[cut:]))
            if found is not _ABSENT:
                return found
    return _ABSENT


def _text(value: Any) -> str:
    shown = plain(value)
    if shown is None:
        return ""
    text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=True, separators=(",", ":"))
    return _escaped(text)


def _escaped(text: str) -> str:
    """A text that neither breaks the table nor commands a terminal; as backslashes are doubled, it can be read back."""
    return safe(text.replace("\\", "\\\\"))
