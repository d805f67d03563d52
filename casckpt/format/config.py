"""The `format` file of a store: version, feature flags per operation, store id. Text, so that people can read it.

casckpt store
version 1
uuid 0f3c...            32 hex digits
read                    features a reader must know, space-separated
write                   features a writer must know
gc                      features a collector must know
check 9a01...           BLAKE3 of the lines before, 64 hex digits
"""

from __future__ import annotations

from dataclasses import dataclass

from casckpt.errors import DamagedFile, NewerFormat
from casckpt.format.ids import checksum

VERSION = 1
KNOWN_FEATURES: frozenset[str] = frozenset()
_OPERATIONS = ("read", "write", "gc")


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """What a store is: which version, which features, and an id of its own.

    Invariant: features are lower-case words; a store without features has three empty tuples.
    """

    uuid: bytes
    version: int = VERSION
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    gc: tuple[str, ...] = ()

    def encode(self) -> bytes:
        lines = ["casckpt store", f"version {self.version}", f"uuid {self.uuid.hex()}"]
        lines += [" ".join((operation, *getattr(self, operation))) for operation in _OPERATIONS]
        text = "".join(line + "\n" for line in lines).encode()
        return text + f"check {checksum(text).hex()}\n".encode()

    @classmethod
    def decode(cls, data: bytes) -> StoreFormat:
        """The format a file states.

        Raises:
            DamagedFile: if the check does not match or a line is missing.
            NewerFormat: if the version is not 1.
        """
        text, mark, check = data.rpartition(b"check ")
        if not mark or check != checksum(text).hex().encode() + b"\n":
            raise DamagedFile(file="the format file", problem="its check does not match")
        lines = text.decode("ascii", "replace").splitlines()
        fields: dict[str, str] = {}
        for line in lines[1:]:
            key, _, value = line.partition(" ")
            fields[key] = value
        if not lines or lines[0] != "casckpt store" or "version" not in fields:
            raise DamagedFile(file="the format file", problem="it is not of a casckpt store")
        if fields["version"] != str(VERSION):
            raise NewerFormat(operation="read", problem=f"it has format {fields['version']}, this release reads 1")
        uuid = fields.get("uuid", "")
        if len(uuid) != 32 or not set(uuid) <= set("0123456789abcdef"):
            raise DamagedFile(file="the format file", problem="its uuid is not 32 hex digits")
        if any(operation not in fields for operation in _OPERATIONS):
            raise DamagedFile(file="the format file", problem="a line is missing")
        read, write, gc = (tuple(fields[operation].split()) for operation in _OPERATIONS)
        return cls(bytes.fromhex(uuid), VERSION, read, write, gc)

    def require(self, operation: str) -> None:
        """Raise NewerFormat unless this release knows every feature the operation (and reading) needs."""
        names = self.read if operation == "read" else self.read + getattr(self, operation)
        unknown = sorted(set(names) - KNOWN_FEATURES)
        if unknown:
            raise NewerFormat(operation=operation, problem=f"it uses the feature {unknown[0]!r}")
