"""The self-check: finds what is wrong, says how to mend it, changes nothing, and works where nothing else does."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.ops import doctor as subject
from casckpt.ops import machine
from casckpt.ops.checks import LEVELS, Check, DoctorReport
from tests.cli.scenes import big


@pytest.fixture
def store(tmp_path: Path) -> Path:
    big(tmp_path)
    return tmp_path / ".casckpt"


def checks(place: Path | None) -> dict[str, Check]:
    return {check.code: check for check in casckpt.doctor(place).checks}


def contents(folder: Path) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lock.mdb":  # LMDB's table of readers
            yield str(path), path.stat().st_mtime_ns, path.read_bytes()


def test_a_healthy_store_has_nothing_to_mend_and_is_not_touched(store: Path) -> None:
    before = list(contents(store))
    report = casckpt.doctor(store)
    wrong = {check.code for check in report.checks if check.level in ("warning", "problem")}
    assert wrong <= {"store.space", "store.inodes", "machine.memory"}  # those are of the machine that tests run on
    assert report.exit_code == 0
    assert list(contents(store)) == before
    assert {"store.journal", "store.index", "store.packs", "store.trials", "machine.python"} <= set(checks(store))


def test_every_check_says_why_and_what_to_do_unless_all_is_well(store: Path) -> None:
    (store / "tmp" / "pack-1-abc").write_bytes(b"x")
    for check in casckpt.doctor(store).checks:
        assert check.level in LEVELS
        assert check.level == "ok" or check.why
        assert check.level in ("ok", "note") or check.hint


def test_an_open_store_can_be_checked(store: Path) -> None:
    with casckpt.open(store) as opened:
        assert isinstance(opened.doctor(), DoctorReport)
    assert casckpt.memory().doctor().path is None


def test_without_a_store_only_the_machine_is_checked() -> None:
    report = casckpt.doctor()
    assert {check.code.split(".")[0] for check in report.checks} == {"machine"}
    assert report.to_dict()["exit"] == 0


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    report = casckpt.doctor(tmp_path / "none")
    assert report.exit_code == 3
    assert any(check.code == "machine.python" for check in report.checks)


@pytest.mark.parametrize(("data", "code"), [(b"casckpt", 4), (b"", 4), (None, 3)])
def test_a_store_that_does_not_open_is_a_finding(store: Path, data: bytes | None, code: int) -> None:
    (store / "format").chmod(0o600)
    (store / "format").unlink() if data is None else (store / "format").write_bytes(data)
    report = casckpt.doctor(store)
    assert report.exit_code == code
    assert checks(store)["store.open"].level == "problem"
    assert "store.trials" in checks(store)


def test_a_missing_and_a_short_pack_are_problems(store: Path) -> None:
    [pack] = (store / "packs").iterdir()
    data = pack.read_bytes()
    pack.unlink()
    assert checks(store)["store.packs"].level == "problem"
    pack.write_bytes(data[:-4096])
    assert "wrong length" in checks(store)["store.packs"].what


def test_files_that_belong_to_nobody_are_notes(store: Path) -> None:
    (store / "packs" / "stray.pack").write_bytes(b"x" * 10)
    (store / "tmp" / "pack-1-abc").write_bytes(b"x" * 10)
    (store / "trash" / "old.pack").write_bytes(b"x")
    found = checks(store)
    assert {found[code].level for code in ("store.orphans", "store.leftovers", "store.trash")} == {"note"}


def test_an_unfinished_file_of_a_live_writer_is_no_leftover(store: Path) -> None:
    with open(store / "tmp" / "pack-1-abc", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "store.leftovers" not in checks(store)


def test_whoever_holds_a_lock_is_named(store: Path) -> None:
    with open(store / "lock" / "commit", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert str(os.getpid()) in checks(store)["store.locks"].what


def test_a_torn_end_is_a_note_and_a_gap_a_problem(store: Path) -> None:
    [journal] = (store / "journal").iterdir()
    journal.chmod(0o600)
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:20])
    assert checks(store)["store.tail"].level == "note"
    data = bytearray(whole)
    data[len(data) // 3] ^= 1
    journal.write_bytes(data)
    for file in (store / "index").iterdir():
        file.unlink()
    assert checks(store)["store.journal"].level == "problem"


def test_a_store_without_its_index_is_a_note(store: Path) -> None:
    for file in (store / "index").iterdir():
        file.unlink()
    assert checks(store)["store.index"].level == "note"
    assert not list((store / "index").iterdir())


def test_a_wrong_settings_file_is_a_warning_with_its_place(store: Path) -> None:
    (store / "config.toml").write_text('run = "gpt"\nthreads = 0\n')
    found = checks(store)["store.settings"]
    assert found.level == "warning"
    assert "line 2" in found.why


def test_a_commit_from_the_future_is_a_warning(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: past)
    assert checks(store)["store.clock"].level == "warning"


def test_low_space_and_few_inodes_are_warnings(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(store)
    # bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax
    full = os.statvfs_result((real.f_bsize, real.f_frsize, 1000, 1, 1, 1000, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    found = checks(store)
    assert (found["store.space"].level, found["store.inodes"].level) == ("warning", "warning")


def test_a_trial_that_fails_is_told_with_what_it_means(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [subject.Trial("flock", False, "no locks"), subject.Trial("flush", True, "", 0.001)]
    monkeypatch.setattr(subject, "trials", lambda _: iter(failed))
    found = checks(store)
    assert found["store.flock"].level == "problem"
    assert "1.0 ms" in found["store.trials"].what


def test_a_check_that_cannot_be_made_does_not_stop_the_others(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(subject, "trials", refuse)
    found = checks(store)
    assert found["doctor.unknown"].level == "note"
    assert "store.packs" in found


def test_a_folder_open_to_others_is_a_note(store: Path) -> None:
    store.chmod(0o755)
    assert checks(store)["store.owner"].level == "note"


def test_tight_limits_of_the_machine_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: (10 << 20, 1 << 30))
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (64, 4096))
    found = checks(None)
    assert (found["machine.memory"].level, found["machine.files"].level) == ("warning", "warning")
    assert found["machine.files"].hint == "ulimit -n 4096"


def test_a_network_file_system_is_a_note(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_kind_of", lambda _: "nfs4")
    assert checks(store)["store.filesystem"].level == "note"
