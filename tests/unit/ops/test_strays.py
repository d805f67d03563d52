from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import CasckptError, StorageError
from casckpt.odb.repository import Repository
from casckpt.ops import strays as module
from casckpt.ops.strays import find_strays
from casckpt.storage.local import LocalStorage


def state(number: int) -> dict[str, object]:
    rng = np.random.default_rng(number)
    return {"w": rng.bytes(70_000 + number * 4096), "v": [rng.bytes(30_000), number]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of three commits, each with a pack of its own."""
    with casckpt.init(tmp_path / "store") as store:
        for number in range(3):
            store.commit(state(number), step=number)
    return tmp_path / "store"


def packs(path: Path) -> list[Path]:
    return sorted((path / "packs").iterdir())


def spoil(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


def swap(first: Path, second: Path) -> None:
    first.rename(first.with_suffix(".x"))
    second.rename(first)
    first.with_suffix(".x").rename(second)


def rotate(files: list[Path]) -> None:
    swap(files[0], files[1])
    swap(files[1], files[2])


def copy_beside_damaged(files: list[Path]) -> None:
    shutil.copyfile(files[0], files[0].with_name("copy"))
    spoil(files[0], os.path.getsize(files[0]) - 1)


def copy_beside_cut(files: list[Path]) -> None:
    shutil.copyfile(files[0], files[0].with_name("z.pack"))
    os.truncate(files[0], 9000)


def under_another_that_is_in_place(files: list[Path]) -> None:
    files[0].rename(files[0].with_name("old"))
    shutil.copyfile(files[1], files[0])


RENAMED: dict[str, Callable[[list[Path]], object]] = {
    "renamed": lambda files: files[0].rename(files[0].with_name("0" * 64 + ".pack")),
    "another suffix": lambda files: files[0].rename(files[0].with_suffix(".bak")),
    "capitals": lambda files: files[0].rename(files[0].with_name(files[0].name.upper())),
    "all renamed": lambda files: [file.rename(file.with_name(f"{n}.pack")) for n, file in enumerate(files)],
    "two swapped": lambda files: swap(files[0], files[1]),
    "three rotated": rotate,
    "shifted by one": lambda files: [files[0].rename(files[0].with_name("x")), files[1].rename(files[0])],
    "under another that is in place": under_another_that_is_in_place,
    "a whole copy beside a damaged file": copy_beside_damaged,
    "a whole copy beside a cut file": copy_beside_cut,
}


@pytest.mark.parametrize("depth", ["quick", "full"])
@pytest.mark.parametrize("how", RENAMED)
def test_a_pack_under_a_wrong_name_is_given_its_own_again(path: Path, how: str, depth: str) -> None:
    before = {file.name: file.read_bytes() for file in packs(path)}
    RENAMED[how](packs(path))
    with casckpt.open(path) as store:
        looked = store.fsck(depth)
        assert not looked.ok
        assert any("under a wrong name" in finding.what for finding in looked.findings)
        report = store.fsck(depth, repair=True)
        assert report.ok, report.findings
        done = {finding.where: finding.repaired for finding in report.findings if finding.where.startswith("packs/")}
        assert done
        assert all("given its name back" in (text or "") for text in done.values()), done
        for number in range(3):
            assert store.checkout(f"@step={number}") == state(number)
        assert store.fsck("full").findings == ()
    assert {file.name: file.read_bytes() for file in packs(path)} == before


def test_a_store_whose_packs_have_their_names_is_left_alone(path: Path) -> None:
    (path / "packs" / "notes.txt").write_bytes(b"not a pack")
    shutil.copyfile(packs(path)[0], path / "packs" / "copy")
    before = {file.name: file.stat().st_ino for file in packs(path)}
    with casckpt.open(path) as store:
        report = store.fsck("full", repair=True)
        assert report.ok
        assert report.findings == ()
    assert {file.name: file.stat().st_ino for file in packs(path)} == before


def test_what_is_no_pack_or_not_the_missing_one_takes_no_name(path: Path) -> None:
    lost, other, third = packs(path)
    whole = lost.read_bytes()
    lost.unlink()
    shutil.copyfile(other, lost.with_name("copy-of-another.pack"))
    lost.with_name("cut").write_bytes(whole[:-4096])
    lost.with_name("longer").write_bytes(whole + bytes(4096))
    footer = int.from_bytes(whole[-32:-24], "little")
    for name, at in (("header", 20), ("footer", footer + 40), ("trailer", len(whole) - 64)):
        lost.with_name(name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    lost.with_name("empty").write_bytes(b"")
    lost.with_name("folder").mkdir()
    lost.with_name("link").symlink_to(third)
    with casckpt.open(path) as store:
        assert not any("wrong name" in finding.what for finding in store.fsck("full").findings)
        report = store.fsck("full", repair=True)
        assert not report.ok
        assert "given up: nothing in it can be read" in {finding.repaired for finding in report.findings}
    assert not lost.exists()


def test_two_damaged_copies_are_left_to_a_repair_object_by_object(path: Path) -> None:
    """The one in place has lost its end, the one beside it a payload: the one in place is the better source."""
    sizes = {file: os.path.getsize(file) for file in packs(path)}
    file = max(sizes, key=lambda file: sizes[file])
    shutil.copyfile(file, file.with_name("beside"))
    spoil(file.with_name("beside"), 5000)
    spoil(file, sizes[file] - 1)
    with casckpt.open(path) as store:
        assert not any("wrong name" in finding.what for finding in store.fsck("full").findings)
        assert store.fsck("full", repair=True).ok
        assert store.checkout("@step=2") == state(2)


def test_of_several_files_that_claim_a_missing_pack_the_whole_one_is_taken(path: Path) -> None:
    file = packs(path)[1]
    for name in ("a", "c"):
        shutil.copyfile(file, file.with_name(name))
        spoil(file.with_name(name), 5000)
    whole = file.read_bytes()
    file.rename(file.with_name("b"))
    with casckpt.open(path) as store:
        assert store.fsck(repair=True).ok
    assert file.read_bytes() == whole


def test_a_damaged_pack_under_a_wrong_name_is_renamed_and_then_rewritten(path: Path) -> None:
    file = packs(path)[0]
    spoil(file, 5000)
    file.rename(file.with_name("x"))
    with casckpt.open(path) as store:
        report = store.fsck("full", repair=True)
        assert not report.ok
        done = {finding.repaired for finding in report.findings if finding.where == f"packs/{file.name}"}
        assert any("objects kept in a new pack" in (text or "") for text in done), report.findings
        lost = [finding for finding in report.findings if finding.leaf and not finding.repaired]
        assert len({commit for finding in lost for commit in finding.commits}) == 1
    assert not file.with_name("x").exists()


def test_a_file_that_stood_in_the_place_of_another_goes_to_the_trash(path: Path) -> None:
    files = packs(path)
    under_another_that_is_in_place(files)
    with casckpt.open(path) as store:
        assert store.fsck(repair=True).ok
    assert (path / "trash" / files[0].name).read_bytes() == files[1].read_bytes()


def _is_right(store: casckpt.Store, number: int) -> bool:
    try:
        return bool(store.checkout(f"@step={number}") == state(number))
    except CasckptError:
        return False


class Failing(LocalStorage):
    """Fails at one rename or flush of a folder, counted from 0: before it has an effect, or after."""

    def __init__(self, path: Path, stop: int, *, late: bool) -> None:
        super().__init__(path)
        self.left, self.late = stop, late

    def _do(self, effect: Callable[[], None]) -> None:
        self.left -= 1
        if self.left == -1 and not self.late:
            raise StorageError(operation="rename", path="x", problem="it failed")
        effect()
        if self.left == -1:
            raise StorageError(operation="rename", path="x", problem="it failed")

    def rename(self, source: str, target: str) -> None:
        self._do(lambda: LocalStorage.rename(self, source, target))

    def sync_dir(self, name: str) -> None:
        self._do(lambda: LocalStorage.sync_dir(self, name))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("how", ["renamed", "three rotated", "under another that is in place", "shifted by one"])
def test_a_repair_that_was_interrupted_is_finished_by_the_next(path: Path, how: str, late: bool) -> None:
    RENAMED[how](packs(path))
    interrupted = 0
    for stop in range(12):
        folder = Path(shutil.copytree(path, path.with_name(f"{stop}")))
        storage = Failing(folder, stop, late=late)
        store = casckpt.Store(Repository(storage))
        try:
            store.fsck(repair=True)
        except StorageError:
            interrupted += 1
        storage.left = -1  # from here on nothing fails
        store.close()
        with casckpt.open(folder) as store:
            assert store.fsck("full", repair=True).ok
            assert all(_is_right(store, number) for number in range(3))
    assert interrupted >= 4


def test_a_stray_that_another_repair_moved_first_costs_nothing(path: Path) -> None:
    RENAMED["two swapped"](packs(path))
    with casckpt.open(path) as store, casckpt.open(path) as other:
        database = store._repository.database
        found = find_strays(database, list(database.pack_set()), [])
        assert len(found) == 2
        assert other.fsck(repair=True).ok
        before = {file.name: file.stat().st_ino for file in packs(path)}
        absent = {f"packs/{number}.gone": pack for number, pack in enumerate(found.values())}
        assert module.return_strays(database, absent) == {}
        assert {file.name: file.stat().st_ino for file in packs(path)} == before
        assert os.listdir(path / "trash") == []
