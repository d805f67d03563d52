"""The head of a bundle: what a file is that holds a whole remote. Specification: format-v1.md, section 13.

A bundle is a zip archive whose members are stored as they are. Each is an object of a remote (`remote`) under its key;
the first, `bundle`, is the head. Text, so that people can read it with any unzip.

casckpt bundle
version 1
time 1790000000000000000     when it was made, nanoseconds since 1970, UTC
by host:process              who made it
needs 4f0e...                a commit, 64 hex digits, on whose objects the bundle builds; any number of such lines
check 9a01...                BLAKE3 of the lines before, 64 hex digits
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from casckpt.errors import FormatError, IntegrityError
from casckpt.format.ids import CommitId, ObjectId, checksum

KEY = "bundle"
VERSION = 1
MAX_HEAD_BYTES = 1 << 20
_FIRST = "casckpt bundle"
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME = re.compile(r"[0-9]{1,19}", re.ASCII)
_MAX_BY_CHARS = 4096
_WHAT = "the head of a bundle"


@dataclass(frozen=True, slots=True)
class BundleHead:
    """What a bundle says of itself.

    Invariant: `needs` ascends, no commit twice; whoever takes the bundle in must have these commits whole.
    """

    time_ns: int
    by: str
    needs: tuple[CommitId, ...] = ()

    def encode(self) -> bytes:
        """The member.

        Raises:
            IntegrityError: a value that would not be read back.
        """
        lines = [_FIRST, f"version {VERSION}", f"time {self.time_ns}", f"by {self.by}"]
        lines += [f"needs {identity.hex()}" for identity in self.needs]
        text = "".join(line + "\n" for line in lines).encode()
        data = text + f"check {checksum(text).hex()}\n".encode()
        if self.decode(data) != self:
            raise _error("a value is not what its line can say")
        return data

    @classmethod
    def decode(cls, data: bytes) -> BundleHead:
        """The head in a member.

        Raises:
            FormatError: a newer version.
            IntegrityError: anything else that breaks a rule.
        """
        text, mark, check = data.rpartition(b"check ")
        if len(data) > MAX_HEAD_BYTES or not mark or check != checksum(text).hex().encode() + b"\n":
            raise _error("its check does not match")
        lines = text.decode("utf-8", "replace").split("\n")
        if lines[0] != _FIRST or lines.pop():
            raise _error("it does not begin as one")
        words = [line.partition(" ")[::2] for line in lines[1:]]
        if words[:1] != [("version", str(VERSION))]:
            raise FormatError(object=_WHAT, problem=f"it says {lines[1] if words else 'no version'!r}")
        if [name for name, _ in words[1:3]] != ["time", "by"] or {name for name, _ in words[3:]} - {"needs"}:
            raise _error("its lines are others")
        (time, by), needs = (word for _, word in words[1:3]), [word for _, word in words[3:]]
        if not _TIME.fullmatch(time) or not by.isprintable() or len(by) > _MAX_BY_CHARS:
            raise _error("its time or its maker is none")
        if needs != sorted(set(needs)) or not all(map(_ID.fullmatch, needs)):
            raise _error("what it needs are not ids in ascending order")
        return cls(int(time), by, tuple(CommitId(ObjectId(bytes.fromhex(word))) for word in needs))


def _error(problem: str) -> IntegrityError:
    return IntegrityError(object=_WHAT, problem=problem)
