"""A bundle carries runs, tags and commits from store to store: whole, or refused; made at once, or not at all."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import (
    BundleNeeds,
    CasckptError,
    CommitDropped,
    DamagedBundle,
    DamagedObject,
    Diverged,
    IntegrityError,
    NotFoundError,
    NotOnRemote,
    RemoteUntrusted,
    RevisionNotFound,
    StorageError,
    TargetExists,
    UsageError,
)
from casckpt.format.bundle import BundleHead
from casckpt.ops import bundle as bundles
from casckpt.ops.bundle import bundle_apply, bundle_create, bundle_list
from casckpt.ops.bundle_reports import BundleReport
from casckpt.ops.drill import drill
from casckpt.ops.fetch_reports import PullReport
from casckpt.remote import bundle_objects
from casckpt.remote.bundle_objects import BundleReader
from casckpt.remote.view import RemoteView
from tests.support.histories import same, training

States = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "store") as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "other") as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.bundle"


def filled(store: casckpt.Store) -> States:
    noise, states = np.random.default_rng(3), States()
    for step, state in enumerate(training(4)):
        states[store.commit(state, run="walk", step=step).id] = state
    for number in range(3):
        state = {"model": {"w": noise.bytes(1_500_000), "b": [noise.bytes(700)] * 3}, "epoch": number}
        states[store.commit(state, run="big", step=number, config={"lr": 0.1}).id] = state
    store.tag("kept", next(iter(states)))
    return states


def create(store: casckpt.Store, file: Path, *names: str, **options: Any) -> BundleReport:
    return bundle_create(store._repository, file, names, **options)


def apply(store: casckpt.Store, file: Path, **options: Any) -> PullReport:
    return bundle_apply(store._repository, file, **options)


def refs(store: casckpt.Store) -> dict[str, str]:
    return {name: identity.hex() for name, identity in store._repository.database.refs().items()}


def assert_has(store: casckpt.Store, states: States) -> None:
    for identity, state in states.items():
        assert same(store.checkout(identity), state)
    assert store.fsck("full").ok


def test_everything_arrives_bit_for_bit(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    states = filled(store)
    report = create(store, file, everything=True)
    assert report.commits == 7
    assert report.nbytes == file.stat().st_size
    assert report.needs == ()
    assert sorted(refs(store)) == sorted(report.refs)
    done = apply(other, file)
    assert done.fetched.commits == done.fetched.whole == 7
    assert {move.ref for move in done.moves} == set(report.refs)
    assert refs(other) == refs(store)
    assert_has(other, states)
    assert [one.id for one in other.log(limit=None)] == [one.id for one in store.log(limit=None)]
    assert not list((Path(other.path) / "remotes").glob("*"))


def test_a_run_comes_without_the_others(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    states = filled(store)
    create(store, file, "walk")
    apply(other, file)
    walk = {identity: state for identity, state in states.items() if "model" in state and "data" in state}
    assert {one.id for one in other.log(limit=None)} == set(walk)
    assert_has(other, walk)
    with BundleReader(file) as reader:
        view = RemoteView(reader)
        view.refresh()
        database = store._repository.database
        for pack in database.pack_set():
            for record in database.packs.contents(pack.id).records:
                assert record.length < 500_000 or view.find(record.id) is None


def test_the_current_run_is_what_goes_without_a_name(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    filled(store)
    create(store, file)
    apply(other, file)
    assert {one.run for one in other.log(limit=None)} == {"big"}


def test_a_commit_goes_without_a_ref(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    states = filled(store)
    made = list(states)
    report = create(store, file, "walk~1", "kept")
    assert set(report.refs) == {f"commits/{made[2]}", "tags/kept"}
    done = apply(other, file)
    assert refs(other) == {"tags/kept": made[0]}
    assert done.fetched.whole == 3
    assert_has(other, {one: states[one] for one in made[:3]})


def test_only_what_is_new_goes_since_a_commit(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    base = np.random.default_rng(1).bytes(3_000_000)
    states = {}
    for step in range(3):
        state = {"frozen": base, "w": np.random.default_rng(step).bytes(100_000), "step": step}
        states[store.commit(state, run="gpt", step=step).id] = state
    first, _, third = states
    create(store, file, first)
    apply(other, file)
    report = create(store, file, "gpt", since=[first], replace=True)
    assert report.commits == 2
    assert report.nbytes < 300_000
    assert report.needs == (first,)
    done = apply(other, file)
    assert done.fetched.commits == 2
    assert refs(other)["runs/gpt/last"] == third
    assert_has(other, states)


def test_a_bundle_since_a_commit_needs_that_commit_whole(
    store: casckpt.Store, other: casckpt.Store, file: Path
) -> None:
    states = filled(store)
    made = list(states)
    create(store, file, everything=True, since=[made[1], made[5]])
    before = refs(other)
    with pytest.raises(BundleNeeds) as raised:
        apply(other, file)
    assert sorted(raised.value.facts["needs"]) == sorted([made[1], made[5]])
    assert refs(other) == before
    assert not list(other.log(limit=None))
    whole = file.with_name("whole")
    create(store, whole, everything=True)
    apply(other, whole)
    other.drop(made[5])
    with pytest.raises(BundleNeeds, match=made[5][:12]):
        apply(other, file)


def test_a_tag_on_an_old_commit_goes_since_a_later_one(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    states = filled(store)
    made = list(states)
    create(store, file, everything=True)
    apply(other, file)
    store.tag("old", made[1])
    create(store, file, everything=True, since=[made[3], made[6]], replace=True)
    assert {one.content for one in bundle_list(file).commits} == {"absent"}
    done = apply(other, file)
    assert [(move.ref, move.new) for move in done.moves] == [("tags/old", made[1])]
    assert_has(other, states)


def test_a_chain_of_bundles_is_the_store(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    states, since = States(), list[str]()
    for step, state in enumerate(training(5, size=40_000)):
        last = store.commit(state, run="walk", step=step).id
        states[last] = state
        create(store, file, "walk", since=since, replace=True)
        apply(other, file)
        since = [last]
    assert refs(other) == refs(store)
    assert_has(other, states)


def test_what_was_dropped_comes_as_a_name(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    states = filled(store)
    made = list(states)
    store.drop(made[1])
    store.drop(made[5], parts=["model"])
    store.gc(now=True)
    with pytest.raises(CommitDropped):
        create(store, file, made[1])
    create(store, file, everything=True)
    listed = {one.id: one.content for one in bundle_list(file).commits}
    assert (listed[made[1]], listed[made[5]]) == ("absent", "thinned")
    assert list(listed.values()).count("whole") == 5
    apply(other, file)
    found = {one.id: one for one in other.log(limit=None)}
    assert found[made[1]].dropped
    assert found[made[5]].thinned == ("model",)
    assert other.fsck("full").ok


def test_a_bundle_goes_in_twice_without_a_change(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    filled(store)
    create(store, file, everything=True)
    apply(other, file)
    again = apply(other, file)
    assert (again.fetched.commits, again.fetched.objects, again.moves, again.operation) == (0, 0, (), None)


def test_diverged_runs_are_refused_or_joined(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    store.commit({"a": 1}, run="gpt")
    create(store, file)
    apply(other, file)
    theirs = other.commit({"a": 2}, run="gpt").id
    ours = store.commit({"a": 3}, run="gpt").id
    create(store, file, replace=True)
    with pytest.raises(Diverged):
        apply(other, file)
    assert refs(other)["runs/gpt/last"] == theirs
    apply(other, file, policy="newest")
    assert refs(other)["runs/gpt/last"] == ours
    assert theirs in refs(other).values()


def test_a_dry_run_writes_nothing(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    filled(store)
    would = create(store, file, everything=True, dry_run=True)
    assert not file.exists()
    report = create(store, file, everything=True)
    assert (would.refs, would.commits, would.objects, would.dry_run) == (report.refs, 7, report.objects, True)
    assert 0.8 * report.nbytes < would.nbytes <= report.nbytes
    dry = apply(other, file, dry_run=True)
    assert dry.fetched.commits == 7
    assert len(dry.moves) == len(report.refs)
    assert not refs(other)
    assert not list(other.log(limit=None))
    done = apply(other, file)
    assert (dry.fetched.commits, dry.fetched.objects, dry.moves) == (7, done.fetched.objects, done.moves)


def test_a_bundle_can_be_drilled_like_any_remote(store: casckpt.Store, file: Path) -> None:
    filled(store)
    create(store, file, everything=True)
    with BundleReader(file) as reader:
        report = drill(reader, commits=None)
    assert report.ok
    assert report.whole == 7


def test_progress_ends_where_it_said(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    filled(store)
    for work in (
        lambda heard: create(store, file, everything=True, progress=heard),
        lambda heard: bundle_list(file, verify=True, progress=heard),
        lambda heard: apply(other, file, progress=heard),
    ):
        heard: list[tuple[int, int]] = []
        work(lambda done, total, heard=heard: heard.append((done, total)))
        assert heard[-1][0] == heard[-1][1] > 4_000_000


# ---- listing


def test_a_listing_says_what_is_there(store: casckpt.Store, file: Path) -> None:
    states = filled(store)
    made = list(states)
    create(store, file, everything=True, since=[made[0]])
    info = bundle_list(file, verify=True)
    assert info.ok
    assert info.verified
    assert info.nbytes == file.stat().st_size
    assert info.needs == (made[0],)
    assert {ref.name: ref.commit for ref in info.refs} == refs(store)
    assert [one.id for one in info.commits][:3] == made[:3:-1]
    whole = {one.id for one in info.commits if one.content == "whole"}
    assert whole == set(made[1:])
    assert info.to_dict()["ok"] is True
    assert str(os.getpid()) in info.by


def test_a_listing_with_a_look_at_every_byte_names_what_is_damaged(store: casckpt.Store, file: Path) -> None:
    filled(store)
    create(store, file, everything=True)
    whole = file.read_bytes()
    with BundleReader(file) as reader:
        view = RemoteView(reader)
        view.refresh()
        rows = [(segment.packs[row.pack].key, row) for segment in view.segments() for row in segment.rows()]
        places = [(reader._places[key].offset + row.offset, row) for key, row in rows]
    for offset, row in places[:: len(places) // 8]:
        data = bytearray(whole)
        data[offset] ^= 1
        file.write_bytes(data)
        info = bundle_list(file, verify=True)
        assert not info.ok
        assert [problem.split(":")[0] for problem in info.problems] == [f"object {row.id.hex()[:12]}"]
    file.write_bytes(whole)
    assert bundle_list(file, verify=True).ok


# ---- what is refused


def test_what_cannot_be_meant_is_refused(store: casckpt.Store, file: Path) -> None:
    with pytest.raises(UsageError):
        create(store, file, everything=True)
    with pytest.raises(RevisionNotFound):
        create(store, file)
    filled(store)
    with pytest.raises(RevisionNotFound):
        create(store, file, "nothing")
    with pytest.raises(RevisionNotFound):
        create(store, file, "walk", since=["nothing"])
    assert not file.exists()
    file.write_text("mine")
    with pytest.raises(TargetExists):
        create(store, file, "walk")
    assert file.read_text() == "mine"
    create(store, file, "walk", replace=True)
    assert bundle_list(file).ok


def test_no_bundle_is_made_of_damaged_objects(store: casckpt.Store, file: Path) -> None:
    filled(store)
    for pack in (Path(store.path) / "packs").iterdir():
        os.truncate(pack, pack.stat().st_size // 2)
    with casckpt.open(store.path) as damaged, pytest.raises((DamagedObject, IntegrityError)):
        create(damaged, file, everything=True)
    assert list(file.parent.glob("*.bundle*")) == list(file.parent.glob(".x*")) == []


def test_a_file_that_is_cut_short_changes_nothing(store: casckpt.Store, other: casckpt.Store, file: Path) -> None:
    filled(store)
    create(store, file, everything=True)
    data = file.read_bytes()
    for share in (0, 0.1, 0.5, 0.9, 0.999):
        file.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DamagedBundle):
            apply(other, file)
        with pytest.raises(DamagedBundle):
            bundle_list(file)
    assert not refs(other)


def test_a_changed_bundle_is_refused_or_brings_what_was_sent(small: tuple[bytes, States]) -> None:
    whole, states = small
    rng = random.Random(5)
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(whole))] ^= rng.randint(1, 255)
        assert_harmless(bytes(changed), states)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, States]:
    """The bytes of a bundle of a few kilobytes, and the states in it."""
    folder, states = tmp_path_factory.mktemp("small"), States()
    with casckpt.init(folder / "store") as store:
        for step in range(2):
            state = {"w": np.random.default_rng(step).bytes(300), "step": step}
            states[store.commit(state, run="gpt", step=step).id] = state
        create(store, folder / "x", "gpt")
    return (folder / "x").read_bytes(), states


def assert_harmless(data: bytes, states: States) -> None:
    """Whatever a file holds, a store that takes it in holds nothing that is wrong."""
    with tempfile.TemporaryDirectory() as folder, casckpt.init(Path(folder) / "store") as store:
        file = Path(folder) / "x"
        file.write_bytes(data)
        try:
            apply(store, file)
        except CasckptError:
            assert not refs(store)
        for one in store.log(limit=None):
            assert one.dropped or same(store.checkout(one.id), states[one.id])
        assert store.fsck("full").ok


def rewritten(data: bytes, folder: Path, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The bundle with other members."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.read_bytes()


def test_members_that_were_replaced_left_out_or_swapped_change_nothing(
    small: tuple[bytes, States], tmp_path: Path
) -> None:
    data, states = small
    (tmp_path / "x").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x") as archive:
        names = archive.namelist()
    for name in names:
        assert_harmless(rewritten(data, tmp_path, lambda members, name=name: members.pop(name) and None), states)
        assert_harmless(rewritten(data, tmp_path, lambda members, name=name: members.update({name: b""})), states)
        for second in names:

            def swap(members: dict[str, bytes], first: str = name, second: str = second) -> None:
                members[first], members[second] = members[second], members[first]

            assert_harmless(rewritten(data, tmp_path, swap), states)


def test_a_pack_of_another_bundle_is_not_taken_for_ones_own(
    store: casckpt.Store, other: casckpt.Store, tmp_path: Path
) -> None:
    """Both bundles are whole; a pack of one lies in the place of the other's."""
    bodies = []
    for seed in (1, 2):
        with casckpt.init(tmp_path / str(seed)) as made:
            made.commit({"w": np.random.default_rng(seed).bytes(200_000)}, run="gpt")
            create(made, tmp_path / f"{seed}.bundle")
        bodies.append((tmp_path / f"{seed}.bundle").read_bytes())
    (tmp_path / "a").write_bytes(bodies[1])
    with zipfile.ZipFile(tmp_path / "a") as archive:
        foreign = [archive.read(name) for name in archive.namelist() if name.startswith("packs/")]

    def change(members: dict[str, bytes]) -> None:
        own = [name for name in members if name.startswith("packs/")]
        members.update(zip(own, foreign, strict=True))

    (tmp_path / "b").write_bytes(rewritten(bodies[0], tmp_path, change))
    assert not bundle_list(tmp_path / "b", verify=True).ok
    with pytest.raises(RemoteUntrusted):
        apply(other, tmp_path / "b")
    assert not refs(other)


def test_a_head_that_hides_what_the_bundle_needs_brings_nothing(
    store: casckpt.Store, other: casckpt.Store, file: Path
) -> None:
    base = np.random.default_rng(1).bytes(300_000)
    first = store.commit({"frozen": base, "step": 0}, run="gpt").id
    store.commit({"frozen": base, "step": 1}, run="gpt")
    create(store, file, "gpt", since=[first])

    def change(members: dict[str, bytes]) -> None:
        head = BundleHead.decode(members["bundle"])
        members["bundle"] = BundleHead(head.time_ns, head.by).encode()

    file.write_bytes(rewritten(file.read_bytes(), file.parent, change))
    with pytest.raises(NotOnRemote):
        apply(other, file)
    assert not refs(other)
    assert not list(other.log(limit=None))


def test_a_missing_bundle_is_said_to_be_missing(other: casckpt.Store, file: Path) -> None:
    for call in (lambda: apply(other, file), lambda: bundle_list(file)):
        with pytest.raises(NotFoundError):
            call()


# ---- interruptions


def killed_at(number: int, place: Any, name: str, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed at call `number` of a function; whether it came so far."""
    child = os.fork()
    if not child:
        original, left = getattr(place, name), [number]

        def counting(*args: Any, **options: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return original(*args, **options)

        setattr(place, name, counting)
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


class Sink:
    """The file of a bundle that is being made, with a call for each write."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: Any) -> int:
        return wrote(self.file, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def wrote(file: Any, data: Any) -> int:
    done: int = file.write(data)
    file.flush()
    return done


def test_a_bundle_that_is_killed_at_any_write_is_not_there(
    store: casckpt.Store, other: casckpt.Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = filled(store)
    store.close()

    class Writer(bundle_objects.BundleWriter):
        def __init__(self, target: Any, *rest: Any) -> None:
            super().__init__(Sink(target), *rest)

    monkeypatch.setattr(bundles, "BundleWriter", Writer)

    def work() -> None:
        with casckpt.open(store.path) as opened:
            create(opened, file, everything=True)

    number = 0
    while killed_at(number, sys.modules[__name__], "wrote", work):
        assert not file.exists()
        assert len(list(file.parent.glob(f".{file.name}.*"))) <= 1
        number += 1
    assert number > 20
    assert not list(file.parent.glob(f".{file.name}.*"))
    apply(other, file)
    assert_has(other, states)


def test_an_application_that_is_killed_at_any_read_goes_on(store: casckpt.Store, tmp_path: Path, file: Path) -> None:
    states = filled(store)
    create(store, file, everything=True)
    with casckpt.init(tmp_path / "new"):
        pass

    def work() -> None:
        with casckpt.open(tmp_path / "new") as opened:
            apply(opened, file)

    number = 0
    while killed_at(number, bundle_objects, "read_exact", work):
        with casckpt.open(tmp_path / "new") as opened:
            assert not refs(opened)
            assert opened.fsck().ok
        number += 1
    assert number > 10
    with casckpt.open(tmp_path / "new") as opened:
        assert refs(opened) == refs(store)
        assert_has(opened, states)


def test_a_full_disk_leaves_nothing_behind(store: casckpt.Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)

    class Full(Sink):
        def write(self, data: Any) -> int:
            if self.file.tell() > 2_000_000:
                raise OSError(28, "No space left on device")
            return wrote(self.file, data)

    class Writer(bundle_objects.BundleWriter):
        def __init__(self, target: Any, *rest: Any) -> None:
            super().__init__(Full(target), *rest)

    monkeypatch.setattr(bundles, "BundleWriter", Writer)
    with pytest.raises(StorageError) as raised:
        create(store, file, everything=True)
    assert raised.value.errno == 28
    assert not list(file.parent.glob(f"*{file.name}*"))
