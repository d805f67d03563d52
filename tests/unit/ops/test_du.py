"""Where the bytes are, against sets of whole ids; and what drops would free, against dropping and collecting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from hashlib import shake_256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import casckpt
from casckpt.errors import LostFrames, RevisionNotFound, UsageError
from casckpt.format.elements import element_name
from casckpt.format.entry import Drop, Entry, PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.objects import Component, Tree
from casckpt.format.pack import Record
from casckpt.odb import journal
from casckpt.odb.pack_writer import PackWriter
from casckpt.ops import du_look
from casckpt.ops.collect import Collector
from casckpt.ops.du_reports import DROPPED, KEPT, THINNED, WAITING, UsageReport
from casckpt.ops.reach import Reach
from casckpt.store import Store
from tests.unit.ops.test_undo import published

BY = ("run", "commit", "component", "dtype")
LONG_AGO_NS = 1_600_000_000_000_000_000


def leaf(seed: int) -> Any:
    """Bytes that do not compress: of an even seed a pack of their own, of an odd one a part of the frame."""
    dtype, nbytes = (("f4", 70_000), ("f2", 200))[seed % 2]
    return np.frombuffer(shake_256(b"%d" % seed).digest(nbytes), dtype)


class Step(NamedTuple):
    """A commit: its run, the seed of each component, and what becomes of it later."""

    run: str
    parts: dict[str, int]
    fate: str


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["a", "b"]),
        st.dictionaries(st.sampled_from(["model", "opt", "ema"]), st.integers(0, 5), min_size=1),
        st.sampled_from([KEPT, KEPT, THINNED, WAITING, DROPPED, "thinned-long-ago"]),
    ),
    min_size=1,
    max_size=7,
)


def state(step: Step, number: int) -> dict[str, Any]:
    return {**{name: {"w": leaf(seed), "tiny": np.ones(3)} for name, seed in step.parts.items()}, "number": number}


def made(folder: Path, steps: list[Step], copied: list[int]) -> Store:
    """A store with these commits and fates; of packs with these numbers all records are written a second time."""
    store = casckpt.init(folder)
    ids = [store.commit(state(step, at), run=step.run, step=at).id for at, step in enumerate(steps)]
    drops = []
    for step, text in zip(steps, ids, strict=True):
        identity = CommitId(ObjectId(bytes.fromhex(text)))
        time_ns = LONG_AGO_NS if step.fate in (DROPPED, "thinned-long-ago") else 1 << 62
        parts = None if step.fate in (DROPPED, WAITING) else (min(step.parts),)
        drops += [] if step.fate == KEPT else [Drop(identity, parts, "test", time_ns)]
    if drops:
        published(store, Entry("drop", 1, drops=tuple(drops)))
    database = store._repository.database
    packs = sorted(database.pack_set())
    chosen = [packs[number % len(packs)] for number in copied] if packs else []
    for pair in (chosen[:2], chosen[2:]):
        if pair:
            published(store, Entry("repack", 2, packs=(rewritten(store, pair),)))
    return store


def rewritten(store: Store, packs: list[PackRef]) -> PackRef:
    """One pack with the records of several."""
    database = store._repository.database
    writer = PackWriter(database.storage)
    for pack in dict.fromkeys(packs):
        with open(f"{database.storage.path}/packs/{pack.id.hex()}.pack", "rb") as file:
            data = file.read()
        for record in database.records(pack):
            writer.add(record, data[record.offset : record.offset + record.stored])
            writer.end_leaf()
    return writer.finish({})


class Oracle:
    """The same figures from sets of whole ids."""

    def __init__(self, store: Store) -> None:
        self.store, self.database = store, store._repository.database
        self.places: list[tuple[PackRef | None, Record]] = [
            (pack, record) for pack in self.database.pack_set() for record in self.database.records(pack)
        ]
        active = self.database.tail.position.file
        for placed in self.database.journal.read_file(active).frames:
            self.places += [(None, record) for record, _ in Entry.decode(placed.frame.payload).objects]
        survey = Collector(store._repository, lambda run: 7 * 86400 * 10**9).survey(is_over=self.is_over)
        going = {use.pack for use in survey.reclaim.going}
        self.size: dict[bytes, int] = {}
        self.record: dict[bytes, Record] = {}
        for pack, record in self.places:
            if pack not in going and record.stored < self.size.get(record.id, 1 << 40):
                self.size[record.id], self.record[record.id] = record.stored, record

    @staticmethod
    def is_over(one: Any) -> bool:
        return one.drop.time_ns == LONG_AGO_NS

    def reach(self, text: str) -> dict[str | None, tuple[set[bytes], set[bytes]]]:
        """By component: the ids a commit needs for good, and those it needs until a grace is over."""
        identity = CommitId(ObjectId(bytes.fromhex(text)))
        commit, drop = self.database.commit(identity), self.database.drop(identity)
        assert commit is not None
        own = {identity, *filter(None, (commit.config, commit.environment, commit.code, commit.data))}
        over = drop is not None and drop.time_ns == LONG_AGO_NS
        if over and drop is not None and drop.parts is None:
            return {None: (own, set())}
        waits_whole = drop is not None and drop.parts is None
        found: dict[str | None, tuple[set[bytes], set[bytes]]] = {
            None: (own, {commit.tree}) if waits_whole else (own | {commit.tree}, set())
        }
        for name, part in Tree.decode(self.read(commit.tree, Kind.TREE)).components:
            lost = drop is not None and (drop.parts is None or name in drop.parts)
            if not (lost and over):
                component = Component.decode(self.read(part, Kind.COMPONENT))
                digests = component.digests
                ids = {part, component.structure, *(digests[at : at + 32] for at in range(0, len(digests), 32))}
                found[name] = (set(), ids) if lost else (ids, set())
        return found

    def read(self, identity: ObjectId, kind: Kind) -> bytes:
        return bytes(self.database.read(identity, kind))

    def nbytes(self, ids: set[bytes]) -> int:
        return sum(self.size.get(identity, 0) for identity in ids)

    def keys(self, by: str, commit: casckpt.CommitInfo) -> Iterator[tuple[str | None, set[bytes]]]:
        for name, ids in self.reach(commit.id).items():
            both = ids[0] | ids[1]
            if by == "dtype":
                for identity in both & self.record.keys():
                    record = self.record[identity]
                    yield element_name(record.element) if record.kind == Kind.CHUNK else None, {identity}
            else:
                yield {"run": commit.run, "commit": commit.id, "component": name}[by], both

    def check(self, report: UsageReport, chosen: set[str]) -> None:
        commits = list(self.store.log())
        rows: dict[str | None, set[bytes]] = {}
        others: set[bytes] = set()
        for commit in commits:
            for key, ids in self.keys(report.by, commit):
                if commit.id in chosen:
                    rows.setdefault(key, set()).update(ids)
                else:
                    others |= ids
        for row in report.rows:
            rest = others.union(*(ids for key, ids in rows.items() if key != row.name))
            assert (row.unique, row.reached) == (self.nbytes(rows[row.name] - rest), self.nbytes(rows[row.name])), row
        assert {row.name for row in report.rows} == rows.keys()
        every = others.union(*rows.values())
        stays = {one for commit in commits for ids in self.reach(commit.id).values() for one in ids[0]}
        assert report.stored == self.nbytes(stays)
        assert report.waiting == self.nbytes(every) - report.stored
        assert report.dead == sum(record.stored for _, record in self.places) - self.nbytes(every)
        assert report.unique == sum(row.unique for row in report.rows)
        assert report.unique + report.shared == self.nbytes(set().union(*rows.values()))


def check_sums(report: UsageReport, folder: Path) -> None:
    """That what is said of a whole store adds up to the lengths of its files."""
    on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert report.files.total == on_disk
    assert sum(row.unique for row in report.rows) + report.shared == report.stored + report.waiting
    assert report.unique + report.shared + report.dead + report.overhead == on_disk
    assert report.overhead >= 0
    assert all(min(row.unique, row.shared, row.logical) >= 0 for row in report.rows)
    assert sum(row.logical for row in report.rows) == report.logical


@settings(max_examples=30, deadline=None)
@given(STEPS, st.lists(st.integers(0, 9), max_size=3), st.integers(0, 1 << 7))
def test_rows_and_totals_are_those_of_sets_of_ids(steps: list[Step], copied: list[int], mask: int) -> None:
    with tempfile.TemporaryDirectory() as name, made(Path(name) / "s", steps, copied) as store:
        oracle = Oracle(store)
        ids = [commit.id for commit in store.log()]
        some = [text for at, text in enumerate(ids) if mask >> at & 1]
        for by in BY:
            report = store.du(by=by)
            oracle.check(report, set(ids))
            check_sums(report, Path(name) / "s")
            if some:
                oracle.check(store.du(*some, by=by), set(some))
                assert sum(row.logical for row in store.du(*some, by=by).rows) == store.du(*some).logical


@settings(max_examples=20, deadline=None)
@given(STEPS, st.lists(st.integers(0, 9), max_size=3), st.integers(1, 1 << 7))
def test_what_drops_would_free_is_what_dropping_and_collecting_frees(
    steps: list[Step], copied: list[int], mask: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with made(folder / "s", steps, copied) as store:
            ids = [commit.id for commit in store.log()]
            some = [text for at, text in enumerate(ids) if mask >> at & 1]
            if not some:
                return
            plan = store.plan_drop(*some)
        for other in ("without", "with"):
            shutil.copytree(folder / "s", folder / other)
        left = []
        for other, texts in (("without", []), ("with", [commit.id for commit in plan.commits])):
            with casckpt.open(folder / other) as store:
                before = [store._repository.database.drop(CommitId(ObjectId(bytes.fromhex(one)))) for one in texts]
                taken_back = tuple(drop._replace(cancelled=True) for drop in before if drop is not None)
                drops = tuple(Drop(CommitId(ObjectId(bytes.fromhex(one))), None, "test", 1 << 62) for one in texts)
                if drops:
                    published(store, Entry("drop", 3, drops=(*taken_back, *drops)))
                store.gc(now=True, repack=False)
                left.append(store.du())
        without, dropped = left
        assert plan.freed == without.stored - dropped.stored
        assert plan.pack_bytes == without.files.packs - dropped.files.packs
        assert {*plan.already, *(commit.id for commit in plan.commits)} == set(some)
        assert sum(commit.together for commit in plan.commits) == plan.freed
        assert all(commit.alone <= commit.together for commit in plan.commits)


def test_deltas_belong_to_all_who_are_decoded_from_them(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    weights = noise.standard_normal(70_000, np.float32)
    with casckpt.init(tmp_path / "s") as store:
        for at in range(8):
            weights = weights + np.float32(1e-4) * noise.standard_normal(weights.size, np.float32)
            store.commit({"model": {"w": weights}}, run="a", step=at)
        store.repack()
        store.gc(now=True, repack=False)
        for by in BY:
            check_sums(store.du(by=by), tmp_path / "s")
        [floats] = [row for row in store.du(by="dtype").rows if row.name == "float32"]
        assert "delta" in {codec.codec for codec in floats.codecs}
        assert store.du(by="commit").shared > max(row.unique for row in store.du(by="commit").rows[1:])
        plan = store.plan_drop("a~4", "a~3", "a~2")
        before = store.du()
        store.drop("a~4", "a~3", "a~2")
        store.gc(now=True, repack=False)
        after = store.du()
    assert plan.freed == before.stored - after.stored
    assert plan.pack_bytes == before.files.packs - after.files.packs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with casckpt.init(tmp_path / "s") as store:
        for at in range(4):
            store.commit({"model": leaf(2 * at), "frozen": {"w": leaf(100)}}, run="ab"[at // 3], step=at)
        yield store


def test_states_are_told_by_commit(store: Store) -> None:
    store.drop("a~1")
    store.drop("a~2", parts="frozen")
    states = {row.step: (row.run, row.state) for row in store.du(by="commit").rows}
    assert states == {0: ("a", THINNED), 1: ("a", WAITING), 2: ("a", KEPT), 3: ("b", KEPT)}
    store.gc(now=True, repack=False)
    report = store.du(by="commit")
    assert {row.step: row.state for row in report.rows} == {0: THINNED, 1: DROPPED, 2: KEPT, 3: KEPT}
    assert report.waiting == 0
    assert next(row.logical for row in report.rows if row.step == 1) == 0


def test_runs_commits_ranges_and_filters_choose_rows(store: Store) -> None:
    assert [row.name for row in store.du(run="b").rows] == ["b"]
    assert {row.step for row in store.du("a~2", by="commit").rows} == {0}
    assert {row.step for row in store.du("a~2..a", "b", by="commit").rows} == {1, 2, 3}
    assert {row.step for row in store.du(where="step>=2", run="a", by="commit").rows} == {2}
    assert (store.du("a").commits, store.du("a").all_commits) == (1, 4)
    with pytest.raises(RevisionNotFound):
        store.du(run="nothing")
    with pytest.raises(UsageError):
        store.du(by="leaf")
    with pytest.raises(UsageError):
        store.plan_drop()


def test_codecs_of_a_dtype_add_up(store: Store) -> None:
    for row in store.du(by="dtype").rows:
        assert sum(codec.stored for codec in row.codecs) == row.reached
    [floats] = [row for row in store.du(by="dtype").rows if row.name == "float32"]
    assert [(codec.codec, codec.records, codec.plain) for codec in floats.codecs] == [("raw", 5, 350_000)]


def test_a_plan_says_what_holds_a_commit(store: Store) -> None:
    plan = store.plan_drop("a", "a~1")
    assert [(commit.step, commit.held) for commit in plan.commits] == [(1, ()), (2, ("last of a",))]
    assert plan.packs == 2
    store.drop("a~1")
    assert store.plan_drop("a~1").already == (store.show("a~1").id,)
    assert store.plan_drop("a~1").freed == 0


def test_what_was_freed_early_in_part_is_neither_damage_nor_needed(tmp_path: Path) -> None:
    # The component of the second commit lies in the journal, its structure and chunks in the pack of the first.
    with casckpt.init(tmp_path / "s") as store:
        for at in range(2):
            store.commit({"model": {"w": leaf(0)}, "number": at}, run="a", step=at)
        store.commit({"other": 1}, run="a", step=2)
        store.drop("a~1", "a~2")
        assert store.gc(now=True, repack=False).packs == 1
        assert {row.state for row in store.du(by="commit").rows} <= {KEPT, WAITING, DROPPED}
        assert store.du(by="dtype").files.packs == 0
        assert store.plan_gc().packs == 0


def test_sealed_journal_files_are_overhead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 3)
    with casckpt.init(tmp_path / "s") as store:
        for at in range(8):
            store.commit({"model": {"w": leaf(2 * at + 1)}, "frozen": {"w": leaf(101)}}, run="a", step=at)
        assert len(store._repository.database.journal.files()) > 2
        report = store.du(by="commit")
        Oracle(store).check(report, {commit.id for commit in store.log()})
        check_sums(report, tmp_path / "s")
        assert report.dead == 0


def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Kind]:
    """What kinds of objects one more call reads."""
    found: list[Kind] = []
    read = Reach._read

    def noted(self: Reach, commit: CommitId, identity: ObjectId, kind: Kind) -> bytes:
        found.append(kind)
        return read(self, commit, identity, kind)

    with monkeypatch.context() as patch:
        patch.setattr(Reach, "_read", noted)
        store.du(by="commit")
    return found


def test_a_second_look_reads_what_is_new(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(reads(store, monkeypatch)) > 8
    assert reads(store, monkeypatch) == []
    store.commit({"model": leaf(50), "frozen": {"w": leaf(100)}}, run="a", step=9)
    # The root component holds the new leaf; the other one is known.
    assert sorted(reads(store, monkeypatch)) == [Kind.STRUCTURE, Kind.COMPONENT, Kind.TREE]


def test_what_is_beyond_the_bound_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = store.du(by="commit")
    monkeypatch.setattr(du_look, "KEPT_BYTES", 0)
    first = reads(store, monkeypatch)
    assert first == []
    assert len(reads(store, monkeypatch)) > 8
    assert store.du(by="commit").rows == expected.rows


def test_a_damaged_pack_is_counted_and_a_damaged_journal_refused(store: Store) -> None:
    folder = store.path
    assert folder is not None
    store.du()
    database = store._repository.database
    victim = next(pack for pack in sorted(database.pack_set()) if all(r.kind == 0 for r in database.records(pack)[:1]))
    path = folder / "packs" / f"{victim.id.hex()}.pack"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))
    log = folder / "journal" / "0.log"
    with casckpt.open(folder, read_only=True) as other:
        report = other.du()
        assert (report.unreadable, report.packs) == (1, 4)
        assert report.files.total == report.stored + report.dead + report.overhead
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    shutil.rmtree(folder / "index")
    with casckpt.open(folder, read_only=True) as other, pytest.raises(LostFrames):
        other.du()
