"""The storage contract over disk, tmpfs and memory, and what only a real folder can promise."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from casckpt.errors import BusyError, ReadOnlyStore, StorageError, StoreFull
from casckpt.storage.base import Storage, write_all
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage

pytest.register_assert_rewrite("tests.contract.storage_contract")

from tests.contract.storage_contract import StorageContract, content_of, put  # noqa: E402

SHM = Path("/dev/shm")
needs_shm = pytest.mark.skipif(not os.access(SHM, os.W_OK), reason="no tmpfs at /dev/shm")


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()

    @pytest.fixture
    def frozen(self) -> Storage:
        return MemoryStorage({"a": b"abc"}, read_only=True)


class TestDisk(StorageContract):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "store"

    @pytest.fixture
    def storage(self, folder: Path) -> Storage:
        storage = LocalStorage(folder)
        storage.make_root()
        return storage

    @pytest.fixture
    def frozen(self, storage: Storage, folder: Path) -> Storage:
        self.put(storage, "a", b"abc")
        return LocalStorage(folder, read_only=True)


class TestDiskDirect(TestDisk):
    direct = True


@needs_shm
class TestTmpfs(TestDisk):
    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=SHM) as folder:
            yield Path(folder) / "store"


@needs_shm
class TestTmpfsDirect(TestTmpfs):
    direct = True


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_memory_snapshot_makes_an_equal_storage() -> None:
    storage = MemoryStorage({"d/e/a": b"abc", "b": b""})
    assert storage.snapshot() == {"b": b"", "d": None, "d/e": None, "d/e/a": b"abc"}
    put(storage, "d/c", b"new")
    assert MemoryStorage(storage.snapshot()).snapshot() == storage.snapshot()


def test_a_memory_storage_never_changes_what_it_was_made_from() -> None:
    entries: dict[str, bytes | None] = {"a": b"abc"}
    storage = MemoryStorage(entries)
    file = storage.open_write("a")
    write_all(file, b"XY", 1)
    assert content_of(storage, "a") == b"aXY"
    assert entries == {"a": b"abc"}


# --- a real folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "store")
    storage.make_root()
    return storage


@contextmanager
def second_process(storage: LocalStorage, body: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ran `body` with `storage` open, printed `ready` and waits for the end of its input."""
    script = (
        "import sys\nfrom casckpt.storage.local import LocalStorage\n"
        f"storage = LocalStorage(sys.argv[1])\n{body}\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(storage.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_busy_names_the_process_that_holds_the_lock(storage: LocalStorage) -> None:
    body = "lock = storage.lock('journal', exclusive=True, wait_s=0)\nlock.__enter__()"
    with second_process(storage, body) as process:
        with pytest.raises(BusyError) as busy, storage.lock("journal", exclusive=False, wait_s=0.05):
            pass
        assert busy.value.facts["holder"].startswith(f"process {process.pid} (")
        assert Path(sys.executable).name in busy.value.facts["holder"]
        process.kill()
        process.wait()
        with storage.lock("journal", exclusive=True, wait_s=0):
            pass


def test_a_file_is_abandoned_when_its_writer_was_killed(storage: LocalStorage) -> None:
    with second_process(storage, "file = storage.create('a')\nfile.write_at(b'abc', 0)") as process:
        assert not storage.unlink_abandoned("a")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert storage.size("a") == 3
        assert storage.unlink_abandoned("a")
        assert storage.size("a") is None


FORK = """
import os, sys, threading
from casckpt.storage.local import LocalStorage

storage = LocalStorage(sys.argv[1])
taken, release = threading.Event(), threading.Event()

def hold():
    with storage.lock('journal', exclusive=True, wait_s=0):
        file = storage.create('a')
        taken.set()
        release.wait()
        file.close()

def child():
    os.close(unblock)
    try:
        with storage.lock('journal', exclusive=True, wait_s=0):
            pass
    except TimeoutError:
        storage.create('child').close()
    os.write(tell, b'.')
    os.read(blocked, 1)  # the end of the parent
    os._exit(0)

holder = threading.Thread(target=hold)
holder.start()
taken.wait()
blocked, unblock = os.pipe()
told, tell = os.pipe()
with storage.lock('gate', exclusive=True, wait_s=0):
    if os.fork() == 0:
        child()
    os.read(told, 1)
release.set()
holder.join()
for name in ('journal', 'gate'):
    with storage.lock(name, exclusive=True, wait_s=0):
        pass
assert storage.unlink_abandoned('a')
assert storage.list('') == ['child', 'lock'], storage.list('')
"""


def test_a_forked_child_keeps_no_lock_and_no_unfinished_file(storage: LocalStorage) -> None:
    # To the child the locks are busy while the parent holds them, and free as soon as the parent lets go.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(storage.path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lock_survives_the_removal_of_its_folder(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.lock("gate", exclusive=True, wait_s=0):
        pass
    os.unlink(tmp_path / "store/lock/gate")
    os.rmdir(tmp_path / "store/lock")
    with storage.lock("gate", exclusive=True, wait_s=0):
        assert storage.list("lock") == ["gate"]


def test_a_waiter_whose_lock_file_was_removed_excludes_the_next(storage: LocalStorage, tmp_path: Path) -> None:
    path = tmp_path / "store/lock/gate"
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        with storage.lock("gate", exclusive=True, wait_s=30):
            entered.set()
            leave.wait()

    waiter = threading.Thread(target=wait)
    with storage.lock("gate", exclusive=True, wait_s=0):
        waiter.start()
        path.unlink()
    assert entered.wait(30)
    with pytest.raises(BusyError), storage.lock("gate", exclusive=True, wait_s=0):
        pass
    leave.set()
    waiter.join()


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        storage = LocalStorage(tmp_path / "new/store")
        storage.make_root()
        storage.make_dir("d")
        put(storage, "d/a", b"abc")
        with storage.lock("gate", exclusive=True, wait_s=0):
            pass
    finally:
        os.umask(before)
    for folder in ("new", "new/store", "new/store/d", "new/store/lock"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    for file in ("new/store/d/a", "new/store/lock/gate"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600


def test_new_parents_of_the_root_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    storage = LocalStorage(tmp_path / "a/b/store")
    storage.make_root()
    storage.make_root()
    above = str(tmp_path / "a/b")
    assert synced == [str(tmp_path), str(tmp_path / "a"), above, above]


def test_aligned_writes_bypass_the_page_cache_and_others_fall_back(storage: LocalStorage) -> None:
    file = storage.create("a", direct=True)
    if not fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_DIRECT:
        pytest.skip("this file system has no O_DIRECT")
    aligned = mmap.mmap(-1, 8192)
    aligned[:] = b"x" * 8192
    write_all(file, memoryview(aligned), 0)
    assert fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_DIRECT
    write_all(file, b"tail", 8192)
    assert not fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_DIRECT
    file.sync()
    file.close()
    assert content_of(storage, "a") == b"x" * 8192 + b"tail"


def test_a_file_system_without_direct_writes_is_used_buffered(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl

    def refuse(fd: int, command: int, value: int = 0) -> int:
        if command == fcntl.F_SETFL:
            raise OSError(errno.EINVAL, "no O_DIRECT here")
        return real(fd, command, value)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    put(storage, "a", b"abc", direct=True)
    assert content_of(storage, "a") == b"abc"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EFBIG, StoreFull),
        (errno.EROFS, ReadOnlyStore),
        (errno.EACCES, ReadOnlyStore),
        (errno.EPERM, ReadOnlyStore),
        (errno.EIO, StorageError),
    ],
)
def test_errors_of_the_disk_are_translated_once(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[StorageError]
) -> None:
    put(storage, "a", b"abc")
    file = storage.open_write("a")

    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    cases = [
        ("pwrite", lambda: file.write_at(b"x", 0)),
        ("ftruncate", lambda: file.truncate(0)),
        ("fdatasync", file.sync),
        ("replace", lambda: storage.rename("a", "b")),
        ("unlink", lambda: storage.unlink("a")),
        ("mkdir", lambda: storage.make_dir("d")),
        ("fsync", lambda: storage.sync_dir("")),
        ("open", lambda: storage.create("c")),
    ]
    for name, call in cases:
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(StorageError) as caught:
                call()
        assert type(caught.value) is expected
        assert caught.value.errno == code
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.facts["path"].startswith(str(storage.path))


def test_a_failed_flush_is_final_for_its_file(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    file = storage.create("a")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError):
            file.sync()
    with pytest.raises(StorageError):
        file.sync()
    file.close()


def test_an_unreadable_file_is_no_read_only_store(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    put(storage, "a", b"abc")

    def fail(*_: object) -> int:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageError) as caught:
        storage.open_read("a")
    assert type(caught.value) is StorageError


def test_links_and_pipes_are_not_opened(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "secret", tmp_path / "store/link")
    os.mkfifo(tmp_path / "store/pipe")
    for name in ("link", "pipe"):
        with pytest.raises(StorageError):
            storage.open_read(name)
        with pytest.raises(StorageError):
            storage.open_write(name)


def test_a_medium_that_cannot_be_written_gives_shared_locks_only(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage.lock("made", exclusive=True, wait_s=0):
        pass
    real = os.open

    def refuse_writing(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse_writing)
    for name in ("made", "never-made"):
        with storage.lock(name, exclusive=False, wait_s=0):
            pass
        with pytest.raises(ReadOnlyStore), storage.lock(name, exclusive=True, wait_s=0):
            pass


def test_a_folder_without_write_permission_is_read_only(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not storage.read_only
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who runs some tests, may write anywhere
    assert LocalStorage(str(storage.path)).read_only


def test_a_cleaner_that_was_first_costs_the_writer_only_the_name(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cleaner runs between the creation of the file and the writer's flock.
    real = fcntl.flock
    cleaner = LocalStorage(str(storage.path))
    steps = [lambda: cleaner.unlink_abandoned("a")]

    def flock(fd: int, mode: int) -> None:
        if steps:
            assert steps.pop()()
        real(fd, mode)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(FileExistsError):
        storage.create("a")
    storage.create("a").close()


def test_a_vanished_root_is_an_error_and_not_made_anew(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "gone")
    with pytest.raises(StorageError), storage.lock("gate", exclusive=True, wait_s=0):
        pass
    with pytest.raises(FileNotFoundError):
        storage.create("a")
    assert not (tmp_path / "gone").exists()
