"""What every `Storage` promises; a subclass says in its `storage` fixture which one is meant."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack

import pytest

from casckpt.errors import BusyError, ReadOnlyStore, StorageError
from casckpt.storage.base import ReadFile, Storage, read_exact, write_all
from casckpt.storage.mapping import Mapping
from casckpt.storage.pages import pages

BAD_NAMES = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b"]


def put(storage: Storage, name: str, content: bytes, *, direct: bool = False) -> None:
    """A synced file."""
    file = storage.create(name, direct=direct)
    write_all(file, content, 0)
    file.sync()
    file.close()


def content_of(storage: Storage, name: str) -> bytes:
    file = storage.open_read(name)
    content = read_exact(file, 0, file.size())
    file.close()
    return content


LARGE = random.Random(7).randbytes((3 << 20) + 100)
"""Large enough for every way of reading; its end is on no boundary."""


def read_large(reader: ReadFile, offset: int, length: int, shift: int = 0) -> bytes:
    """What one read into memory `shift` bytes behind a page boundary gives; what it left alone was left alone."""
    target = memoryview(pages(length + shift + 4096))[shift:]
    target[:] = b"\xee" * len(target)
    count = reader.read_into(target[:length], offset)
    assert target[count:] == b"\xee" * (len(target) - count)
    return bytes(target[:count])


class StorageContract:
    """The promises; `direct` is handed to every `create`."""

    direct = False

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    @pytest.fixture
    def frozen(self, storage: Storage) -> Storage:
        """The same folder opened read-only, holding the file `a` and nothing else."""
        raise NotImplementedError

    def put(self, storage: Storage, name: str, content: bytes) -> None:
        put(storage, name, content, direct=self.direct)

    def test_what_was_written_is_read(self, storage: Storage) -> None:
        self.put(storage, "a", b"one" * 5000)
        assert content_of(storage, "a") == b"one" * 5000
        assert storage.size("a") == 15000

    def test_a_new_file_is_empty(self, storage: Storage) -> None:
        file = storage.create("a", direct=self.direct)
        assert (file.size(), storage.size("a"), content_of(storage, "a")) == (0, 0, b"")
        file.close()

    def test_a_write_beyond_the_end_leaves_zeros(self, storage: Storage) -> None:
        file = storage.create("a", direct=self.direct)
        write_all(file, b"x", 10)
        assert content_of(storage, "a") == bytes(10) + b"x"
        assert file.write_at(b"", 100) == 0
        assert file.size() == 11
        file.close()

    def test_any_contiguous_buffer_is_written(self, storage: Storage) -> None:
        file = storage.create("a", direct=self.direct)
        write_all(file, memoryview(bytes(range(16))).cast("I"), 0)
        write_all(file, bytearray(b"end"), 16)
        assert content_of(storage, "a") == bytes(range(16)) + b"end"
        file.close()

    def test_an_existing_file_is_changed_in_place(self, storage: Storage) -> None:
        self.put(storage, "a", b"abcdef")
        file = storage.open_write("a")
        write_all(file, b"XY", 2)
        file.sync()
        file.close()
        assert content_of(storage, "a") == b"abXYef"

    def test_truncate_cuts_and_extends_with_zeros(self, storage: Storage) -> None:
        self.put(storage, "a", b"abcdef")
        file = storage.open_write("a")
        file.truncate(2)
        assert content_of(storage, "a") == b"ab"
        file.truncate(5)
        assert (content_of(storage, "a"), file.size()) == (b"ab\0\0\0", 5)
        file.close()

    def test_a_read_is_short_only_at_the_end(self, storage: Storage) -> None:
        self.put(storage, "a", b"abcdef")
        file = storage.open_read("a")
        target = bytearray(b"....")
        assert file.read_into(memoryview(target), 4) == 2
        assert target == b"ef.."
        assert file.read_into(memoryview(target), 6) == 0
        assert file.read_into(memoryview(target), 100) == 0
        assert file.read_into(memoryview(target), 1) == 4
        file.close()

    def test_closing_twice_is_harmless_and_using_after_is_an_error(self, storage: Storage) -> None:
        self.put(storage, "a", b"abc")
        for file in (storage.open_read("a"), storage.open_write("a")):
            file.close()
            file.close()
            with pytest.raises(StorageError):
                file.size()

    def test_a_name_is_created_once(self, storage: Storage) -> None:
        self.put(storage, "a", b"abc")
        with pytest.raises(FileExistsError):
            storage.create("a", direct=self.direct)
        assert content_of(storage, "a") == b"abc"

    def test_missing_names_are_file_not_found(self, storage: Storage) -> None:
        calls = [
            lambda: storage.open_read("a"),
            lambda: storage.open_write("a"),
            lambda: storage.unlink("a"),
            lambda: storage.rename("a", "b"),
            lambda: storage.create("no/a"),
            lambda: storage.make_dir("no/a"),
            lambda: storage.sync_dir("no"),
        ]
        for call in calls:
            with pytest.raises(FileNotFoundError):
                call()
        assert storage.size("a") is None
        assert storage.list("no") == []

    def test_names_outside_the_root_are_refused(self, storage: Storage) -> None:
        for name in BAD_NAMES:
            for call in (storage.create, storage.open_read, storage.open_write, storage.unlink, storage.make_dir):
                with pytest.raises(ValueError, match="not a storage name"):
                    call(name)
            with pytest.raises(ValueError, match="not a storage name"):
                storage.rename("a", name)

    def test_folders_are_not_files(self, storage: Storage) -> None:
        storage.make_dir("d")
        self.put(storage, "a", b"abc")
        calls = [
            lambda: storage.open_read("d"),
            lambda: storage.open_write("d"),
            lambda: storage.unlink("d"),
            lambda: storage.rename("a", "d"),
            lambda: storage.make_dir("a"),
            lambda: storage.list("a"),
            lambda: storage.create("a/b"),
        ]
        for call in calls:
            with pytest.raises(StorageError):
                call()
        assert storage.size("d") is None
        assert storage.list("") == ["a", "d"]

    def test_making_what_exists_changes_nothing(self, storage: Storage) -> None:
        storage.make_dir("d")
        self.put(storage, "d/a", b"abc")
        storage.make_dir("d")
        storage.make_root()
        assert content_of(storage, "d/a") == b"abc"

    def test_names_are_listed_sorted_and_of_one_folder_only(self, storage: Storage) -> None:
        for folder in ("d", "d/e", "dd"):
            storage.make_dir(folder)
        for name in ("d/b", "d/a", "d/e/x", "c"):
            self.put(storage, name, b"")
        storage.sync_dir("d")
        storage.sync_dir("")
        assert storage.list("d") == ["a", "b", "e"]
        assert storage.list("") == ["c", "d", "dd"]
        assert storage.list("dd") == []

    def test_rename_replaces_and_open_files_keep_their_content(self, storage: Storage) -> None:
        storage.make_dir("d")
        self.put(storage, "new", b"new")
        self.put(storage, "d/a", b"old")
        reader = storage.open_read("d/a")
        storage.rename("new", "d/a")
        assert content_of(storage, "d/a") == b"new"
        assert read_exact(reader, 0, 10) == b"old"
        assert storage.list("") == ["d"]
        reader.close()

    def test_a_reader_outlives_the_name(self, storage: Storage) -> None:
        self.put(storage, "a", b"abc")
        reader = storage.open_read("a")
        storage.unlink("a")
        assert storage.size("a") is None
        assert (read_exact(reader, 0, 10), reader.size()) == (b"abc", 3)
        reader.close()

    def test_threads_read_one_file_at_once(self, storage: Storage) -> None:
        content = bytes(range(256)) * 64
        self.put(storage, "a", content)
        reader = storage.open_read("a")
        wrong: list[int] = []

        def read(start: int) -> None:
            wrong.extend(n for n in range(start, 16000, 97) if read_exact(reader, n, 300) != content[n : n + 300])

        threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        reader.close()

    @pytest.mark.parametrize("shift", [0, 64])
    @pytest.mark.parametrize("length", [256 << 10, 1 << 20, (1 << 20) + 4096, (1 << 20) - 1, (2 << 20) + 100])
    def test_large_reads_are_exact_wherever_they_begin(self, storage: Storage, length: int, shift: int) -> None:
        self.put(storage, "a", LARGE)
        reader = storage.open_read("a")
        for offset in (0, 4096, 4097, 1 << 20, (1 << 20) - 64):
            assert read_large(reader, offset, length, shift) == LARGE[offset : offset + length]
        reader.close()

    @pytest.mark.parametrize("shift", [0, 64])
    def test_a_large_read_is_short_only_at_the_end(self, storage: Storage, shift: int) -> None:
        self.put(storage, "a", LARGE)
        reader = storage.open_read("a")
        for offset in (0, 2 << 20, 3 << 20, (3 << 20) + 50, len(LARGE), 4 << 20, 1 << 40):
            assert read_large(reader, offset, 4 << 20, shift) == LARGE[offset:]
        assert read_large(reader, 0, len(LARGE), shift) == LARGE
        reader.close()

    def test_a_large_read_sees_what_was_appended(self, storage: Storage) -> None:
        file = storage.create("a", direct=self.direct)
        reader = storage.open_read("a")
        assert read_large(reader, 0, 1 << 20) == b""
        write_all(file, LARGE[: 1 << 20], 0)
        assert read_large(reader, 0, 2 << 20) == LARGE[: 1 << 20]
        write_all(file, LARGE[1 << 20 :], 1 << 20)
        assert read_large(reader, 0, 4 << 20) == LARGE
        file.truncate(1 << 20)
        assert read_large(reader, 0, 4 << 20) == LARGE[: 1 << 20]
        file.close()
        reader.close()

    def test_threads_read_large_pieces_of_one_file_at_once(self, storage: Storage) -> None:
        self.put(storage, "a", LARGE)
        reader = storage.open_read("a")
        wrong: list[int] = []

        def read(number: int) -> None:
            for offset in range(number << 16, len(LARGE), 256 << 10):
                if read_large(reader, offset, 512 << 10) != LARGE[offset : offset + (512 << 10)]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        reader.close()

    def test_large_reads_outlive_the_name(self, storage: Storage) -> None:
        self.put(storage, "a", LARGE)
        reader = storage.open_read("a")
        storage.unlink("a")
        self.put(storage, "a", bytes(len(LARGE)))
        assert read_large(reader, 0, 4 << 20) == LARGE
        reader.close()

    @pytest.mark.parametrize("before", [False, True])
    def test_a_large_read_of_a_closed_file_is_an_error(self, storage: Storage, before: bool) -> None:
        self.put(storage, "a", LARGE)
        reader = storage.open_read("a")
        if before:
            assert read_large(reader, 0, 1 << 20) == LARGE[: 1 << 20]
        reader.close()
        with pytest.raises(StorageError):
            reader.read_into(memoryview(pages(1 << 20)), 0)
        with pytest.raises(StorageError):
            reader.map_into(Mapping(1 << 20), 0, 1 << 20, 0)

    def test_a_file_is_mapped_or_left_to_be_read(self, storage: Storage) -> None:
        self.put(storage, "a", LARGE)
        reader = storage.open_read("a")
        mapping = Mapping(2 << 20)
        if not reader.map_into(mapping, 1 << 20, 1 << 20, 1 << 20):
            assert bytes(mapping.memory) == bytes(2 << 20)
            assert reader.read_into(mapping.memory[1 << 20 :], 1 << 20) == 1 << 20
        reader.close()
        memory = mapping.memory
        assert memory == bytes(1 << 20) + LARGE[1 << 20 : 2 << 20]
        memory[:] = b"\1" * len(memory)
        assert content_of(storage, "a") == LARGE
        storage.unlink("a")
        assert memory == b"\1" * (2 << 20)

    def test_only_abandoned_files_are_removed(self, storage: Storage) -> None:
        file = storage.create("a", direct=self.direct)
        assert not storage.unlink_abandoned("a")
        assert storage.size("a") == 0
        file.close()
        assert storage.unlink_abandoned("a")
        assert storage.size("a") is None
        assert storage.unlink_abandoned("a")

    def test_a_file_is_held_through_a_rename(self, storage: Storage) -> None:
        file = storage.create("a", direct=self.direct)
        storage.rename("a", "b")
        assert not storage.unlink_abandoned("b")
        file.close()

    def test_shared_locks_exclude_an_exclusive_one(self, storage: Storage) -> None:
        with ExitStack() as readers:
            for _ in range(2):
                readers.enter_context(storage.lock("gate", exclusive=False, wait_s=0))
            with pytest.raises(BusyError), storage.lock("gate", exclusive=True, wait_s=0):
                pass
        with storage.lock("gate", exclusive=True, wait_s=0):
            for exclusive in (False, True):
                with (
                    pytest.raises(BusyError) as busy,
                    storage.lock("gate", exclusive=exclusive, wait_s=0.01),
                ):
                    pass
            assert busy.value.facts["lock"] == "gate"
            assert busy.value.facts["wait_s"] == 0.01
            assert busy.value.facts["holder"]
            with storage.lock("other", exclusive=True, wait_s=0):
                pass

    def test_a_waiter_gets_the_lock_when_it_is_free(self, storage: Storage) -> None:
        order: list[str] = []

        def wait() -> None:
            with storage.lock("gate", exclusive=True, wait_s=30):
                order.append("waiter")

        waiter = threading.Thread(target=wait)
        with storage.lock("gate", exclusive=True, wait_s=0):
            waiter.start()
            order.append("holder")
        waiter.join()
        assert order == ["holder", "waiter"]

    def test_a_lock_is_released_by_an_exception(self, storage: Storage) -> None:
        with pytest.raises(KeyError), storage.lock("gate", exclusive=True, wait_s=0):
            raise KeyError
        with storage.lock("gate", exclusive=True, wait_s=0):
            pass

    def test_a_read_only_storage_reads_and_refuses_changes(self, frozen: Storage) -> None:
        assert frozen.read_only
        assert content_of(frozen, "a") == b"abc"
        calls = [
            frozen.make_root,
            lambda: frozen.make_dir("d"),
            lambda: frozen.create("b"),
            lambda: frozen.open_write("a"),
            lambda: frozen.rename("a", "b"),
            lambda: frozen.unlink("a"),
            lambda: frozen.unlink_abandoned("a"),
            lambda: frozen.sync_dir(""),
            frozen.lock("gate", exclusive=True, wait_s=0).__enter__,
        ]
        for call in calls:
            with pytest.raises(ReadOnlyStore):
                call()
        assert frozen.list("") == ["a"]

    def test_a_read_only_storage_gives_shared_locks_without_a_trace(self, frozen: Storage) -> None:
        with frozen.lock("gate", exclusive=False, wait_s=0):
            assert frozen.list("") == ["a"]
