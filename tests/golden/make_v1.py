#!/usr/bin/env python3
"""Write the vectors of format v1 into tests/golden/v1. Deterministic: run again, it writes the same bytes.

    .venv/bin/python tests/golden/make_v1.py

Vectors of a released version never change; this script shows how they were made, and a test holds it to them. Frames
of zstd differ between its versions, so `vectors.json` says which one was used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import zstandard

from casckpt.format.ids import checksum
from tests.golden import v1_files, v1_objects, v1_packs

FOLDER = Path(__file__).parent / "v1"
ZSTD = ".".join(map(str, zstandard.ZSTD_VERSION))


class Vectors:
    """Files by name, and what `vectors.json` says of each."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.files: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def file(self, name: str, kind: str, what: str, data: bytes, expect: Any, **context: Any) -> None:
        """A file that reads as `expect`."""
        self.files.append({**self._entry(name, kind, what, data, context), "expect": expect})

    def refuse(self, name: str, kind: str, error: str, what: str, data: bytes, **context: Any) -> None:
        """A file that must be refused with this class of error."""
        name = f"refused/{name}"
        self.refused.append({**self._entry(name, kind, what, data, context), "error": error})

    def _entry(self, name: str, kind: str, what: str, data: bytes, context: dict[str, Any]) -> dict[str, Any]:
        assert name not in self.data, name
        self.data[name] = data
        plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in context.items()}
        return {"file": name, "kind": kind, "what": what, "bytes": len(data), "blake3": checksum(data).hex(), **plain}


def build() -> dict[str, bytes]:
    """All files by name, `vectors.json` included."""
    vectors = Vectors()
    v1_objects.objects(vectors)
    v1_packs.packs(vectors)
    v1_files.journals(vectors)
    v1_files.formats(vectors)
    v1_files.remotes(vectors)
    sections = {
        "canonical": v1_objects.canonical(),
        "ids": v1_objects.ids(),
        "groups": v1_objects.groups(),
        "files": vectors.files,
        "refused": vectors.refused,
    }
    return {**vectors.data, "vectors.json": _text({"format": 1, "zstd": ZSTD, **sections}).encode()}


def _text(value: Any, depth: int = 0) -> str:
    """JSON that breaks lines only where it gets long, so that a change shows as few lines."""
    flat = json.dumps(value, ensure_ascii=True)
    if len(flat) + depth <= 118 or not isinstance(value, (dict, list)):
        return flat + ("\n" if depth == 0 else "")
    inner = " " * (depth + 1)
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()]
        opened, closed = "{}"
    else:
        parts = [inner + _text(item, depth + 1) for item in value]
        opened, closed = "[]"
    return opened + "\n" + ",\n".join(parts) + "\n" + " " * depth + closed + ("\n" if depth == 0 else "")


def main() -> None:
    """Write every file."""
    for name, data in build().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
