"""What a fetch brings, what it leaves out, and what it says of either."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import NotFetched, NotOnRemote, PartNotFetched, RemoteUnavailable, UsageError
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb.repository import Repository
from casckpt.ops.fetch import fetch
from casckpt.ops.fetch_choice import Selection
from casckpt.ops.fetch_reports import FetchReport
from casckpt.plan.transfer import ABSENT
from tests.support.remote_content import HandMade, Watched, failing_at, upload

MIB = 1 << 20


def state(step: int) -> dict[str, Any]:
    noise = np.random.default_rng(step)
    return {
        "model": {"weight": noise.standard_normal(200_000), "frozen": np.arange(300_000.0), "bias": noise.bytes(900)},
        "optimizer": {"moment": noise.standard_normal(150_000), "step": step},
        "rng": {"seed": step},
        "step": step,
    }


def same(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return np.array_equal(left, right) if isinstance(left, np.ndarray) else bool(left == right)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[casckpt.Store]:
    """Six commits of a run, `best` at the third, and another run of one."""
    with casckpt.init(tmp_path_factory.mktemp("source") / "s") as made:
        for step in range(6):
            made.commit(state(step), run="gpt", step=step, metrics={"loss": abs(step - 2)}, best="loss:min")
        made.commit({"other": noise_of(9)}, run="other", config={"lr": 1})
        yield made


def noise_of(seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(1000)


@pytest.fixture(scope="module")
def remote(source: casckpt.Store) -> HandMade:
    made = HandMade()
    upload(repository_of(source), made)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "target") as made:
        yield made


def repository_of(store: casckpt.Store) -> Repository:
    repository: Repository = store._repository
    return repository


def fetched(store: casckpt.Store, remote: Any, *, dry_run: bool = False, **selection: Any) -> FetchReport:
    objects = remote.objects if isinstance(remote, HandMade) else remote
    return fetch(repository_of(store), objects, "origin", Selection(**selection), dry_run=dry_run)


def tracking(store: casckpt.Store) -> dict[str, str]:
    database = repository_of(store).database
    database.refresh()
    return {name: commit.hex() for name, commit in database.refs("remotes/").items()}


def rules(store: casckpt.Store) -> dict[int, tuple[Any, str]]:
    """What is recorded as lost, by step."""
    database = repository_of(store).database
    database.refresh()
    steps = {identity: commit.step for identity, commit in database.commits()}
    return {steps[identity] or 0: (drop.parts, drop.rule) for identity, drop in database.drops().items()}


def journal(store: casckpt.Store) -> list[bytes]:
    folder = Path(repository_of(store).storage.path or "") / "journal"
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def commits(source: casckpt.Store) -> dict[int, str]:
    return {one.step: one.id for one in source.log("gpt") if one.step is not None}


# ---- what comes


def test_all_that_a_remote_has_comes_and_is_as_it_was(
    source: casckpt.Store, remote: HandMade, target: casckpt.Store
) -> None:
    report = fetched(target, remote)
    assert (report.commits, report.whole, report.partial, report.absent) == (7, 7, 0, 0)
    for step, identity in commits(source).items():
        assert same(target.checkout(identity), state(step))
    assert target.fsck("full").ok
    assert tracking(target) == {
        f"remotes/origin/{ref}": one.hex() for ref, one in repository_of(source).database.refs().items()
    }
    assert not [name for name in repository_of(target).database.refs() if not name.startswith("remotes/")]
    assert repository_of(target).database.run_settings("gpt")["best"] == ["loss", "min"]


def test_a_second_fetch_is_one_request_and_no_entry(remote: HandMade, target: casckpt.Store) -> None:
    fetched(target, remote)
    before = journal(target)
    watched = Watched(remote.objects)
    report = fetched(target, watched)
    assert [verb for verb, *_ in watched.requests] == ["list"]
    assert (report.operation, report.refs, report.objects) == (None, (), 0)
    assert journal(target) == before


def test_an_incremental_fetch_moves_only_what_is_new(
    source: casckpt.Store, tmp_path: Path, target: casckpt.Store
) -> None:
    with casckpt.init(tmp_path / "grows") as grows:
        remote = HandMade()
        grows.commit(state(0), run="gpt", step=0)
        upload(repository_of(grows), remote)
        fetched(target, remote)
        grows.commit(state(1), run="gpt", step=1)
        upload(repository_of(grows), remote)
    watched = Watched(remote.objects)
    report = fetched(target, watched)
    assert (report.commits, report.whole) == (1, 1)
    assert watched.count("list") == 1
    assert watched.count("get", "root/") == watched.count("get", "index/") == 1
    assert len(watched.requests) <= 7
    assert watched.down < 350_000 * 8 + MIB
    assert same(target.checkout(tracking(target)["remotes/origin/runs/gpt/last"]), state(1))


def test_one_run_one_ref_or_one_commit_may_be_asked_for(
    source: casckpt.Store, remote: HandMade, target: casckpt.Store
) -> None:
    assert fetched(target, remote, runs=["other"]).commits == 1
    assert list(tracking(target)) == ["remotes/origin/runs/other/last"]
    assert fetched(target, remote, refs=["gpt/best"]).commits == 3
    assert fetched(target, remote, revisions=[commits(source)[3][:10]]).commits == 1
    assert sorted(tracking(target)) == ["remotes/origin/runs/gpt/best", "remotes/origin/runs/other/last"]


@pytest.mark.parametrize("wrong", [{"runs": ["gtp"]}, {"refs": ["gpt/lst"]}, {"revisions": ["0" * 64]}])
def test_what_is_not_there_is_an_error_that_helps(
    wrong: dict[str, Any], remote: HandMade, target: casckpt.Store
) -> None:
    before = journal(target)
    with pytest.raises(NotOnRemote):
        fetched(target, remote, **wrong)
    assert journal(target) == before


def test_what_nobody_can_mean_is_refused_at_once(remote: HandMade, target: casckpt.Store) -> None:
    for wrong in ({"depth": -1}, {"revisions": ["../x"]}, {"only": []}):
        with pytest.raises(UsageError):
            fetched(target, remote, **wrong)


def test_an_empty_remote_has_nothing(target: casckpt.Store) -> None:
    report = fetched(target, HandMade())
    assert (report.root, report.commits, report.operation) == (0, 0, None)


def test_a_dry_run_tells_the_same_and_changes_nothing(remote: HandMade, target: casckpt.Store) -> None:
    before = journal(target)
    tried = fetched(target, remote, dry_run=True)
    assert journal(target) == before
    done = fetched(target, remote)
    facts = ("refs", "root", "commits", "whole", "partial", "absent", "objects")
    assert [getattr(tried, fact) for fact in facts] == [getattr(done, fact) for fact in facts]
    assert (tried.operation, tried.dry_run) == (None, True)
    assert tried.nbytes >= done.nbytes > 0


def test_a_ref_that_was_removed_there_is_tracked_no_more(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)
    fetched(target, remote)
    remote.append(*remote.root.segments, refs={})  # type: ignore[union-attr]
    report = fetched(target, remote)
    assert not tracking(target)
    assert all(ref.new is None for ref in report.refs)


# ---- part of it


def test_depth_brings_names_of_all_and_content_of_the_newest(
    source: casckpt.Store, remote: HandMade, target: casckpt.Store
) -> None:
    report = fetched(target, remote, refs=["gpt/last"], depth=2)
    assert (report.commits, report.whole, report.absent) == (6, 2, 4)
    assert rules(target) == dict.fromkeys(range(4), (None, ABSENT))
    ids = commits(source)
    assert same(target.checkout(ids[4]), state(4))
    with pytest.raises(NotFetched, match="casckpt fetch REMOTE"):
        target.checkout(ids[3])
    assert fetched(target, remote, refs=["gpt/last"]).operation is None
    assert fetched(target, remote, refs=["gpt/last"], depth=3).whole == 1
    assert fetched(target, remote, refs=["gpt/last"], whole=True).whole == 3
    assert rules(target) == {}
    assert same(target.checkout(ids[0]), state(0))
    assert target.fsck("full").ok


def test_only_some_components_come_and_the_others_later(
    source: casckpt.Store, remote: HandMade, target: casckpt.Store
) -> None:
    watched = Watched(remote.objects)
    report = fetched(target, watched, refs=["gpt/last"], depth=1, only=["model/**"])
    assert (report.partial, report.whole) == (1, 0)
    assert watched.down < 200_000 * 8 + 300_000 * 8 + MIB
    last = commits(source)[5]
    assert rules(target)[5] == (("optimizer", "rng"), ABSENT)
    assert same(target.checkout(last, select="model/**"), {"model": state(5)["model"]})
    with pytest.raises(PartNotFetched):
        target.checkout(last)
    assert fetched(target, remote, revisions=[last], only=["rng"]).partial == 1
    assert rules(target)[5] == (("optimizer",), ABSENT)
    assert fetched(target, remote, revisions=[last]).whole == 1
    assert 5 not in rules(target)
    assert same(target.checkout(last), state(5))


def test_records_of_drops_there_become_records_here(tmp_path: Path, target: casckpt.Store) -> None:
    with casckpt.init(tmp_path / "dropping") as dropping:
        for step in range(4):
            dropping.commit(state(step), run="gpt", step=step)
        dropping.drop("gpt~1")
        dropping.drop("gpt~2", parts=["optimizer"])
        remote = HandMade()
        upload(repository_of(dropping), remote)
        expected = rules(dropping)
    report = fetched(target, remote)
    assert (report.whole, report.partial, report.absent) == (3, 0, 1)
    assert rules(target) == expected
    assert target.fsck("full").ok


def test_what_was_dropped_there_later_stays_here(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)
    fetched(target, remote)
    gone = Drop(CommitId(ObjectId(bytes.fromhex(commits(source)[1]))), None, "keep_last", 5)
    remote.append(*remote.root.segments, drops=(gone,))  # type: ignore[union-attr]
    fetched(target, remote, whole=True)
    assert rules(target) == {}


def test_what_was_dropped_here_by_a_rule_comes_back_only_by_name(
    source: casckpt.Store, remote: HandMade, target: casckpt.Store
) -> None:
    fetched(target, remote)
    first = commits(source)[0]
    target.drop(first)
    target.gc(now=True)
    assert fetched(target, remote, whole=True).operation is None
    assert fetched(target, remote, revisions=[first]).whole == 1
    assert same(target.checkout(first), state(0))


def test_a_forgotten_commit_does_not_come_back(source: casckpt.Store, remote: HandMade, target: casckpt.Store) -> None:
    fetched(target, remote)
    first = commits(source)[0]
    target.forget(first)
    fetched(target, remote, whole=True)
    fetched(target, remote, revisions=[first])
    assert first not in {one.id for one in target.log(tracking(target)["remotes/origin/runs/gpt/last"])}


# ---- interruptions


def test_after_a_failure_at_any_request_the_next_try_ends_as_one_without(remote: HandMade, tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "whole") as whole:
        watched = Watched(remote.objects)
        fetched(whole, watched)
        expected, count = (tracking(whole), rules(whole)), len(watched.requests)
    for number in range(count):
        with casckpt.init(tmp_path / f"try{number}") as store:
            with pytest.raises(RemoteUnavailable):
                fetched(store, Watched(remote.objects, failing_at(number)))
            assert not tracking(store)
            assert not list(repository_of(store).database.commits())
            again = Watched(remote.objects)
            fetched(store, again)
            assert (tracking(store), rules(store)) == expected
            assert store.fsck("full").ok
            # What came before the failure does not come again, but for what fits into a frame.
            if number > count - 2:
                assert again.down < watched.down


def test_an_interrupted_fetch_keeps_what_came(remote: HandMade, target: casckpt.Store) -> None:
    whole = Watched(remote.objects)
    fetched(target, whole, dry_run=True)

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > 6 * MIB:
            raise Enough

    with pytest.raises(Enough):
        fetch(repository_of(target), remote.objects, "origin", progress=stop)
    again = Watched(remote.objects)
    report = fetched(target, again)
    assert report.nbytes < 12 * MIB
    assert target.fsck("full").ok


def test_progress_knows_what_is_missing_before_it_comes(remote: HandMade, target: casckpt.Store) -> None:
    seen: list[tuple[int, int]] = []
    fetch(repository_of(target), remote.objects, "origin", progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0 < seen[0][1]
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_journal_tells_of_a_fetch(remote: HandMade, target: casckpt.Store) -> None:
    fetched(target, remote)
    newest = next(iter(target.operations()))
    assert (newest.op, newest.note) == ("fetch", "from origin")


def test_whatever_ends_a_fetch_no_thread_is_left(remote: HandMade, target: casckpt.Store) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        fetch(repository_of(target), remote.objects, "origin", progress=stop)
    assert threading.active_count() == before
