"""The read side of a remote: what is newest, that it follows what was seen, and that nothing it says is believed."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from casckpt.errors import IntegrityError, NewerFormat, RemoteUntrusted, RolledBack
from casckpt.format.ids import Kind, ObjectId, PackId, object_id
from casckpt.format.remote import RemoteRef, RemoteRoot, SegmentRef, pack_key, root_key, segment_key
from casckpt.format.remote_about import ABOUT_KEY, RemoteAbout
from casckpt.format.remote_index import Row, Segment, SegmentPack
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.view import RemoteView
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from tests.support.remotes import Counting


def named(root: RemoteRoot, name: str) -> RemoteRoot:
    return replace(root, refs={**root.refs, name: RemoteRef(object_id(Kind.COMMIT, name.encode()), 1, "me")})


def append(view: RemoteView, name: str) -> RemoteRoot:
    view.refresh()
    return append_root(view, lambda root: named(root, name), new_push_id())


def segment_of(ids: list[ObjectId]) -> tuple[bytes, SegmentPack]:
    pack = SegmentPack(PackId(os.urandom(32)), b"abcd", 1 << 20)
    rows = [Row(one, 0, 4096 + 64 * number, 10, 10, Kind.CHUNK) for number, one in enumerate(ids)]
    return Segment.build([pack], rows).encode(), pack


def with_segment(root: RemoteRoot, data: bytes, key: str | None = None) -> RemoteRoot:
    found = Segment.decode(data)
    ref = SegmentRef(key or segment_key(data, b"nonc"), len(found.packs), len(found), len(data))
    return replace(root, segments=tuple(sorted([*root.segments, ref])))


def test_an_empty_remote_has_no_root_and_one_look_costs_one_request() -> None:
    objects = Counting(MemoryObjects())
    assert RemoteView(objects).refresh() is None
    assert objects.requests == ["list root/"]


def test_a_second_look_at_an_unchanged_remote_is_one_listing_also_of_another_process() -> None:
    objects, storage = Counting(MemoryObjects()), MemoryStorage()
    view = RemoteView(objects, RemoteFolder(storage, "origin"))
    made = append(view, "runs/a/last")
    objects.requests.clear()
    assert view.refresh() == made
    again = RemoteView(objects, RemoteFolder(storage, "origin"))
    assert again.refresh() == made
    assert again.root_hash == view.root_hash
    assert objects.requests == ["list root/"] * 2


def test_newer_roots_cost_one_request_each_and_a_first_look_reads_only_the_newest() -> None:
    objects = Counting(MemoryObjects())
    other, mine = RemoteView(objects), RemoteView(objects)
    append(other, "runs/a/last")
    mine.refresh()
    for name in ("runs/b/last", "runs/c/last"):
        append(other, name)
    objects.requests.clear()
    assert mine.refresh() == other.root
    assert objects.requests == ["list root/", f"get {root_key(2)}", f"get {root_key(3)}"]
    objects.requests.clear()
    assert RemoteView(objects).refresh() == other.root
    assert objects.requests == ["list root/", f"get {ABOUT_KEY}", f"get {root_key(3)}"]


def test_a_remote_that_was_set_back_is_refused_until_it_is_accepted() -> None:
    objects, storage = MemoryObjects(), MemoryStorage()
    view = RemoteView(objects, RemoteFolder(storage, "origin"))
    first = append(view, "runs/a/last")
    append(view, "runs/b/last")
    objects.delete([root_key(2)])
    for one in (view, RemoteView(objects, RemoteFolder(storage, "origin"))):
        with pytest.raises(RolledBack):
            one.refresh()
    assert view.refresh(accept_rollback=True) == first
    assert view.refresh() == first
    objects.delete([root_key(1)])
    with pytest.raises(RolledBack):
        view.refresh()
    assert view.refresh(accept_rollback=True) is None
    assert view.refresh() is None


def test_a_remote_with_another_history_is_refused() -> None:
    objects, forked = MemoryObjects(), MemoryObjects()
    storage = MemoryStorage()
    mine = RemoteView(objects, RemoteFolder(storage, "origin"))
    append(mine, "runs/a/last")
    other = RemoteView(forked)
    append(other, "runs/other/last")
    mine.objects = forked
    with pytest.raises(RolledBack, match="another"):
        mine.refresh()
    append(other, "runs/b/last")
    with pytest.raises(RolledBack, match="does not follow"):
        mine.refresh()
    assert mine.refresh(accept_rollback=True) == other.root


def test_who_was_away_for_longer_than_roots_are_kept_takes_the_newest() -> None:
    objects = MemoryObjects()
    mine, other = RemoteView(objects), RemoteView(objects)
    append(mine, "runs/a/last")
    for number in range(5):
        append(other, f"runs/{number}/last")
    objects.delete([root_key(number) for number in (1, 2, 3)])
    assert mine.refresh() == other.root


def test_the_alarm_is_durable_before_a_root_is_used(tmp_path) -> None:
    objects = MemoryObjects()
    append(RemoteView(objects), "runs/a/last")
    storage = LocalStorage(tmp_path)
    storage.make_dir("lock")
    view = RemoteView(objects, RemoteFolder(storage, "origin"))
    view.refresh()
    seq, identity = (tmp_path / "remotes/origin/seen").read_text().split()
    assert (int(seq), bytes.fromhex(identity)) == (1, view.root_hash)
    (tmp_path / "remotes/origin/root").unlink()
    assert RemoteView(objects, RemoteFolder(storage, "origin")).refresh() == view.root


def test_a_store_that_cannot_be_written_keeps_what_it_saw_in_memory() -> None:
    objects = MemoryObjects()
    append(RemoteView(objects), "runs/a/last")
    view = RemoteView(objects, RemoteFolder(MemoryStorage({"format": b""}, read_only=True), "origin"))
    assert view.refresh() is not None
    objects.delete([root_key(1)])
    with pytest.raises(RolledBack):
        view.refresh()


def test_roots_that_no_remote_holds_are_refused_by_their_key() -> None:
    good = MemoryObjects()
    append(RemoteView(good), "runs/a/last")
    data = good.get(root_key(1), limit=1 << 20)
    for bad in (b"", data[:-1], data + b"x", b"X" + data[1:], data[:40] + b"\xff" + data[41:]):
        objects = MemoryObjects()
        objects.create(ABOUT_KEY, RemoteAbout(bytes(16), 1).encode())
        objects.create(root_key(1), bad)
        with pytest.raises(RemoteUntrusted, match=root_key(1)):
            RemoteView(objects).refresh()
    objects = MemoryObjects()
    objects.create(ABOUT_KEY, RemoteAbout(bytes(16), 1).encode())
    objects.create(root_key(7), data)
    with pytest.raises(RemoteUntrusted, match="number 1"):
        RemoteView(objects).refresh()


def test_files_that_are_no_roots_are_passed_over() -> None:
    objects = MemoryObjects()
    made = append(RemoteView(objects), "runs/a/last")
    for key in ("root/.DS_Store", "root/99999999999999999999", "root/x", "root/00000000000000000000"):
        objects.create(key, b"")
    assert RemoteView(objects).refresh() == made


def test_a_remote_says_of_which_format_it_is() -> None:
    for about, error in (
        (b'{"what": "casckpt remote", "format": 2}', NewerFormat),
        (b"{", RemoteUntrusted),
        (b"[" * 60000, RemoteUntrusted),
        (b'{"what": "casckpt remote", "format": 1, "hash": "blake3", "id": "x", "time": 1}', RemoteUntrusted),
        (None, RemoteUntrusted),
    ):
        source, objects = MemoryObjects(), MemoryObjects()
        append(RemoteView(source), "runs/a/last")
        objects.create(root_key(1), source.get(root_key(1), limit=1 << 20))
        if about is not None:
            objects.create(ABOUT_KEY, about)
        with pytest.raises(error):
            RemoteView(objects).refresh()


def test_a_torn_copy_of_what_a_remote_says_of_itself_costs_a_request() -> None:
    objects, storage = Counting(MemoryObjects()), MemoryStorage()
    made = append(RemoteView(objects), "runs/a/last")
    for torn in (b"", bytes(136)):
        folder = RemoteFolder(storage, "origin")
        folder.write("about", torn)
        folder.remove("seen")
        objects.requests.clear()
        assert RemoteView(objects, folder).refresh() == made
        assert objects.requests.count(f"get {ABOUT_KEY}") == 1
        assert folder.read("about", 1 << 10) == objects.get(ABOUT_KEY, limit=1 << 10)


def test_what_the_first_push_says_of_a_remote_reads_back() -> None:
    about = RemoteAbout(os.urandom(16), 12)
    assert RemoteAbout.decode(about.encode()) == about
    with pytest.raises(IntegrityError):
        RemoteAbout.decode(b"null")


def test_objects_are_found_in_all_segments_and_a_segment_is_fetched_once() -> None:
    objects, storage = Counting(MemoryObjects()), MemoryStorage()
    ids = [object_id(Kind.CHUNK, bytes([number])) for number in range(20)]
    parts = [segment_of(ids[:12]), segment_of(ids[12:19])]
    view = RemoteView(objects, RemoteFolder(storage, "origin"))
    for data, _ in parts:
        objects.create(segment_key(data, b"nonc"), data)
        view.refresh()
        append_root(view, lambda root, data=data: with_segment(root, data), new_push_id())
    objects.requests.clear()
    assert [found and found.pack for found in map(view.find, ids)] == [parts[0][1]] * 12 + [parts[1][1]] * 7 + [None]
    assert sorted(objects.requests) == sorted(f"get {segment_key(data, b'nonc')}" for data, _ in parts)
    objects.requests.clear()
    again = RemoteView(objects, RemoteFolder(storage, "origin"))
    again.refresh()
    assert again.find(ids[3]) == view.find(ids[3])
    assert objects.requests == ["list root/"]


def test_what_is_condemned_counts_as_gone() -> None:
    objects = MemoryObjects()
    identity = object_id(Kind.CHUNK, b"x")
    data, pack = segment_of([identity])
    objects.create(segment_key(data, b"nonc"), data)
    view = RemoteView(objects)
    append_root(view, lambda root: with_segment(root, data), new_push_id())
    assert view.find(identity) is not None
    append_root(view, lambda root: replace(root, condemned=(pack_key(pack.id, pack.nonce),)), new_push_id())
    assert view.find(identity) is None


def test_a_segment_that_is_not_what_its_key_names_is_refused() -> None:
    data, _ = segment_of([object_id(Kind.CHUNK, b"x")])
    other, _ = segment_of([object_id(Kind.CHUNK, b"y")])
    key = segment_key(data, b"nonc")
    for bad in (other, data[:-1], data + b"x", None):
        objects = MemoryObjects()
        view = RemoteView(objects)
        append_root(view, lambda root: with_segment(root, data), new_push_id())
        if bad is not None:
            objects.create(key, bad)
        with pytest.raises(RemoteUntrusted, match=key):
            view.segments()


def test_a_damaged_copy_of_a_segment_is_fetched_anew() -> None:
    objects, storage = MemoryObjects(), MemoryStorage()
    data, _ = segment_of([object_id(Kind.CHUNK, b"x")])
    objects.create(segment_key(data, b"nonc"), data)
    folder = RemoteFolder(storage, "origin")
    view = RemoteView(objects, folder)
    append_root(view, lambda root: with_segment(root, data), new_push_id())
    folder.write(segment_key(data, b"nonc"), data[:-1] + b"?")
    assert view.find(object_id(Kind.CHUNK, b"x")) is not None


def test_segments_that_no_root_names_any_more_are_forgotten() -> None:
    objects, storage = MemoryObjects(), MemoryStorage()
    data, _ = segment_of([object_id(Kind.CHUNK, b"x")])
    objects.create(segment_key(data, b"nonc"), data)
    view = RemoteView(objects, RemoteFolder(storage, "origin"))
    append_root(view, lambda root: with_segment(root, data), new_push_id())
    view.segments()
    assert len(storage.list("remotes/origin/index")) == 1
    append_root(view, lambda root: replace(root, segments=()), new_push_id())
    assert view.segments() == []
    assert storage.list("remotes/origin/index") == []


def test_a_number_that_somebody_used_too_late_is_no_alarm() -> None:
    """A writer that slept creates a number that had been used and removed: beside the chain, not a part of it."""
    objects = MemoryObjects()
    mine, other = RemoteView(objects), RemoteView(objects)
    late = append(mine, "runs/a/last")
    stale = replace(late, seq=2, prev=mine.root_hash).encode()
    for number in range(6):
        append(other, f"runs/{number}/last")
    for ghost in (2, 3, 4):
        fresh = MemoryObjects()
        for listed in objects.list("root/"):
            if listed.key > root_key(ghost):
                fresh.create(listed.key, objects.get(listed.key, limit=1 << 20))
        fresh.create(root_key(2), stale)
        mine.objects = fresh
        view = RemoteView(fresh)
        view.adopt(late, late.encode())
        assert view.refresh() == other.root


def test_a_folder_that_is_listed_while_it_changes_is_looked_at_again_before_any_alarm() -> None:
    class Changing(Counting):
        is_torn = False

        def list(self, prefix: str, after: str = ""):
            found = [] if self.is_torn else list(super().list(prefix, after))
            self.is_torn = False
            return iter(found)

    objects = Changing(MemoryObjects())
    view = RemoteView(objects)
    made = append(view, "runs/a/last")
    objects.is_torn = True
    assert view.refresh() == made
