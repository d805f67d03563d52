"""Packs that are listed one by one: whole, read back, or not there at all."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from casckpt.errors import BusyError, NotReadBack
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.delta_encode import DeltaEncoder
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, object_id
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.odb.rewriting import Rewriting, read_back
from casckpt.storage.memory import MemoryStorage
from tests.crash.promises import make

FLOAT = element_code("float32")
WORDS = np.random.default_rng(5).standard_normal(5000, np.float32)


@pytest.fixture
def repository() -> Repository:
    storage = MemoryStorage()
    make(storage)
    return Repository(storage, threads=1)


def record_of(plain: bytes, stored: bytes, codec: int = Codec.RAW, **bases: int) -> p.Record:
    identity = object_id(Kind.CHUNK, plain)
    check = p.check_of(codec, identity, Kind.CHUNK, stored)
    return p.Record(identity, 0, len(plain), len(stored), Kind.CHUNK, codec, FLOAT, 0, check, **bases)


def add_pair(output: Rewriting) -> tuple[bytes, bytes]:
    """A chunk, and another one that is a delta of it."""
    first, second = WORDS.tobytes(), (WORDS + np.float32(1e-3)).tobytes()
    delta = DeltaEncoder().encode_from(second, FLOAT, (first,))
    assert delta is not None
    output.add(record_of(first, first), first)
    output.add(record_of(second, bytes(delta.stored), delta.codec, base_1=1, cost=2), delta.stored)
    return first, second


def test_what_was_published_is_read_from_the_store(repository: Repository) -> None:
    with Rewriting(repository, "repack", {"generation": 3}, deltas=True) as output:
        plains = add_pair(output)
        output.publish()
    (pack,) = output.packs
    assert repository.database.hints(pack) == {"generation": 3}
    for plain in plains:
        assert repository.database.read(object_id(Kind.CHUNK, plain), Kind.CHUNK) == plain


def test_what_was_not_published_is_removed(repository: Repository) -> None:
    with suppress(KeyboardInterrupt), Rewriting(repository, "repack", {}, deltas=True) as output:
        add_pair(output)
        raise KeyboardInterrupt
    assert repository.storage.list("packs") == repository.storage.list("tmp") == []
    assert list(repository.database.pack_set()) == []


def test_a_wrong_delta_is_found_and_its_pack_is_removed(repository: Repository) -> None:
    first, second = WORDS.tobytes(), (WORDS + np.float32(1)).tobytes()
    other = DeltaEncoder().encode_from((WORDS + np.float32(2)).tobytes(), FLOAT, (first,))
    assert other is not None
    with Rewriting(repository, "repack", {}, deltas=True) as output:
        output.add(record_of(first, first), first)
        output.add(record_of(second, bytes(other.stored), other.codec, base_1=1, cost=2), other.stored)
        with pytest.raises(NotReadBack, match="decodes to other bytes"):
            output.publish()
    assert repository.storage.list("packs") == []
    assert output.packs == []


@pytest.mark.parametrize("place", ["payload", "footer", "header"])
def test_bytes_that_differ_on_disk_are_found(repository: Repository, place: str) -> None:
    with Rewriting(repository, "repack", {}, deltas=True) as output:
        add_pair(output)
        output.publish()
    (pack,) = output.packs
    records = repository.database.records(pack)
    read_back(repository.database, pack, records)
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    content = bytearray(storage.snapshot()[pack_name(pack.id)] or b"")
    content[
        {
            "payload": records[1].offset + 9,
            "footer": p.decode_trailer(content[-p.TRAILER_BYTES :], len(content))[1] + 40,
            "header": 30,
        }[place]
    ] ^= 4
    damaged = Database(
        MemoryStorage({**storage.snapshot(), pack_name(pack.id): bytes(content)}), repository.format.uuid
    )
    with pytest.raises(NotReadBack):
        read_back(damaged, pack, records)


def test_the_commit_lock_is_held_from_the_first_look_to_the_frame_and_no_longer(repository: Repository) -> None:
    with Rewriting(repository, "repack", {}, deltas=True) as output:
        assert output.begin()
        assert not output.begin()
        with pytest.raises(BusyError), repository.storage.lock("commit", exclusive=True, wait_s=0):
            raise AssertionError("a collector got in between")
        add_pair(output)
        output.publish()
        with repository.storage.lock("commit", exclusive=True, wait_s=0):
            assert len(output.packs) == 1


def test_nothing_to_write_is_no_pack(repository: Repository) -> None:
    with Rewriting(repository, "repack", {}) as output:
        output.publish()
        output.begin()
        output.end_leaf()
        output.publish()
    assert output.packs == []
    assert repository.storage.list("packs") == []


def test_a_pack_that_is_in_the_set_already_is_not_removed_when_it_is_written_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rewriting(repository, "repack", {}, deltas=True) as output:
        add_pair(output)
        output.publish()
    monkeypatch.setattr("casckpt.odb.rewriting.decode", lambda *_: b"wrong")
    with Rewriting(repository, "repack", {}, deltas=True) as again:
        add_pair(again)
        with pytest.raises(NotReadBack):
            again.publish()
    assert repository.storage.list("packs") == [f"{pack.id.hex()}.pack" for pack in output.packs]
