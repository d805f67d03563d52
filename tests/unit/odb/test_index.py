from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from casckpt.odb import index as module
from casckpt.odb import tables as t
from casckpt.odb.index import Index, is_clean, record_clean


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "index")


def filled(folder: str, count: int = 10) -> Index:
    def fill(tables: t.WritableTables) -> None:
        for number in range(count):
            tables.put(t.REFS, b"%05d" % number, b"v%d" % number)

    made = Index.build(folder, fill)
    assert made is not None
    return made


def test_an_index_is_read_back_by_another_opener(folder: str) -> None:
    filled(folder).close()
    index = Index.open(folder)
    assert index is not None
    assert index.get(t.REFS, b"00003") == b"v3"
    assert index.get(t.REFS, b"absent") is None
    assert index.get(t.RUNS, b"00003") is None
    assert index.count(t.REFS) == 10
    assert dict(index.scan(t.REFS, b"0000")) == {b"%05d" % n: b"v%d" % n for n in range(10)}
    assert list(index.scan(t.REFS, b"9")) == []
    index.close()


def test_a_long_scan_is_whole_and_holds_no_transaction(folder: str) -> None:
    index = filled(folder, 2500)
    seen = []
    for number, (key, _) in enumerate(index.scan(t.REFS)):
        seen.append(key)
        if number == 1200:
            index.update(lambda tables: tables.put(t.RUNS, b"x", b"y"))
    assert seen == [b"%05d" % number for number in range(2500)]
    index.close()


def test_a_change_is_whole_or_absent(folder: str) -> None:
    index = filled(folder)

    def change(tables: t.WritableTables) -> None:
        tables.put(t.REFS, b"new", b"1")
        tables.delete(t.REFS, b"00001")
        tables.delete(t.REFS, b"absent")
        assert tables.get(t.REFS, b"new") == b"1"
        assert tables.count(t.REFS) == 10
        assert dict(tables.scan(t.REFS, b"n")) == {b"new": b"1"}

    index.update(change)
    assert index.get(t.REFS, b"new") == b"1"

    def fail(tables: t.WritableTables) -> None:
        tables.put(t.REFS, b"worse", b"2")
        raise KeyError

    with pytest.raises(KeyError):
        index.update(fail)
    assert index.get(t.REFS, b"worse") is None
    index.close()


def test_two_handles_of_one_process_are_one_environment(folder: str) -> None:
    first = filled(folder)
    second = Index.open(folder)
    assert second is not None
    first.update(lambda tables: tables.put(t.REFS, b"new", b"1"))
    assert second.get(t.REFS, b"new") == b"1"
    first.close()
    assert second.get(t.REFS, b"new") == b"1"
    second.close()


def test_an_index_that_was_replaced_is_not_current(folder: str) -> None:
    old = filled(folder)
    assert old.is_current()
    new = filled(folder, 3)
    assert not old.is_current()
    assert new.is_current()
    assert old.count(t.REFS) == 10
    new.discard()
    assert not new.is_current()
    assert Index.open(folder) is None
    old.close()
    new.close()


def test_files_are_private_and_nothing_is_left_in_tmp(folder: str) -> None:
    filled(folder).close()
    for name in os.listdir(folder):
        assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600
    assert os.listdir(os.path.join(os.path.dirname(folder), "tmp")) == []


def test_what_dead_builders_left_is_removed(folder: str) -> None:
    tmp = Path(folder).parent / "tmp"
    (tmp / "index-1-dead").mkdir(parents=True)
    (tmp / "index-1-dead" / "data.mdb").write_bytes(b"x")
    (tmp / "pack-1").write_bytes(b"x")
    Index.remove_unfinished(folder)
    assert os.listdir(tmp) == ["pack-1"]


@pytest.mark.parametrize("spoiled", ["data.mdb", "clean"])
def test_a_file_that_differs_from_what_its_writer_noted_is_not_opened(folder: str, spoiled: str) -> None:
    filled(folder).close()
    assert is_clean(folder)
    file = Path(folder, spoiled)
    data = bytearray(file.read_bytes())
    for position in (0, len(data) // 2, len(data) - 1):
        data[position] ^= 1
        file.write_bytes(data)
        assert not is_clean(folder)
        assert Index.open(folder) is None
        data[position] ^= 1
    file.write_bytes(data[:-1])
    assert Index.open(folder) is None
    file.unlink()
    assert Index.open(folder) is None


def test_nothing_is_no_index(folder: str) -> None:
    assert Index.open(folder) is None
    os.makedirs(folder)
    assert Index.open(folder) is None
    assert not is_clean(folder)


def test_a_writer_that_dies_inside_a_change_leaves_an_index_that_is_not_trusted(folder: str) -> None:
    index = filled(folder)

    def change(tables: t.WritableTables) -> None:
        assert not is_clean(folder)
        raise KeyError

    with pytest.raises(KeyError):
        index.update(change)
    assert not is_clean(folder)
    record_clean(folder)
    assert is_clean(folder)
    index.close()


def test_a_large_index_without_a_note_is_tried_by_a_child(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder).close()
    monkeypatch.setattr(module, "CHILD_CHECK_BYTES", 1)
    os.unlink(os.path.join(folder, "clean"))
    assert is_clean(folder)
    data = Path(folder, "data.mdb")
    whole = data.read_bytes()
    # A page of zeros where LMDB expects a tree ends the process that looks: here only the child.
    data.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    assert not is_clean(folder)
    data.write_bytes(whole[:12288])
    assert not is_clean(folder)


def test_a_row_that_does_not_match_its_check_fails_the_walk(folder: str) -> None:
    good = t.Row(1, 2, 3, 4, 5, 6, 7, 8).encode(b"k" * 32)
    for value, code in ((good, 0), (good[:-1] + b"\0", 1)):
        made = Index.build(folder, lambda tables, value=value: tables.put(t.ROWS, b"k" * 32, value))
        assert made is not None
        made.close()
        words = [sys.executable, "-c", "import sys; from casckpt.odb.index import walk; walk(sys.argv[1])", folder]
        assert subprocess.run(words, capture_output=True, check=False).returncode == code


def test_a_folder_where_nothing_can_be_written_gives_no_index(folder: str) -> None:
    Path(folder).parent.joinpath("tmp").write_bytes(b"a file, not a folder")
    assert Index.build(folder, lambda tables: None) is None


def test_an_index_that_lmdb_does_not_know_is_replaced(folder: str) -> None:
    os.makedirs(folder)
    Path(folder, "data.mdb").write_bytes(b"x" * 10_000)
    record_clean(folder)
    assert Index.open(folder) is None
    filled(folder).close()
    assert Index.open(folder) is not None
    shutil.rmtree(folder)


def test_an_index_of_a_release_with_fewer_tables_is_none_and_stays_as_it_is(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(t, "TABLES", tuple(table for table in t.TABLES if table != t.MARKS))
        filled(folder).close()
    data = Path(folder, "data.mdb").read_bytes()
    assert Index.open(folder) is None
    assert Path(folder, "data.mdb").read_bytes() == data
    filled(folder).close()
    index = Index.open(folder)
    assert index is not None
    assert index.count(t.MARKS) == 0
    index.close()


def test_a_reader_that_was_first_does_not_keep_a_writer_of_its_process_from_writing(folder: str) -> None:
    filled(folder).close()
    reader, writer = Index.open(folder), Index.open(folder)
    assert reader is not None and writer is not None
    try:
        writer.update(lambda tables: tables.put(t.REFS, b"new", b"1"))
        assert reader.get(t.REFS, b"new") == b"1"
    finally:
        reader.close()
        writer.close()


# ---- after a fork

# Python 3.12 and later warn of every fork of a process with threads.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(body: Callable[[], None]) -> None:
    """Run `body` in a forked child; a failure there is a failure here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    assert said == ""


@forks
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_child_of_fork_reads_a_copy_that_is_its_own(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    index = filled(folder, 2500)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "private"))
    (tmp_path / "private").mkdir()
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    before = {path: path.read_bytes() for path in Path(folder).iterdir() if path.name != "lock.mdb"}
    ready, go = os.pipe(), os.pipe()
    if os.fork() == 0:
        answer = b"failed"
        try:
            copy = Index.open(folder)
            assert copy is not None and copy.is_copy and copy.is_current()
            assert os.listdir(tmp_path / "private") == []
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            assert copy.get(t.REFS, b"00003") == b"v3"
            assert copy.get(t.REFS, b"new") is None
            assert copy.count(t.REFS) == 2500
            assert [key for key, _ in copy.scan(t.REFS)] == [b"%05d" % number for number in range(2500)]
            with pytest.raises(AssertionError):
                copy.update(lambda tables: None)
            copy.close()
            answer = b"right"
        finally:
            os.write(ready[1], answer)
            os._exit(0)
    assert os.read(ready[0], 1) == b"x"
    assert {path: path.read_bytes() for path in before} == before
    index.update(lambda tables: tables.put(t.REFS, b"new", b"1"))
    os.write(go[1], b"x")
    assert os.read(ready[0], 9) == b"right"
    os.wait()
    for descriptor in (*ready, *go):
        os.close(descriptor)
    assert index.get(t.REFS, b"new") == b"1"
    index.update(lambda tables: tables.put(t.REFS, b"newer", b"2"))
    assert is_clean(folder)
    index.close()


@forks
def test_a_child_of_fork_copies_nothing_that_differs_from_what_its_writer_noted(folder: str) -> None:
    index = filled(folder)

    def body() -> None:
        note = Path(folder, "clean")
        text = note.read_bytes()
        note.write_bytes(text[:-1] + (b"0" if text[-1:] != b"0" else b"1"))
        assert Index.open(folder) is None
        assert Index.open(folder, is_locked=True) is None
        note.unlink()
        assert Index.open(folder) is None
        note.write_bytes(text)
        assert Index.open(folder) is not None

    in_child(body)
    index.close()


@forks
def test_a_child_of_fork_copies_what_is_too_large_to_hash_only_while_no_writer_can_be_at_it(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HASH_BYTES", 1)
    index = filled(folder)

    def body() -> None:
        assert Index.open(folder) is None
        copy = Index.open(folder, is_locked=True)
        assert copy is not None and copy.is_copy
        assert copy.count(t.REFS) == 10

    in_child(body)
    index.close()


@forks
def test_a_child_of_fork_opens_an_index_that_its_parent_does_not_have_open(folder: str) -> None:
    index = filled(folder)

    def body() -> None:
        copy = Index.open(folder)
        assert copy is not None and copy.is_copy
        new = filled(folder, 3)
        assert not new.is_copy
        assert not copy.is_current()
        again = Index.open(folder)
        assert again is not None and not again.is_copy
        again.update(lambda tables: tables.put(t.REFS, b"new", b"1"))
        assert new.get(t.REFS, b"new") == b"1"

        def grandchild() -> None:
            inner = Index.open(folder)
            assert inner is not None and inner.is_copy
            assert inner.get(t.REFS, b"new") == b"1"

        in_child(grandchild)

    in_child(body)
    assert not index.is_current()
    assert index.count(t.REFS) == 10
    index.close()
