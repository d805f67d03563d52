"""The journal of a push: which packs arrived, so that a push that was interrupted sends nothing again.

    file = record | record | ...        record = length u32 | canonical msgpack | first 8 bytes of its BLAKE3

The first record says which push it is and which root was the newest before, each further one names a pack and what it
holds. A torn end is passed over: its pack is sent again, and the first copy is what a collector of the remote calls an
orphan.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from casckpt.errors import IntegrityError
from casckpt.format import limits
from casckpt.format import pack as p
from casckpt.format.canonical import Fields, decode, encode
from casckpt.format.ids import PackId, checksum
from casckpt.format.remote import NONCE_BYTES, PUSH_ID_BYTES
from casckpt.format.remote_index import SegmentPack
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.sending import Sent
from casckpt.remote.view import Place

NAME = "push"
_LENGTH = struct.Struct("<I")
_CHECK_BYTES = 8
_MAX_BYTES = 1 << 30


class Interrupted(NamedTuple):
    """A push that did not come to its end: its id, the root that was the newest before, and the packs that arrived."""

    push: bytes
    place: Place
    packs: list[Sent]


class PushJournal:
    """The journal of one push in the folder of its remote; whoever has it holds the lock of those who push."""

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder
        self._is_begun = False

    def resume(self) -> Interrupted | None:
        """The push that was interrupted, None if there was none."""
        data = self._folder.read(NAME, _MAX_BYTES)
        values = [] if data is None else list(_values(data))
        try:
            if not values:
                return None
            first = Fields(values[0], "the journal of a push")
            identity = first.need("push", bytes)
            place = first.need("seq", int), first.need("root", bytes)
            if len(identity) != PUSH_ID_BYTES:
                return None
            found = [_sent(Fields(value, "the journal of a push")) for value in values[1:]]
        except IntegrityError:  # of another release, say: then everything is sent
            return None
        self._is_begun = True
        return Interrupted(identity, place, found)

    def begin(self, push_id: bytes, place: Place) -> None:
        """Begin the journal of a push, in place of what is there.

        Args:
            place: of the newest root, before anything is sent.
        """
        self._folder.write(NAME, _record({"push": push_id, "seq": place[0], "root": place[1]}), durable=True)
        self._is_begun = True

    def add(self, sent: Sent) -> None:
        """Note a pack that arrived; durable when it returns."""
        identity, nonce, nbytes = sent.pack
        records = b"".join(record.pack() for record in sent.records)
        value = {"pack": identity, "nonce": nonce, "bytes": nbytes, "records": records}
        self._folder.append(NAME, _record(value))

    def end(self) -> None:
        """Remove the journal: what it was about is done."""
        if self._is_begun:
            self._folder.remove(NAME)
            self._is_begun = False


def _record(value: Mapping[str, Any]) -> bytes:
    body = encode(dict(value))
    return _LENGTH.pack(len(body)) + body + checksum(body)[:_CHECK_BYTES]


def _values(data: bytes) -> Iterator[Any]:
    """What the whole records of a journal hold."""
    at = 0
    while at + _LENGTH.size <= len(data):
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(data, at)[0]
        body = data[start:end]
        at = end + _CHECK_BYTES
        if at > len(data) or checksum(body)[:_CHECK_BYTES] != data[end:at]:
            return
        try:
            yield decode(body, "the journal of a push")
        except IntegrityError:
            return


def _sent(fields: Fields) -> Sent:
    identity, nonce = fields.need("pack", bytes), fields.need("nonce", bytes)
    nbytes, rows = fields.need("bytes", int), fields.need("records", bytes)
    if len(identity) != 32 or len(nonce) != NONCE_BYTES or not 0 < nbytes <= limits.MAX_PACK_BYTES:
        raise fields.error("it names no pack")
    if len(rows) % p.RECORD_BYTES:
        raise fields.error("its records are cut short")
    return Sent(SegmentPack(PackId(identity), nonce, nbytes), p.decode_records(rows, p.BLOCK, nbytes, allow_bases=True))
