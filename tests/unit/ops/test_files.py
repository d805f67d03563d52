from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import (
    FileChanged,
    NotFoundError,
    StateTooDeep,
    TooLarge,
    UnsafeLink,
    UnsafeName,
    UnsafePath,
    UsageError,
)
from casckpt.format import limits
from casckpt.state.flat import DEPTH_MAX


@pytest.fixture
def store(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "store") as made:
        yield made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def leaves(store: casckpt.Store) -> dict[str, tuple[str, object]]:
    return {leaf.path: (leaf.kind, leaf.value) for leaf in store.leaves("main")}


def test_a_link_that_stays_inside_is_kept_as_it_is(store: casckpt.Store, out: Path) -> None:
    (out / "deep" / "er").mkdir(parents=True)
    targets = {
        "plain": "weights.bin",
        "dot": "./weights.bin",
        "down": "deep/er/x",
        "nowhere": "not/there",
        "own folder": ".",
        "deep/up": "../weights.bin",
        "deep/er/up twice": "../../weights.bin",
        "deep/er/up and down": ".././../deep//weights.bin",
        "bytes": os.fsdecode(b"\xff\xfe"),
    }
    for name, target in targets.items():
        (out / name).symlink_to(target)
    store.commit_path(out)
    found = leaves(store)
    for name, target in targets.items():
        assert found[f"out/{name}"] == ("link", os.fsencode(target))


LEADS_OUT = {
    "absolute": ("link", "/etc/passwd"),
    "the folder around": ("link", ".."),
    "a sibling of what is committed": ("link", "../store"),
    "twice up from one deep": ("deep/link", "../../x"),
    "up behind a name": ("link", "deep/../../x"),
    "up behind a name, and inside": ("link", "deep/../deep"),
    "a backslash": ("link", "a\\b"),
    "a store": ("link", "deep/.CasCkpt/format"),
}


@pytest.mark.parametrize("case", LEADS_OUT)
def test_a_link_that_may_lead_elsewhere_is_refused_with_the_way_out(store: casckpt.Store, out: Path, case: str) -> None:
    name, target = LEADS_OUT[case]
    (out / "deep").mkdir()
    (out / name).symlink_to(target)
    with pytest.raises(UnsafeLink, match="commit what it points to") as caught:
        store.commit_path(out)
    assert caught.value.facts["path"] == str(out / name)
    assert store.status().commits == 0


def test_a_link_alone_is_refused(store: casckpt.Store, out: Path) -> None:
    (out / "file").write_bytes(b"x")
    (out / "link").symlink_to("file")
    with pytest.raises(UnsafeLink):
        store.commit_path(out / "link")


def test_a_link_is_never_followed(store: casckpt.Store, out: Path) -> None:
    (out / "a").mkdir()
    (out / "a" / "self").symlink_to("../a")
    (out / "a" / "file").write_bytes(b"x")
    store.commit_path(out)
    assert leaves(store) == {"out/a/self": ("link", b"../a"), "out/a/file": ("file", False)}


def test_pipes_sockets_and_devices_are_refused_by_name(store: casckpt.Store, out: Path) -> None:
    os.mkfifo(out / "pipe")
    with pytest.raises(UnsafePath, match="out/pipe cannot be stored or restored; it is a pipe"):
        store.commit_path(out)
    os.unlink(out / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(out / "socket"))
        with pytest.raises(UnsafePath, match="it is a socket"):
            store.commit_path(out)
    with pytest.raises(UnsafePath, match="it is a device"):
        store.commit_path("/dev/null")


def test_names_that_no_checkout_would_write_are_all_listed(store: casckpt.Store, out: Path) -> None:
    (out / ".CASCKPT").mkdir()
    (out / "a\\b").write_bytes(b"")
    with pytest.raises(UnsafeName) as caught:
        store.commit_path(out)
    assert str(out / ".CASCKPT") in str(caught.value)
    assert str(out / "a\\b") in str(caught.value)
    for number in range(10):
        (out / f"{number}\\").write_bytes(b"")
    with pytest.raises(UnsafeName, match="and 7 more"):
        store.commit_path(out)
    assert store.status().commits == 0


def test_the_folder_of_a_store_in_a_project_is_refused(tmp_path: Path, out: Path) -> None:
    (out / "weights").write_bytes(b"x")
    with casckpt.init(out / ".casckpt") as store:
        with pytest.raises(UnsafeName, match="leave it out"):
            store.commit_path(out)
        store.commit_path(out / "weights")


def test_a_path_without_a_name_of_its_own_is_refused(
    store: casckpt.Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    for path in ("/", "..", "../out/.."):
        with pytest.raises(UsageError, match="does not say under which name"):
            store.commit_path(path)
    store.commit_path(".")
    assert leaves(store) == {"out": ("dict", None)}
    with pytest.raises(UsageError, match="two paths would be called 'out'"):
        store.commit_path(out, ".")
    with pytest.raises(NotFoundError):
        store.commit_path("absent")


def test_folders_may_be_as_deep_as_a_reader_accepts(store: casckpt.Store, out: Path) -> None:
    deepest = out.joinpath(*["d"] * (DEPTH_MAX - 2))
    deepest.mkdir(parents=True)
    (deepest / "file").write_bytes(b"x")
    store.commit_path(out)
    assert list(leaves(store)) == ["out/" + "d/" * (DEPTH_MAX - 2) + "file"]
    (deepest / "e").mkdir()
    with pytest.raises(StateTooDeep):
        store.commit_path(out)


def test_a_file_longer_than_a_blob_may_be_is_refused(
    store: casckpt.Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "f").write_bytes(bytes(1001))
    monkeypatch.setattr(limits, "MAX_BLOB_BYTES", 1000)
    with pytest.raises(TooLarge, match="1001 bytes"):
        store.commit_path(out)


def test_a_file_that_changes_meanwhile_commits_nothing(tmp_path: Path, out: Path) -> None:
    (out / "a").write_bytes(os.urandom(9 << 20))
    (out / "f").write_bytes(os.urandom(3 << 20))

    def change(done: int, total: int) -> None:
        with (out / "f").open("ab") as file:
            file.write(b"more")

    with casckpt.init(tmp_path / "store", threads=1) as store:
        with pytest.raises(FileChanged, match="out/f: changed while it was being committed"):
            store.commit_path(out, progress=change)
        assert store.status().commits == 0


def test_equal_folders_are_equal_trees(store: casckpt.Store, out: Path, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    for name in ("b", "a", "Z"):
        (out / name).write_bytes(name.encode() + data)
    first = store.commit_path(out).tree
    again = tmp_path / "again" / "out"
    again.mkdir(parents=True)
    for name in ("Z", "a", "b"):
        (again / name).write_bytes(name.encode() + data)
    assert store.commit_path(again).tree == first
