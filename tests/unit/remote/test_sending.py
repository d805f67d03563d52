"""Packs and segments on their way: whole, named by a hint, few, and sent again only where nobody knows of them."""

from __future__ import annotations

import os
import threading

import pytest

from casckpt.errors import RemoteUnavailable, RemoteUntrusted
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.ids import Kind, object_id
from casckpt.format.remote import push_of
from casckpt.format.remote_index import Segment
from casckpt.remote import sending
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.push_journal import PushJournal
from casckpt.remote.sending import OutgoingPack, Sender, Sent, verify
from casckpt.remote.supply import Item
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Outcome
from tests.support.buckets import pack_contents
from tests.support.remotes import Counting, Wrapping

PUSH = bytes(range(16))


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_FIRST_PAUSE_S", 0)


def item(data: bytes, kind: Kind = Kind.CHUNK, *, ends: bool = True, base: int = 0) -> Item:
    identity = object_id(kind, data)
    codec = Codec.DELTA_PLANES if base else Codec.RAW
    check = p.check_of(codec, identity, kind, data)
    cost = 2 if base else 1
    return Item(
        p.Record(identity, 0, len(data), len(data), kind, codec, check=check, base_1=base, cost=cost), data, ends
    )


def test_what_is_sent_reads_back_as_packs_of_data_and_of_metadata_with_the_push_in_their_hints() -> None:
    objects = Counting(MemoryObjects())
    items = [item(os.urandom(100 + number)) for number in range(200)]
    items[50:50] = [item(b"tree", Kind.TREE), item(b"commit", Kind.COMMIT)]
    sent = Sender(objects, PUSH).send(lambda _: items)
    assert len(sent) == 2
    for one in sent:
        data = objects.get(one.pack.key, limit=one.pack.nbytes)
        contents = pack_contents(data)
        assert contents.id == one.pack.id
        assert len(data) == one.pack.nbytes
        assert contents.records == list(one.records)
        assert push_of(contents.hints) == PUSH
        # Also what only salvage reads: the tables of the extents.
        for at in range(0, len(data), p.BLOCK):
            if p.extent_bytes(data[at : at + 64]):
                p.decode_extent(data[at:], at, allow_bases=False)
    kinds = [{record.kind == Kind.CHUNK for record in one.records} for one in sent]
    assert sorted(map(len, kinds)) == [1, 1]
    stored = {
        record.id: objects.get(one.pack.key, record.offset, record.offset + record.stored, limit=1 << 20)
        for one in sent
        for record in one.records
    }
    assert stored == {one.record.id: one.stored for one in items}


def test_a_pack_ends_where_it_is_full_but_never_between_a_delta_and_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PACK_BYTES", 10_000)
    objects = MemoryObjects()
    items = [item(os.urandom(6000), ends=number % 4 == 3, base=min(number % 4, 1)) for number in range(20)]
    sent = Sender(objects, PUSH, concurrency=1).send(lambda _: items)
    assert [len(one.records) for one in sent] == [4] * 5
    for one in sent:
        header = objects.get(one.pack.key, 0, p.BLOCK, limit=p.BLOCK)
        assert p.decode_header(header) == p.HAS_DELTAS


def test_at_most_as_many_uploads_as_allowed_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PACK_BYTES", 1000)
    running, most, mutex = [0], [0], threading.Lock()

    class Watching(Wrapping):
        def create(self, key: str, data: Buffer) -> Outcome:
            with mutex:
                running[0] += 1
                most[0] = max(most[0], running[0])
            outcome = self.inner.create(key, data)
            with mutex:
                running[0] -= 1
            return outcome

    done: list[int] = []
    sender = Sender(Watching(MemoryObjects()), PUSH, concurrency=3, advance=done.append)
    sent = sender.send(lambda _: (item(os.urandom(900)) for _ in range(30)))
    assert 1 <= most[0] <= 3
    assert sum(done) == 30 * 900
    assert sum(len(one.records) for one in sent) == 30


def test_an_upload_that_was_not_answered_is_looked_for_and_has_another_key_if_it_is_not_there() -> None:
    class Odd(Wrapping):
        script = "lnfo"

        def create(self, key: str, data: Buffer) -> Outcome:
            word, self.script = self.script[:1], self.script[1:]
            if word in ("n", "f"):  # it never came through, or met another one of itself
                return Outcome.UNKNOWN if word == "n" else Outcome.EXISTS
            outcome = self.inner.create(key, data)
            return Outcome.UNKNOWN if word == "l" else outcome

    def key_of(nonce: bytes) -> str:
        return f"packs/{nonce.hex()}"

    objects = Odd(MemoryObjects())
    first = sending.store(objects, key_of, b"first")
    second = sending.store(objects, key_of, b"second")
    assert {listed.key for listed in objects.list("packs/")} == {key_of(first), key_of(second)}
    objects.script = "n" * 100
    with pytest.raises(RemoteUnavailable):
        sending.store(objects, key_of, b"third")


def test_an_object_that_several_packs_hold_has_one_row() -> None:
    objects = MemoryObjects()
    same, other = item(b"same"), item(b"other")
    sent = [*Sender(objects, PUSH).send(lambda _: [same]), *Sender(objects, PUSH).send(lambda _: [same, other])]
    ((ref, data),) = Sender(objects, PUSH).segments(sent)
    segment = Segment.decode(data)
    assert (len(segment), len(segment.packs)) == (2, 2)
    assert objects.get(ref.key, limit=ref.nbytes) == data


def test_many_objects_make_several_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PACK_BYTES", 1000)
    monkeypatch.setattr(sending, "SEGMENT_ROWS", 10)
    objects = MemoryObjects()
    sender = Sender(objects, PUSH)
    found = sender.segments(sender.send(lambda _: (item(os.urandom(300)) for _ in range(40))))
    assert sum(ref.rows for ref, _ in found) == 40
    assert all(ref.rows <= 10 for ref, _ in found)


def test_what_reads_back_otherwise_is_named() -> None:
    objects = MemoryObjects()
    (sent,) = Sender(objects, PUSH).send(lambda _: [item(os.urandom(5000)), item(b"z" * 3000)])
    verify(objects, sent)
    data = objects.get(sent.pack.key, limit=1 << 20)
    for bad in (data[:5000] + b"?" + data[5001:], data[:-1], data[: -p.BLOCK], data + bytes(p.BLOCK), None):
        damaged = MemoryObjects()
        if bad is not None:
            damaged.create(sent.pack.key, bad)
        with pytest.raises(RemoteUntrusted, match=sent.pack.key):
            verify(damaged, sent)


def test_a_journal_tells_the_packs_that_arrived_up_to_where_it_is_torn() -> None:
    storage = MemoryStorage()
    objects = MemoryObjects()
    folder = RemoteFolder(storage, "origin")
    assert PushJournal(folder).resume() is None
    journal = PushJournal(folder)
    place = 7, os.urandom(32)
    journal.begin(PUSH, place)
    packs = [Sender(objects, PUSH, note=journal.add).send(lambda _: [item(os.urandom(50))])[0] for _ in range(3)]
    packs = [Sent(one.pack, list(one.records)) for one in packs]
    assert PushJournal(folder).resume() == (PUSH, place, packs)
    size = storage.size("remotes/origin/push")
    assert size is not None
    for cut in range(1, size):
        torn = MemoryStorage(storage.snapshot())
        file = torn.open_write("remotes/origin/push")
        file.truncate(size - cut)
        found = PushJournal(RemoteFolder(torn, "origin")).resume()
        assert found is None or found == (PUSH, place, packs[: len(found.packs)])
    journal.end()
    assert PushJournal(folder).resume() is None


def test_a_pack_of_one_small_object_is_two_blocks_and_its_end() -> None:
    pack = OutgoingPack(memoryview(bytearray(b"what was there before" * 250)))
    one = item(b"x")
    pack.add(one.record, one.stored)
    assert pack.finish(PUSH).nbytes == len(pack.data) == 4 * p.BLOCK
    assert pack_contents(bytes(pack.data)).records == pack.records
    data = bytes(pack.data)
    assert data.count(0) > len(data) - 1000, "nothing is left of what was in the buffer before"
