"""What a remote is: its `casckpt.json`, written once by the first push. Specification: format-v1.md, section 11."""

from __future__ import annotations

import json
from dataclasses import dataclass

from casckpt.errors import IntegrityError, NewerFormat

ABOUT_KEY = "casckpt.json"
MAX_ABOUT_BYTES = 64 << 10
VERSION = 1
HASH = "blake3"
_ID_BYTES = 16
_WHAT = "casckpt.json of a remote"


@dataclass(frozen=True, slots=True)
class RemoteAbout:
    """A remote's id, which is random, and when it was made."""

    id: bytes
    time_ns: int

    def encode(self) -> bytes:
        """The file: text, so that people who look into a bucket see what it is."""
        value = {"format": VERSION, "hash": HASH, "id": self.id.hex(), "time": self.time_ns, "what": "casckpt remote"}
        return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> RemoteAbout:
        """The remote that a file tells of; fields that this release does not know are passed over.

        Raises:
            NewerFormat: of another format or with another hash.
            IntegrityError: it is no such file.
        """
        try:
            value = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise IntegrityError(object=_WHAT, problem="it is no JSON") from error
        if type(value) is not dict or value.get("what") != "casckpt remote" or type(value.get("format")) is not int:
            raise IntegrityError(object=_WHAT, problem="it is not of a casckpt remote")
        if value["format"] != VERSION or value.get("hash") != HASH:
            found = f"format {value['format']} with hash {str(value.get('hash'))[:20]!a}"
            raise NewerFormat(operation="use this remote", problem=f"it has {found}, this release knows {VERSION}")
        identity, time_ns = value.get("id"), value.get("time")
        if type(identity) is not str or len(identity) != 2 * _ID_BYTES or not set(identity) <= set("0123456789abcdef"):
            raise IntegrityError(object=_WHAT, problem="its id is not 32 hex digits")
        if type(time_ns) is not int:
            raise IntegrityError(object=_WHAT, problem="its time is not a number")
        return cls(bytes.fromhex(identity), time_ns)
