"""Damage of every kind to every file: never wrong data, never a strange death; named by fsck and healed."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import DamagedFile, DamagedLeaf, FormatError, IntegrityError, RevisionNotFound
from casckpt.format.frame import MAGIC
from casckpt.format.ids import Kind, ObjectId
from casckpt.odb import index
from casckpt.odb.session import Session
from tests.crash.folders import ram_folder
from tests.integration import damage
from tests.integration.damage import Flip, Sample, flipped, opened, same, state_of, verdict

ROOT = Path(__file__).resolve().parents[2]
PACK_FLIPS, JOURNAL_FLIPS, FORMAT_FLIPS = 1100, 450, 50
INDEX_FLIPS = {"index/data.mdb": 280, "index/lock.mdb": 80, "index/clean": 40}
assert PACK_FLIPS + JOURNAL_FLIPS + FORMAT_FLIPS + sum(INDEX_FLIPS.values()) == 2000


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    """Shared, since every test puts back what it damages."""
    with ram_folder() as folder:
        yield damage.build(folder / "store")


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder for stores of one's own."""
    with ram_folder() as folder:
        yield folder


@pytest.fixture
def copy(sample: Sample, place: Path) -> Sample:
    """A store of one's own."""
    shutil.copytree(sample.path, place / "store")
    return Sample(place / "store", sample.states, sample.refs, sample.needs)


def places(sample: Sample) -> Counter[ObjectId]:
    """In how many places each object is: an object in two has a second copy."""
    found: Counter[ObjectId] = Counter()
    for file in (sample.path / "packs").iterdir():
        found.update(r.object for r in damage.regions_of_pack(file.read_bytes()) if r.object is not None)
    for parts in damage.parts_of_journal(sample).values():
        found.update(part.region.object for part in parts if part.region.object is not None)
    return found


def pick(rng: random.Random, file: str, regions: list[damage.Region]) -> Flip:
    """A flip anywhere in a file, in each kind of region as often."""
    where = rng.choice(sorted({region.where for region in regions}))
    region = rng.choice([region for region in regions if region.where == where])
    return Flip(
        file, rng.randrange(region.start, region.end), rng.randrange(8), rng.random() < 0.5, where, region.object
    )


# ---- single bits


def test_a_flip_in_a_pack_is_never_wrong_data_and_fsck_finds_every_one_that_counts(sample: Sample) -> None:
    rng = random.Random(1)
    files = {f"packs/{f.name}": damage.regions_of_pack(f.read_bytes()) for f in (sample.path / "packs").iterdir()}
    copies = places(sample)
    for number in range(PACK_FLIPS):
        file = rng.choice(sorted(files))
        flip = pick(rng, file, files[file])
        with flipped(sample.path, flip), opened(sample.path, indexed=number % 2 == 0) as store:
            # Compressed bytes can be wrong and yet decode to what they should.
            is_lost = flip.object is not None and copies[flip.object] == 1
            hit = {identity for identity, needs in sample.needs.items() if is_lost and flip.object in needs}
            for identity, state in sample.states.items():
                said = verdict(store, identity, state)
                if flip.object is not None and flip.object.hex() == identity:
                    assert said in {"right", "RevisionNotFound"}, flip  # its own commit object
                    continue
                assert said == "right" or (identity in hit and said == "DamagedLeaf"), flip
                assert said != "right" or identity not in hit or not is_chunk(store, flip.object), flip
            if hit and is_chunk(store, flip.object):
                assert_names_the_leaf(store, sample, flip, sorted(hit)[0])
            report = store.fsck("full")
            assert report.ok == (flip.where == "padding"), flip
            if flip.where != "padding":
                assert file in {finding.where for finding in report.findings}, flip
            if hit and is_chunk(store, flip.object):
                named = {(finding.leaf, finding.commits) for finding in report.findings if finding.leaf}
                paths = {path for identity in hit for path in sample.needs[identity][flip.object]}
                assert set().union(*(commits for _, commits in named)) == hit, flip
                assert {path for leaf, _ in named for path in leaf.split(", ")} == paths, flip


def test_a_commit_damaged_in_its_pack_is_read_from_the_journal_that_was_sealed(sample: Sample) -> None:
    for file in sorted((sample.path / "packs").iterdir()):
        for region in damage.regions_of_pack(file.read_bytes()):
            if region.object is not None and region.object.hex() in sample.states:
                flip = Flip(f"packs/{file.name}", region.start + 20, 0, True)
                with flipped(sample.path, flip), opened(sample.path, indexed=False) as store:
                    assert_costs_only(store, sample, set(), set(), flip)


def is_chunk(store: casckpt.Store, identity: ObjectId | None) -> bool:
    row = None if identity is None else store._repository.database.row(identity)
    return row is not None and row.kind == Kind.CHUNK


def assert_names_the_leaf(store: casckpt.Store, sample: Sample, flip: Flip, identity: str) -> None:
    with pytest.raises(DamagedLeaf) as raised:
        store.checkout(identity)
    facts = raised.value.facts
    assert facts["commit"] == identity[:12]
    assert set(facts["path"].split(", ")) & sample.needs[identity][flip.object], flip


def test_a_flip_in_the_journal_costs_at_most_what_its_frame_held_and_fsck_reports_the_gap(
    sample: Sample, place: Path
) -> None:
    rng = random.Random(2)
    files = damage.parts_of_journal(sample)
    newest = name_of_newest(files)
    wanted = [(newest, part) for part in files[newest] if part.op != "snapshot"]
    sealed = [(file, part) for file, parts in files.items() for part in parts if file != newest]
    for number in range(JOURNAL_FLIPS):
        file, part = rng.choice(wanted if number % 3 else sealed)
        region = part.region
        flip = Flip(file, rng.randrange(region.start, region.end), rng.randrange(8), number % 2 == 0, region.where)
        held = part.held if file == newest else frozenset()
        lost = damage.lost_commits(held, sample)
        with flipped(sample.path, flip):
            with opened(sample.path, indexed=number % 4 < 2) as store:
                assert_costs_only(store, sample, held, lost, flip)
                report = store.fsck()
                assert not report.ok, flip
                assert file in {finding.where for finding in report.findings if finding.severity == "damage"}, flip
            if number % 15 == 0:
                assert_goes_on(sample, place / str(number), lost, flip)


def name_of_newest(files: dict[str, list[damage.Part]]) -> str:
    return max(files, key=lambda name: int(name.split("/")[1].removesuffix(".log")))


def assert_costs_only(
    store: casckpt.Store, sample: Sample, held: Set[ObjectId], lost: set[str], context: object
) -> None:
    """Every commit is right, unless it needs an object of `held` or is one of `lost`."""
    for identity, state in sample.states.items():
        allowed = {"right"}
        if held & set(sample.needs[identity]):
            allowed.add("DamagedLeaf")
        if identity in lost:
            allowed.add("RevisionNotFound")
        assert verdict(store, identity, state) in allowed, context


def assert_goes_on(sample: Sample, path: Path, lost: set[str], context: object) -> None:
    """A writer appends behind the damage, and readers with and without the index find what it wrote."""
    shutil.copytree(sample.path, path)
    state = state_of(1000, 2000)
    with casckpt.open(path) as store:
        made = [store.commit(state, run="later").id, store.commit(state_of(1001, 90_000), run="later").id]
    for indexed in (True, False):
        with opened(path, indexed=indexed) as store:
            assert same(store.checkout(made[0]), state), context
            assert [info.id for info in store.log("later")] == made[::-1], context
            assert same(store.checkout("later"), state_of(1001, 90_000)), context
            found = {info.id for info in store.log()}
            assert found >= set(sample.states) - lost - unreachable_after(sample, lost), context
            assert not store.fsck().ok, context
    shutil.rmtree(path)


def unreachable_after(sample: Sample, lost: set[str]) -> set[str]:
    """Commits that a log from the refs may miss, since it ends where a parent is lost."""
    with opened(sample.path) as store:
        return {info.id for text in lost for info in store.log(text)} if lost else set()


def snapshot(sample: Sample) -> list[tuple[str, damage.Region]]:
    """The parts of the snapshot that opens the newest journal file."""
    files = damage.parts_of_journal(sample)
    newest = name_of_newest(files)
    return [(newest, part.region) for part in files[newest] if part.op == "snapshot"]


def test_a_flip_in_a_snapshot_costs_nothing_while_the_file_before_it_is_whole(sample: Sample) -> None:
    for file, region in snapshot(sample):
        flip = Flip(file, (region.start + region.end) // 2, 3, True, region.where)
        with flipped(sample.path, flip), opened(sample.path, indexed=False) as store:
            assert_costs_only(store, sample, set(), set(), flip)
            assert {n: i.hex() for n, i in store._repository.database.refs().items()} == sample.refs, flip
            assert not store.fsck().ok


def test_a_flip_in_a_snapshot_is_never_wrong_data_and_fsck_reports_it(sample: Sample) -> None:
    rng = random.Random(3)
    for file, region in snapshot(sample):
        for indexed in (True, False):
            flip = Flip(file, rng.randrange(region.start, region.end), rng.randrange(8), indexed, region.where)
            with flipped(sample.path, flip), opened(sample.path, indexed=indexed) as store:
                said = {verdict(store, identity, state) for identity, state in sample.states.items()}
                assert said <= {"right", "DamagedLeaf", "RevisionNotFound"}, flip
                assert said == {"right"} or not indexed, flip
                assert not store.fsck().ok, flip


def test_a_flip_in_the_format_file_is_refused(sample: Sample) -> None:
    rng = random.Random(4)
    size = os.path.getsize(sample.path / "format")
    for offset in rng.choices(range(size), k=FORMAT_FLIPS):
        flip = Flip("format", offset, rng.randrange(8), rng.random() < 0.5)
        with flipped(sample.path, flip), pytest.raises((DamagedFile, FormatError)):
            casckpt.open(sample.path)


def test_a_flip_in_the_index_is_neither_wrong_data_nor_a_death_by_signal(copy: Sample, tmp_path: Path) -> None:
    rng = random.Random(5)
    flips = []
    for file, count in INDEX_FLIPS.items():
        size = os.path.getsize(copy.path / file)
        # The first pages of LMDB files are the ones it trusts most.
        spans = [size, min(size, 8192), min(size, 256)]
        flips += [Flip(file, rng.randrange(rng.choice(spans)), rng.randrange(8), n % 2 == 0) for n in range(count)]
    expected = tmp_path / "expected"
    expected.write_bytes(pickle.dumps(copy.states))
    words = [sys.executable, "-m", "tests.integration.damage", str(copy.path), str(expected)]
    lines = "".join(f"{flip.file} {flip.offset} {flip.bit} {flip.keeps_time}\n" for flip in flips)
    done = subprocess.run(words, input=lines, capture_output=True, text=True, cwd=ROOT, check=False)
    answers = done.stdout.splitlines()
    assert done.returncode == 0, (done.returncode, flips[len(answers)], done.stderr[-2000:])
    assert [pair for pair in zip(flips, answers, strict=True) if pair[1] != "ok"] == []


@pytest.mark.parametrize("limit", ["CHILD_CHECK_BYTES", "HASH_BYTES"])
def test_a_flip_in_an_index_too_large_to_hash_is_never_a_wrong_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(index, limit, 1)
    with casckpt.init(tmp_path / "store") as store:
        store.commit({"x": 1}, message="from the first seed")
    data = tmp_path / "store" / "index" / "data.mdb"
    flip = Flip("index/data.mdb", data.read_bytes().index(b"from the first seed"), 1, limit == "HASH_BYTES")
    if limit == "CHILD_CHECK_BYTES":
        (data.parent / "clean").unlink()  # as after a crash: then a child looks at it first
    with flipped(tmp_path / "store", flip), opened(tmp_path / "store") as store:
        assert store.show().message == "from the first seed"


# ---- files cut, lost, and foreign


def cuts(file: Path) -> Iterator[int]:
    """Lengths to cut a pack to: at and around the ends of everything in it, and some between."""
    data = file.read_bytes()
    rng = random.Random(6)
    ends = {end for region in damage.regions_of_pack(data) for end in (region.start, region.end)}
    wanted = {0, 1, *(at + by for at in ends for by in (-1, 0, 1)), *rng.choices(range(len(data)), k=10)}
    yield from sorted(length for length in wanted if 0 <= length < len(data))


def test_a_pack_cut_at_any_length_is_named_with_the_leaves_and_commits_it_cost(sample: Sample) -> None:
    for file in sorted((sample.path / "packs").iterdir())[:3]:
        data, times = file.read_bytes(), file.stat()
        for length in list(cuts(file))[::3]:
            os.truncate(file, length)
            try:
                for indexed in (True, False):
                    with opened(sample.path, indexed=indexed) as store:
                        assert_reports_what_it_lost(store, sample, f"packs/{file.name}")
            finally:
                file.write_bytes(data)
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def assert_reports_what_it_lost(store: casckpt.Store, sample: Sample, name: str, *, leaves: bool = False) -> None:
    """fsck finds the pack at both depths; no checkout is wrong; with `leaves`, fsck names each that fails."""
    said = {identity: verdict(store, identity, state) for identity, state in sample.states.items()}
    assert set(said.values()) <= {"right", "DamagedLeaf", "RevisionNotFound"}
    failing = {identity for identity, word in said.items() if word == "DamagedLeaf"}
    for depth in ("quick", "full"):
        report = store.fsck(depth)
        assert not report.ok
        assert name in {finding.where for finding in report.findings}
        named = {commit for finding in report.findings if finding.leaf for commit in finding.commits}
        assert not leaves or named >= failing


@pytest.mark.parametrize("indexed", [True, False])
def test_the_leaves_a_cut_pack_cost_are_named_at_both_depths(sample: Sample, indexed: bool) -> None:
    file = max((sample.path / "packs").iterdir(), key=os.path.getsize)
    data, times = file.read_bytes(), file.stat()
    os.truncate(file, len(data) // 2)
    try:
        with opened(sample.path, indexed=indexed) as store:
            assert_reports_what_it_lost(store, sample, f"packs/{file.name}", leaves=True)
    finally:
        file.write_bytes(data)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("indexed", [True, False])
def test_a_missing_pack_is_named_with_its_leaves_and_commits_and_all_else_is_right(
    sample: Sample, place: Path, indexed: bool
) -> None:
    copies = places(sample)
    for file in sorted((sample.path / "packs").iterdir()):
        all_in = {region.object for region in damage.regions_of_pack(file.read_bytes()) if region.object}
        held = {identity for identity in all_in if copies[identity] == 1}
        file.rename(place / file.name)
        try:
            with opened(sample.path, indexed=indexed) as store:
                # Without the index nothing else says that there were commits in it.
                lost = set() if indexed else damage.lost_commits(frozenset(all_in), sample)
                assert_costs_only(store, sample, held, lost, file.name)
                if lost:
                    assert not store.fsck().ok
                    continue
                assert_reports_what_it_lost(store, sample, f"packs/{file.name}", leaves=True)
                hit = {identity for identity, needs in sample.needs.items() if held & set(needs)}
                said = {finding for finding in store.fsck().findings if finding.leaf}
                assert {commit for finding in said for commit in finding.commits} == hit
        finally:
            (place / file.name).rename(file)


def test_a_deleted_index_costs_nothing(copy: Sample) -> None:
    shutil.rmtree(copy.path / "index")
    with casckpt.open(copy.path) as store:
        assert store._repository.database.rebuilt
        assert_costs_only(store, copy, set(), set(), "index")
        assert store.fsck("full").findings == ()
        assert {name: i.hex() for name, i in store._repository.database.refs().items()} == copy.refs
    with casckpt.open(copy.path) as store:
        assert not store._repository.database.rebuilt


def active_file(path: Path) -> Path:
    return max((path / "journal").iterdir(), key=lambda file: int(file.stem))


def test_a_journal_cut_inside_a_frame_has_lost_that_commit_only_and_goes_on(copy: Sample, place: Path) -> None:
    name = f"journal/{active_file(copy.path).name}"
    parts = damage.parts_of_journal(copy)[name]
    end, held = parts[-1].region.end, parts[-1].held
    start = max(part.region.start for part in parts if part.region.where == "frame header")
    lengths = {start + by for by in (0, 1, 55, 56, 57)} | {end - 1, *random.Random(8).choices(range(start, end), k=6)}
    for length in sorted(lengths):
        path = place / str(length)
        shutil.copytree(copy.path, path)
        os.truncate(path / name, length)
        for indexed in (True, False):
            with opened(path, indexed=indexed) as store:
                assert_costs_only(store, copy, held, damage.lost_commits(held, copy), length)
                # A write that was never acknowledged looks the same: it is no damage.
                assert store.fsck().ok
        with casckpt.open(path) as store:
            made = store.commit(state_of(50, 800), run="later").id
            assert store.fsck("full").findings == ()
        with opened(path, indexed=False) as store:
            assert same(store.checkout(made), state_of(50, 800))


@pytest.mark.parametrize("junk", [b"\x01", MAGIC, b"noise" * 9, MAGIC + bytes(200), bytes(5000)])
def test_a_torn_tail_is_no_damage_and_the_next_commit_cuts_it_off(copy: Sample, junk: bytes) -> None:
    file = active_file(copy.path)
    size = file.stat().st_size
    with file.open("ab") as journal:
        journal.write(junk)
    with casckpt.open(copy.path) as store:
        assert_costs_only(store, copy, set(), set(), junk)
        assert store.fsck().ok
        made = store.commit({"x": 1}, run="later").id
        assert store.fsck().findings == ()
    data = file.read_bytes()
    assert data[size : size + 8] == MAGIC
    assert junk[:100] not in data[size:] or not junk.strip(b"\0") or junk == MAGIC or len(junk) == 1
    with opened(copy.path, indexed=False) as store:
        assert store.checkout(made) == {"x": 1}


def test_noise_at_the_end_of_the_journal_is_damage_that_stays_and_hides_nothing(copy: Sample) -> None:
    file = active_file(copy.path)
    noise = random.Random(9).randbytes(3000).replace(b"\0", b"\1")
    with file.open("ab") as journal:
        journal.write(noise)
    with casckpt.open(copy.path) as store:
        assert not store.fsck().ok
        made = [store.commit({"x": number}, run="later").id for number in range(3)]
    assert noise in file.read_bytes()
    for indexed in (True, False):
        with opened(copy.path, indexed=indexed) as store:
            assert_costs_only(store, copy, set(), set(), "noise")
            assert [info.id for info in store.log("later")] == made[::-1]
            assert [finding.where for finding in store.fsck().findings] == [f"journal/{file.name}"]


def test_a_pack_under_a_wrong_name_is_not_trusted_and_both_names_are_reported(copy: Sample) -> None:
    file = max((copy.path / "packs").iterdir(), key=os.path.getsize)
    foreign = file.with_name("0" * 64 + ".pack")
    file.rename(foreign)
    with opened(copy.path) as store:
        report = store.fsck("full")
        assert not report.ok
        assert {f"packs/{file.name}", f"packs/{foreign.name}"} <= {finding.where for finding in report.findings}
        assert_reports_what_it_lost(store, copy, f"packs/{file.name}", leaves=True)
    with casckpt.open(copy.path) as store:
        report = store.fsck("full", repair=True)
        assert report.ok
        assert {finding.where: finding.repaired for finding in report.findings}[f"packs/{file.name}"] == (
            f"found as packs/{foreign.name} and given its name back"
        )
        assert_costs_only(store, copy, set(), set(), "renamed back")
        assert store.fsck("full").findings == ()
    assert file.exists() and not foreign.exists()


@pytest.mark.parametrize("name", ["0" * 64 + ".pack", "notes.txt", "x.pack", ".pack", "ä.pack"])
def test_a_foreign_file_in_the_pack_folder_harms_nothing(copy: Sample, name: str) -> None:
    (copy.path / "packs" / name).write_bytes(b"not a pack")
    with casckpt.open(copy.path) as store:
        assert store.fsck("full", repair=True).ok
        assert_costs_only(store, copy, set(), set(), name)
        store.commit(state_of(60, 90_000), run="later")
        assert store.fsck("full").ok
    assert (copy.path / "packs" / name).read_bytes() == b"not a pack"


def test_a_pack_in_the_place_of_another_is_found_and_never_read_as_it(copy: Sample) -> None:
    first, second = sorted((copy.path / "packs").iterdir(), key=os.path.getsize)[-2:]
    assert first.stat().st_size == second.stat().st_size
    shutil.copyfile(first, second)
    for indexed in (True, False):
        with opened(copy.path, indexed=indexed) as store:
            assert_reports_what_it_lost(store, copy, f"packs/{second.name}")


def test_fsck_sees_damage_that_came_after_a_pack_was_first_read(copy: Sample) -> None:
    file = max((copy.path / "packs").iterdir(), key=os.path.getsize)
    regions = {region.where: region for region in damage.regions_of_pack(file.read_bytes())}
    with opened(copy.path) as store:
        assert store.fsck("full").ok
        for where in ("header", "footer", "trailer"):
            flip = Flip(f"packs/{file.name}", regions[where].start + 20, 1, True)
            with flipped(copy.path, flip):
                assert not store.fsck("full").ok, where


def test_a_state_that_holds_a_pack_is_not_mistaken_for_damage(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        store.commit(state_of(1, 90_000))
        (pack,) = (tmp_path / "store" / "packs").iterdir()
        inner = np.frombuffer(pack.read_bytes(), np.uint8)
        store.commit({"pack": inner})
        report = store.fsck("full")
        assert report.ok, report.findings
        assert same(store.checkout()["pack"], inner)


# ---- repair


@pytest.fixture
def doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
    """A store of two commits of one state, each with all its objects in a pack of its own."""
    made = Sample(tmp_path / "doubled")
    with casckpt.init(made.path) as store:
        made.states[store.commit(state_of(1, 300_000), run="one").id] = state_of(1, 300_000)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "scan", lambda self, identity, *_: self._known.get(identity))
            made.states[store.commit(state_of(1, 300_000), run="two").id] = state_of(1, 300_000)
    made.learn()
    assert len(os.listdir(made.path / "packs")) == 2
    return made


def damages(file: Path) -> list[Flip]:
    """One flip in each part of a pack."""
    parts = {region.where: region for region in damage.regions_of_pack(file.read_bytes()) if region.where != "padding"}
    return [Flip(f"packs/{file.name}", (r.start + r.end) // 2, 5, True, where) for where, r in sorted(parts.items())]


@pytest.mark.parametrize("which", [0, 1])
def test_what_has_a_second_copy_is_read_from_it_and_healed(doubled: Sample, tmp_path: Path, which: int) -> None:
    name = sorted(os.listdir(doubled.path / "packs"))[which]
    for flip in [*damages(doubled.path / "packs" / name), None]:
        path = tmp_path / (flip.where if flip else "missing")
        shutil.copytree(doubled.path, path)
        if flip:
            damage.toggle(path / flip.file, flip)
        else:
            (path / "packs" / name).unlink()
        with casckpt.open(path) as store:
            assert_costs_only(store, doubled, set(), set(), flip)
            assert not store.fsck("full").ok
            report = store.fsck("full", repair=True)
            assert report.ok, (flip, report.findings)
            assert {finding.where for finding in report.findings} == {f"packs/{name}"}
            assert all(finding.repaired for finding in report.findings)
            assert_costs_only(store, doubled, set(), set(), flip)
        assert name not in os.listdir(path / "packs")
        assert (name in os.listdir(path / "trash")) == (flip is not None)
        for indexed in (True, False):
            with opened(path, indexed=indexed) as store:
                assert store.fsck("full").findings == ()
                assert_costs_only(store, doubled, set(), set(), flip)


def test_what_has_no_second_copy_is_listed_and_healed_by_committing_the_state_again(copy: Sample) -> None:
    copies = places(copy)
    file = max((copy.path / "packs").iterdir(), key=os.path.getsize)
    chunk = next(
        region
        for region in damage.regions_of_pack(file.read_bytes())
        if region.object and copies[region.object] == 1 and region.end - region.start > 1000
    )
    damage.toggle(file, Flip("", chunk.start + 7, 0, True))
    hit = {identity for identity, needs in copy.needs.items() if chunk.object in needs}
    with casckpt.open(copy.path) as store:
        report = store.fsck("full", repair=True)
        assert not report.ok
        left = [finding for finding in report.findings if finding.severity == "damage" and not finding.repaired]
        assert {commit for finding in left for commit in finding.commits} == hit
        paths = {path for finding in left if finding.leaf for path in finding.leaf.split(", ")}
        assert paths == {path for identity in hit for path in copy.needs[identity][chunk.object]}
        assert_costs_only(store, copy, {chunk.object}, set(), "repaired")
        for identity in hit:
            with pytest.raises(DamagedLeaf):
                store.checkout(identity)
        # Everything else of the pack was kept, and the state brings back what is missing.
        again = store.commit(copy.states[next(iter(hit))], run="again")
        assert again.tree == store.show(next(iter(hit))).tree
        assert_costs_only(store, copy, set(), set(), "healed")
        assert store.fsck("full").ok


def test_a_missing_pack_is_given_up_and_healed_by_committing_its_states_again(copy: Sample) -> None:
    for name in os.listdir(copy.path / "packs"):
        (copy.path / "packs" / name).unlink()
    with casckpt.open(copy.path) as store:
        assert not store.fsck("full", repair=True).ok
        for state in copy.states.values():
            store.commit(state, run="again")
        made = {info.tree for info in store.log("again")}
        assert len(made) == len({info.tree for info in store.log("again")})
        for info in store.log("again"):
            store.checkout(info.id)
        damaged = {f.where for f in store.fsck("full").findings if f.severity == "damage" and not f.repaired}
        assert not any(where.startswith("packs/") for where in damaged), damaged


def test_repair_changes_nothing_in_a_whole_store(copy: Sample) -> None:
    before = {file: file.read_bytes() for folder in ("packs", "journal") for file in (copy.path / folder).iterdir()}
    with casckpt.open(copy.path) as store:
        assert store.fsck("full", repair=True).findings == ()
        assert_costs_only(store, copy, set(), set(), "whole")
    assert before == {f: f.read_bytes() for folder in ("packs", "journal") for f in (copy.path / folder).iterdir()}


def test_a_pack_whose_frame_was_damaged_is_taken_back_with_a_tag(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with casckpt.init(path) as store:
        store.commit({"x": 1}, run="r")
        lost = store.commit(state_of(3, 300_000), run="r", step=7)
        last = store.commit({"x": 2}, run="r")
    sample = Sample(path, {lost.id: state_of(3, 300_000)})
    parts = damage.parts_of_journal(sample)["journal/0.log"]
    header = [part.region for part in parts if part.region.where == "frame header"][2]
    damage.toggle(path / "journal/0.log", Flip("", header.start + 30, 2, False))
    shutil.rmtree(path / "index")
    with casckpt.open(path) as store:
        assert store.show("r").id == last.id
        with pytest.raises(RevisionNotFound):
            store.checkout(lost.id)
        store.fsck(repair=True)
        (name,) = store.status().tags
        assert name.startswith("recovered-")
        assert same(store.checkout(name), state_of(3, 300_000))
        assert (store.show(name).run, store.show(name).step) == ("r", 7)
        assert store.commit({"x": 3}, run="r").parents == (last.id,)


@pytest.mark.parametrize("indexed", [True, False])
def test_what_a_damaged_journal_lost_is_not_said_to_have_never_been(tmp_path: Path, indexed: bool) -> None:
    path = tmp_path / "store"
    with casckpt.init(path) as store:
        store.commit({"x": 1}, run="r")
        lost = store.commit({"x": 2}, run="r")
        store.commit({"x": 3}, run="r")
    with opened(path, indexed=indexed) as store, pytest.raises(RevisionNotFound) as raised:
        store.show("nothing")
    assert "damaged" not in raised.value.message
    parts = damage.parts_of_journal(Sample(path))["journal/0.log"]
    header = [part.region for part in parts if part.region.where == "frame header"][2]
    damage.toggle(path / "journal/0.log", Flip("", header.start + 30, 2, False))
    shutil.rmtree(path / "index")
    if indexed:
        casckpt.open(path).close()
    for revision in (lost.id, lost.id[:12], "nothing", "r~2", "r^"):
        with opened(path, indexed=indexed) as store:
            # What the index knows of the gap must be known to who finds nothing new in the journal, too.
            store.status()
            with pytest.raises(RevisionNotFound) as raised:
                store.show(revision)
            assert "frames of the journal are damaged" in raised.value.message
            assert "casckpt fsck" in raised.value.message
            assert [finding.where for finding in store.fsck().findings if finding.severity == "damage"]
    with casckpt.open(path) as store:
        store.fsck(repair=True)
    with opened(path, indexed=indexed) as store, pytest.raises(RevisionNotFound) as raised:
        store.show("nothing")
    assert "damaged" not in raised.value.message


def test_a_store_whose_journal_was_repaired_is_whole_again(copy: Sample) -> None:
    parts = damage.parts_of_journal(copy)["journal/0.log"]
    damage.toggle(copy.path / "journal/0.log", Flip("", parts[5].region.start + 9, 2, False))
    with casckpt.open(copy.path) as store:
        assert not store.fsck().ok
        store.fsck(repair=True)
        assert store.fsck("full").ok


def test_every_error_of_damage_is_an_integrity_error_with_words(copy: Sample) -> None:
    for name in os.listdir(copy.path / "packs"):
        os.truncate(copy.path / "packs" / name, 5000)
    with opened(copy.path) as store:
        hit = [identity for identity, state in copy.states.items() if verdict(store, identity, state) != "right"]
        assert hit
        for identity in hit:
            with pytest.raises(IntegrityError) as raised:
                store.checkout(identity)
            assert pickle.loads(pickle.dumps(raised.value)).message == raised.value.message
            assert "?" not in raised.value.message
