"""Objects of a remote: in few requests, bounded memory, and not one wrong byte."""

import struct
import threading
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import FormatError, NotOnRemote, RemoteUntrusted
from casckpt.format import limits
from casckpt.format.codec import Codec
from casckpt.format.elements import element_code
from casckpt.format.finite import FINITE, NON_FINITE
from casckpt.format.ids import Kind, ObjectId
from casckpt.remote import ranges
from casckpt.remote.reading import Fetched, RemoteReader
from tests.support import plane_encoder
from tests.support.build import Pack, identity, noise, zstd
from tests.support.remote_content import HOST, HandMade, Watched

INT32, FLOAT32 = element_code("int32"), element_code("float32")
MIB = 1 << 20


def pack_of(*plains: bytes, codec: Codec = Codec.RAW) -> Pack:
    pack = Pack()
    for plain in plains:
        pack.add(plain, codec=codec)
    pack.finish()
    return pack


def words(start: int) -> bytes:
    return struct.pack("<500i", *range(start, start + 500))


def delta_pack(count: int, first: int = 0) -> tuple[Pack, list[bytes]]:
    """A pack in which each record but the first is decoded from the one before."""
    pack, plains = Pack(deltas=True), [words(first)]
    pack.add(plains[0], element=INT32)
    for number in range(1, count):
        plains.append(words(first + 7 * number))
        stored = plane_encoder.encode_delta(4, plains[-1], INT32, [plains[-2]], 0)
        pack.add(plains[-1], codec=Codec.DELTA_PLANES, stored=stored, element=INT32, bases=[number - 1])
    return pack, plains


def plains_of(found: list[Fetched]) -> list[bytes]:
    return [one.plain() for one in found]


def ids_of(pack: Pack) -> list[ObjectId]:
    return [record.id for record in pack.records]


# ---- what is read


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.tuples(st.binary(max_size=6), st.integers(1, 9000)), min_size=1, max_size=12), max_size=4),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_what_is_wanted_comes_once_and_as_it_was(
    contents: list[list[tuple[bytes, int]]], concurrency: int, random: object
) -> None:
    remote, plains = HandMade(), dict[ObjectId, bytes]()
    for number, made in enumerate(contents):
        pack = Pack()
        for place, (seed, length) in enumerate(made):
            plain = noise(f"{number} {place} {seed!r}", length) if seed else bytes(length)
            pack.add(plain, codec=Codec.RAW if seed else Codec.ZSTD)
            plains[pack.records[-1].id] = plain
        remote.publish(pack)
    wanted = [one for number, one in enumerate(sorted(plains)) if number % 3] * 2
    found = list(RemoteReader(remote.view(), concurrency=concurrency).read(wanted))
    assert {one.record.id: one.plain() for one in found} == {one: plains[one] for one in wanted}
    assert len(found) == len(set(wanted))


def test_stored_bytes_come_as_they_are_and_with_their_check() -> None:
    remote, pack = HandMade(), Pack()
    pack.add(bytes(90_000), codec=Codec.ZSTD, element=FLOAT32)
    pack.add(noise("tree", 300), kind=Kind.TREE)
    remote.publish(pack)
    chunk, tree = RemoteReader(remote.view()).read(ids_of(pack))
    assert bytes(chunk.stored) == zstd(bytes(90_000))
    assert chunk.record == pack.records[0]._replace(offset=0, flags=FINITE)
    assert tree.record == pack.records[1]._replace(offset=0)


def test_what_a_remote_says_of_its_numbers_is_found_out_anew() -> None:
    remote, pack = HandMade(), Pack()
    pack.add(struct.pack("<2f", 1, float("nan")), element=FLOAT32, flags=FINITE)
    remote.publish(pack)
    (found,) = RemoteReader(remote.view()).read(ids_of(pack))
    assert found.record.flags == NON_FINITE


def test_deltas_come_alone_and_bring_their_bases() -> None:
    remote = HandMade()
    pack, plains = delta_pack(9)
    remote.publish(pack)
    view = remote.view()
    for number in (8, 3, 0):
        (found,) = RemoteReader(view).read([pack.records[number].id])
        assert found.plain() == plains[number]
        assert (found.record.base_1, found.record.cost) == (0, 1)
    assert plains_of(list(RemoteReader(view).read(ids_of(pack)))) == plains


def test_the_footers_of_packs_with_deltas_are_read_at_a_time_and_once_each() -> None:
    remote = HandMade()
    packs = [delta_pack(3, 1000 * number)[0] for number in range(4)]
    for pack in packs:
        remote.publish(pack)
    together, seen = threading.Barrier(len(packs)), set[str]()

    def before(number: int, verb: str, key: str) -> None:
        if key not in seen:
            seen.add(key)
            together.wait(timeout=20)  # broken if they come one after another

    view = remote.view()
    view.segments()
    view.objects = watched = Watched(view.objects, before)
    assert len(list(RemoteReader(view).read(pack.records[2].id for pack in packs))) == len(packs)
    assert len(seen) == len(packs)
    assert watched.count("get") == 3 * len(packs)  # the header and the end of each, and what is wanted


def test_a_footer_longer_than_the_first_look_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("casckpt.remote.reading.TAIL_BYTES", 128)
    remote = HandMade()
    pack, plains = delta_pack(5)
    remote.publish(pack)
    assert RemoteReader(remote.view()).plain(pack.records[4].id, Kind.CHUNK) == plains[4]


def test_one_object_is_read_as_the_kind_it_is() -> None:
    remote, pack = HandMade(), pack_of(b"content")
    remote.publish(pack)
    assert RemoteReader(remote.view()).plain(pack.records[0].id, Kind.CHUNK) == b"content"
    with pytest.raises(RemoteUntrusted, match="is not a tree"):
        RemoteReader(remote.view()).plain(pack.records[0].id, Kind.TREE)


# ---- what it takes


def requests_for(remote: HandMade, ids: list[ObjectId]) -> list[tuple[str, str, int]]:
    watched = Watched(remote.objects)
    reader = RemoteReader(remote.view(watched))
    watched.requests.clear()
    list(reader.read(ids))
    cost = RemoteReader(remote.view()).cost(ids)
    assert (cost.requests, cost.nbytes) == (len(watched.requests), watched.down)
    return watched.requests


def test_neighbours_are_one_request_and_what_lies_far_apart_is_not_read() -> None:
    remote = HandMade()
    pack = pack_of(*(noise(str(number), MIB) for number in range(12)))
    remote.publish(pack)
    ids = ids_of(pack)
    assert [nbytes for *_, nbytes in requests_for(remote, [ids[0], ids[1], ids[2]])] == [3 * MIB]
    assert sorted(nbytes for *_, nbytes in requests_for(remote, [ids[0], ids[4], ids[5]])) == [MIB, 2 * MIB]


def test_ranges_of_one_pack_wait_for_no_other_and_come_in_order() -> None:
    remote = HandMade()
    pack = pack_of(*(noise(str(number), MIB) for number in range(9)))
    remote.publish(pack)
    ids = ids_of(pack)[::3]
    watched = Watched(remote.objects)
    reader = RemoteReader(remote.view(watched), concurrency=3)
    everybody = threading.Barrier(3, timeout=60)

    def meet(*_: object) -> None:
        everybody.wait()

    watched.before = meet
    found = list(reader.read(ids))
    assert [one.record.id for one in found] == ids


def test_small_gaps_are_read_over_and_most_of_a_pack_means_all_of_it() -> None:
    remote = HandMade()
    pack = pack_of(*(noise(str(number), MIB // 4) for number in range(16)))
    remote.publish(pack)
    ids = ids_of(pack)
    assert [nbytes for *_, nbytes in requests_for(remote, [ids[0], ids[3]])] == [MIB]
    (whole,) = [one.nbytes for one in remote.view().segments()[0].packs]
    assert [nbytes for *_, nbytes in requests_for(remote, [*ids[:5], *ids[10:]])] == [whole]


def test_pieces_bound_what_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PIECE_BYTES", 3 * MIB)
    remote = HandMade()
    pack = pack_of(*(noise(str(number), MIB) for number in range(8)))
    remote.publish(pack)
    assert [nbytes for *_, nbytes in requests_for(remote, ids_of(pack))] == [3 * MIB, 3 * MIB, 2 * MIB]


def test_plain_bytes_of_deltas_count_as_what_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, _ = delta_pack(12)
    records = dict(enumerate(pack.records))
    single = list(ranges.pieces(HandMade().add_pack(pack), records, pack.records))
    assert len(single) == 1
    monkeypatch.setattr(ranges, "PIECE_BYTES", 12_000)
    several = list(ranges.pieces(single[0].pack, records, pack.records))
    assert len(several) > 1
    assert sorted(number for piece in several for number in piece.wanted) == list(records)
    assert all(sum(record.length for record in piece.needed.values()) <= 2000 * 16 for piece in several)


def test_no_more_pieces_are_on_their_way_than_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = HandMade()
    packs = [pack_of(noise(str(number), 5000)) for number in range(9)]
    remote.publish(*packs)
    watched = Watched(remote.objects)
    reader = RemoteReader(remote.view(watched), concurrency=2)
    watched.requests.clear()
    for number, _ in enumerate(reader.read([pack.records[0].id for pack in packs]), 1):
        assert len(watched.requests) <= number + 2
    assert len(watched.requests) == 9


# ---- what is refused


def refused(remote: HandMade, ids: list[ObjectId], changed: Callable[[str, bytes], bytes] | None = None) -> str:
    watched = Watched(remote.objects, changed=changed or (lambda _, data: data))
    reader = RemoteReader(remote.view(watched))
    with pytest.raises(RemoteUntrusted) as caught:
        list(reader.read(ids))
    key = next(key for _, key, _ in watched.requests[::-1] if key.startswith("packs/"))
    assert key in str(caught.value)
    return str(caught.value)


def test_a_wrong_object_under_an_id_is_refused() -> None:
    remote, pack = HandMade(), Pack()
    pack.add(b"another", id=identity("wanted"))
    remote.publish(pack)
    assert "do not match its id" in refused(remote, [identity("wanted")])


def test_a_flipped_bit_is_noticed_in_every_record() -> None:
    deltas, _ = delta_pack(3)
    for pack in (pack_of(noise("a", 700), bytes(700)), pack_of(bytes(5000), codec=Codec.ZSTD), deltas):
        for record in pack.records:
            remote, data = HandMade(), bytearray(pack.finish())
            data[record.offset + record.stored // 2] ^= 1
            remote.append(remote.add_segment({remote.add_pack(pack, bytes(data)): pack.records}))
            refused(remote, [record.id])


def test_a_pack_cut_short_is_refused() -> None:
    remote, pack = HandMade(), pack_of(noise("a", 9000))
    remote.append(remote.add_segment({remote.add_pack(pack, pack.finish()[:8192]): pack.records}))
    with pytest.raises(RemoteUntrusted, match="shorter than the remote's index says"):
        list(RemoteReader(remote.view()).read(ids_of(pack)))


def test_answers_shorter_than_asked_for_are_refused() -> None:
    remote, pack = HandMade(), pack_of(noise("a", 9000))
    remote.publish(pack)
    cut = refused(remote, ids_of(pack), lambda key, data: data[:-1] if key.startswith("packs/") else data)
    assert "shorter than the remote's index says" in cut


def test_swapped_packs_are_refused() -> None:
    remote = HandMade()
    one, other = delta_pack(3)[0], delta_pack(3)[0]
    other.add(b"more", element=INT32)
    for pack in (pack_of(noise("a", 500)), one):
        wrong = pack_of(noise("b", 500)) if pack is not one else other
        data = wrong.finish().ljust(len(pack.finish()), b"\0")[: len(pack.finish())]
        remote.append(remote.add_segment({remote.add_pack(pack, data): pack.records}))
        refused(remote, ids_of(pack)[-1:])


def test_a_bomb_is_refused_before_it_grows() -> None:
    bomb = zstd(bytes(64 * MIB))
    for length in (len(bomb), limits.MAX_OBJECT_BYTES[Kind.CHUNK]):
        remote, pack = HandMade(), Pack()
        pack.add(bytes(length), stored=bomb, codec=Codec.ZSTD)
        remote.publish(pack)
        tracemalloc.start()
        assert "declared length" in refused(remote, ids_of(pack))
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
        tracemalloc.stop()


def test_a_delta_that_its_footer_does_not_list_is_refused() -> None:
    remote = HandMade()
    pack, _ = delta_pack(3)
    wrong = pack.records[2]._replace(id=identity("other"))
    remote.append(remote.add_segment({remote.add_pack(pack): [wrong]}))
    assert "does not list it" in refused(remote, [identity("other")])


def test_bases_that_no_format_allows_are_refused() -> None:
    remote = HandMade()
    pack, _ = delta_pack(2)
    pack.add(words(1), codec=Codec.DELTA_PLANES, stored=b"x" * 40, element=INT32, bases=[1], cost=2)
    remote.publish(pack)
    refused(remote, ids_of(pack)[2:])


def test_what_a_newer_release_wrote_is_not_called_damaged() -> None:
    remote, pack = HandMade(), pack_of(b"new")
    records = [pack.records[0]._replace(kind=99)]
    remote.append(remote.add_segment({remote.add_pack(pack): records}))
    with pytest.raises(FormatError, match="unknown kind 99"):
        list(RemoteReader(remote.view()).read(ids_of(pack)))


# ---- packs that go


def moved(remote: HandMade, pack: Pack, *, removed: bool = False) -> None:
    """A collection puts what a pack holds into another one, or nowhere, and removes the pack."""
    other = Pack()
    for record in pack.records:
        plain = bytes(memoryview(pack.body)[record.offset : record.offset + record.stored])
        other.add(plain, kind=record.kind)
    other.add(b"and more")
    root = remote.root
    assert root is not None
    packs = [key.key for key in remote.objects.list("packs/")]
    segments = [] if removed else [remote.add_segment({remote.add_pack(other): other.records})]
    remote.append(*segments, epoch=root.epoch + 1, condemned=tuple(sorted(packs)))
    remote.objects.delete(packs)


def test_what_was_repacked_meanwhile_is_found_at_its_new_place() -> None:
    remote, pack = HandMade(), pack_of(*(noise(str(number), 3000) for number in range(5)))
    remote.publish(pack)
    view = remote.view()
    moved(remote, pack)
    found = list(RemoteReader(view).read(ids_of(pack)))
    assert sorted(one.record.id for one in found) == sorted(ids_of(pack))


def test_what_was_collected_meanwhile_is_said_to_be_by_whom() -> None:
    remote, pack = HandMade(), pack_of(b"content")
    remote.publish(pack)
    view = remote.view()
    moved(remote, pack, removed=True)
    with pytest.raises(NotOnRemote, match=f"removed by gc of root 2 by '{HOST}'"):
        list(RemoteReader(view).read(ids_of(pack)))


def test_a_pack_that_is_lost_without_a_newer_root_is_an_error_after_one_look() -> None:
    for pack in (pack_of(b"content"), delta_pack(3)[0]):
        remote = HandMade()
        remote.publish(pack)
        watched = Watched(remote.objects)
        view = remote.view(watched)
        remote.objects.delete([key.key for key in remote.objects.list("packs/")])
        watched.requests.clear()
        with pytest.raises(NotOnRemote, match="though the newest root lists it"):
            list(RemoteReader(view).read(ids_of(pack)[-1:]))
        assert watched.count("list") == 1


def test_what_no_segment_lists_costs_no_request() -> None:
    remote = HandMade()
    remote.publish(pack_of(b"content"))
    watched = Watched(remote.objects)
    reader = RemoteReader(remote.view(watched))
    before = watched.count("get", "packs/")
    with pytest.raises(NotOnRemote, match="no segment of root 1 lists it"):
        list(reader.read([identity("nothing")]))
    assert watched.count("get", "packs/") == before


def test_a_hostile_host_name_reaches_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.remote_content.HOST", "\x1b[31mevil")
    remote, pack = HandMade(), pack_of(b"content")
    remote.publish(pack)
    view = remote.view()
    moved(remote, pack, removed=True)
    with pytest.raises(NotOnRemote, match="evil") as caught:
        list(RemoteReader(view).read(ids_of(pack)))
    assert "\x1b" not in str(caught.value)
