from __future__ import annotations

import threading
from pathlib import Path

import pytest

from casckpt.errors import BusyError
from casckpt.odb import locks
from casckpt.storage.base import Storage
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage


@pytest.fixture(params=["memory", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(locks, "COMMIT_WAIT_S", 0.05)
    monkeypatch.setattr(locks, "JOURNAL_WAIT_S", 0.05)
    found: Storage = MemoryStorage() if request.param == "memory" else LocalStorage(tmp_path)
    found.make_dir("lock")
    return found


def test_committers_do_not_exclude_each_other(storage: Storage) -> None:
    with locks.committing(storage), locks.committing(storage):
        pass


def test_a_collector_excludes_committers_and_they_say_whom_they_wait_for(storage: Storage) -> None:
    for lock in ("gate", "commit"):
        with storage.lock(lock, exclusive=True, wait_s=0):
            with pytest.raises(BusyError) as raised, locks.committing(storage):
                pass
            assert raised.value.facts["lock"] == lock
            assert raised.value.facts["holder"] not in ("", "?")
        with locks.committing(storage):
            pass


def test_a_committer_keeps_a_collector_out_but_passes_through_the_gate(storage: Storage) -> None:
    with locks.committing(storage):
        with storage.lock("gate", exclusive=True, wait_s=0):
            pass
        with pytest.raises(BusyError), storage.lock("commit", exclusive=True, wait_s=0):
            pass


def test_the_journal_has_one_writer_at_a_time(storage: Storage) -> None:
    with locks.journaling(storage), pytest.raises(BusyError), locks.journaling(storage):
        pass
    with locks.journaling(storage):
        pass


def test_a_lock_is_free_again_after_an_error(storage: Storage) -> None:
    with pytest.raises(KeyError), locks.committing(storage), locks.journaling(storage):
        raise KeyError
    with storage.lock("commit", exclusive=True, wait_s=0), storage.lock("journal", exclusive=True, wait_s=0):
        pass


def test_who_waits_gets_the_lock_when_it_is_let_go(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "JOURNAL_WAIT_S", 30)
    got = threading.Event()

    def wait() -> None:
        with locks.journaling(storage):
            got.set()

    thread = threading.Thread(target=wait)
    with locks.journaling(storage):
        thread.start()
        assert not got.is_set()
    thread.join()
    assert got.is_set()
