"""A remote behind plain HTTP: read by a list that its keeper published, and never written."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import ReadOnlyStore, RemoteDenied, RemoteNotFound, RemoteUntrusted
from casckpt.storage.addresses import Access, parse
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from casckpt.storage.opening import open_objects
from casckpt.storage.published import KEY, Published, publish

ROOTS = [f"root/{number:020d}" for number in range(1, 5)]


class Files(http.server.SimpleHTTPRequestHandler):
    """The files of a folder, and parts of them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            start, stop = int(first), int(last) + 1 if last else len(data)
            if start >= len(data):
                self.send_error(416)
                return
            total, data, status = len(data), data[start:stop], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{total}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a folder that a web server serves."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Files(*args, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/share"
        server.shutdown()
        thread.join()


@pytest.fixture
def kept(tmp_path: Path) -> FolderObjects:
    """The same folder, for its keeper; with four roots and a pack."""
    (tmp_path / "share").mkdir()
    kept = FolderObjects(tmp_path / "share")
    for key in (*ROOTS, "packs/aa/1"):
        kept.create(key, key.encode())
    return kept


@pytest.fixture
def objects(served: str) -> Objects:
    return open_objects(parse(served), Access()).objects


def test_what_was_published_is_listed_and_read(kept: FolderObjects, objects: Objects) -> None:
    assert publish(kept) == 4
    assert list(objects.list("root/")) == list(kept.list("root/"))
    assert [one.key for one in objects.list("root/", ROOTS[1])] == ROOTS[2:]
    assert objects.get("packs/aa/1", limit=99) == b"packs/aa/1"
    assert objects.get("packs/aa/1", 2, 5, limit=99) == b"cks"
    assert objects.get_ranges("packs/aa/1", [(0, 1), (3, 5)]) == [b"p", b"ks"]
    assert objects.get("packs/aa/1", 90, 95, limit=99) == b""
    assert objects.size("packs/aa/1") == 10
    assert objects.size("packs/aa/2") is None
    with pytest.raises(FileNotFoundError):
        objects.get("packs/aa/2", limit=99)


def test_what_came_later_is_seen_after_the_next_publication(kept: FolderObjects, objects: Objects) -> None:
    publish(kept)
    kept.create("root/00000000000000000005", b"x")
    assert [one.key for one in objects.list("root/")] == ROOTS
    assert publish(kept) == 5
    assert [one.key for one in objects.list("root/", ROOTS[3])] == ["root/00000000000000000005"]


def test_a_store_is_cloned_over_http_from_what_was_published(served: str, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    with casckpt.memory() as store:
        store.add_remote("origin", str(tmp_path / "share"))
        for step in range(2):
            store.commit({"x": bytes([step]) * (1 << 17)}, run="gpt", step=step)
            store.push("origin", "gpt")
        assert store.publish_remote(dry_run=True) == 2
        assert not (tmp_path / "share" / KEY).exists()
        assert store.publish_remote() == 2
        with casckpt.clone(served, tmp_path / "copy", allow_http=True) as copy:
            assert copy.checkout("gpt") == store.checkout("gpt")
            store.commit({"x": 2}, run="gpt", step=2)
            store.push("origin", "gpt")
            copy.pull("origin", "gpt")
            assert copy.show("gpt").step == 1
            assert store.publish_remote("origin") == 3
            copy.pull("origin", "gpt")
            assert copy.show("gpt").step == 2
            with pytest.raises(RemoteDenied):
                copy.publish_remote()
            with pytest.raises(ReadOnlyStore):
                copy.lock_remote("origin", "gpt")


def test_what_was_never_published_cannot_be_listed(kept: FolderObjects, objects: Objects) -> None:
    with pytest.raises(RemoteNotFound, match="has not published"):
        list(objects.list("root/"))


def test_nothing_is_written_and_nothing_else_listed(kept: FolderObjects, objects: Objects) -> None:
    assert objects.read_only
    for call in (
        lambda: objects.create("root/1", b"x"),
        lambda: objects.delete(ROOTS),
        lambda: list(objects.list("packs/")),
    ):
        with pytest.raises(RemoteDenied):
            call()
    assert [one.key for one in kept.list("root/")] == ROOTS


HOSTILE = [
    b"",
    b"[" * 100_000,
    b"{}",
    b'{"version": 2, "roots": []}',
    b'{"version": 1, "roots": 7}',
    b'{"version": 1, "roots": [[1, 2, 3]]}',
    b'{"version": 1, "roots": [["packs/a", 2, 3]]}',
    b'{"version": 1, "roots": [["root/a", -2, 3]]}',
    b'{"version": 1, "roots": [["root/a", 2.5, 3]]}',
    b'{"version": 1, "roots": [["root/a", 1, 1], ["root/a", 1, 1]]}',
    b'{"version": 1, "roots": [["root/b", 1, 1], ["root/a", 1, 1]]}',
    b'{"version": 1, "roots": [["root/a", 1, 1, 1]]}',
    b'{"version": 1, "roots": [[["root/a"], 1, 1]]}',
    b"\xff\xfe",
    b" " * (1 << 20) + b"{}",
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_list_that_is_none_is_refused(data: bytes) -> None:
    memory = MemoryObjects()
    memory.create(KEY, data)
    with pytest.raises(RemoteUntrusted):
        list(Published(memory).list("root/"))


def test_the_list_has_the_documented_form() -> None:
    memory = MemoryObjects()
    memory.create(ROOTS[0], b"abc")
    publish(memory)
    (one,) = memory.list("root/")
    assert json.loads(memory.get(KEY, limit=1 << 20)) == {
        "casckpt": "published",
        "version": 1,
        "roots": [[ROOTS[0], 3, one.time_ns]],
    }
