"""Pull and clone: refs of this store follow those of a remote, and only after all that they name is here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import CommitDropped, Diverged, FolderNotEmpty, RemoteUnavailable, StoreExists
from casckpt.ops.clone import clone
from casckpt.ops.fetch_reports import PullReport
from casckpt.ops.pull import pull
from casckpt.ops.push import push
from casckpt.plan.transfer import ABSENT
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.remote_content import Watched, failing_at
from tests.unit.ops.test_fetch import journal, repository_of, rules, same, state, tracking

Make = Callable[[str], casckpt.Store]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[casckpt.Store] = []

    def new(name: str) -> casckpt.Store:
        made.append(casckpt.init(tmp_path / name))
        return made[-1]

    yield new
    for store in made:
        store.close()


def pulled(store: casckpt.Store, remote: Objects, *names: str, **words: Any) -> PullReport:
    return pull(repository_of(store), remote, "origin", names, **words)


def pushed(store: casckpt.Store, remote: Objects, *names: str, **words: Any) -> None:
    push(repository_of(store), remote, "origin", names, **words)


def refs(store: casckpt.Store) -> dict[str, str]:
    database = repository_of(store).database
    database.refresh()
    return {ref: one.hex() for ref, one in database.refs().items() if not ref.startswith("remotes/")}


def committed(store: casckpt.Store, *steps: int, run: str = "gpt") -> None:
    for step in steps:
        store.commit(state(step), run=run, step=step, metrics={"loss": abs(step - 2)}, best="loss:min")


# ---- pull


def test_what_one_pushes_the_other_pulls_and_goes_on_from(make: Make) -> None:
    one, other, remote = make("one"), make("other"), MemoryObjects()
    committed(one, 0, 1, 2)
    one.tag("v1", "gpt~1")
    pushed(one, remote, everything=True)
    report = pulled(other, remote)
    assert refs(other) == refs(one)
    assert [move.ref for move in report.moves] == ["runs/gpt/best", "runs/gpt/last", "tags/v1"]
    committed(other, 3)
    pushed(other, remote)
    pulled(one, remote)
    assert refs(one) == refs(other)
    assert same(one.checkout("gpt"), state(3))
    before = journal(one)
    assert pulled(one, remote).moves == ()
    assert journal(one) == before


def test_a_pull_asks_for_no_more_than_it_needs(make: Make) -> None:
    one, other, remote = make("one"), make("other"), MemoryObjects()
    committed(one, 0)
    pushed(one, remote)
    pulled(other, remote)
    nothing = Watched(remote)
    pulled(other, nothing)
    assert [verb for verb, *_ in nothing.requests] == ["list"]
    committed(one, 1)
    pushed(one, remote)
    watched = Watched(remote)
    pulled(other, watched)
    packs = watched.count("get", "packs/")
    assert len(watched.requests) - packs == 3
    assert packs <= 3
    assert not watched.count("size")


def test_a_pull_of_one_run_leaves_others_alone(make: Make) -> None:
    one, other, remote = make("one"), make("other"), MemoryObjects()
    committed(one, 0)
    committed(one, 5, run="wide")
    pushed(one, remote, everything=True)
    pulled(other, remote, "wide")
    assert {ref.split("/")[1] for ref in refs(other)} == {"wide"}
    assert all("/wide/" in ref for ref in tracking(other))


def test_commits_on_both_sides_are_refused_or_joined(make: Make) -> None:
    one, other, remote = make("one"), make("other"), MemoryObjects()
    committed(one, 0)
    pushed(one, remote)
    pulled(other, remote)
    committed(one, 4)
    committed(other, 1)
    pushed(one, remote)
    before = refs(other)
    with pytest.raises(Diverged, match="has gone on both here and on memory:") as caught:
        pulled(other, remote)
    ref = caught.value.facts["ref"]
    assert caught.value.facts["ours"] == before[ref][:12]
    assert caught.value.facts["theirs"] == refs(one)[ref][:12]
    assert refs(other) == before
    assert tracking(other)["remotes/origin/runs/gpt/last"] == refs(one)["runs/gpt/last"]
    pulled(other, remote, policy="newest")
    assert refs(other)["runs/gpt/last"] == before["runs/gpt/last"]
    loser = refs(one)["runs/gpt/last"]
    assert refs(other)[f"conflicts/runs/gpt/last/{loser[:12]}"] == loser
    pushed(other, remote, policy="newest")
    pulled(one, remote, policy="newest")
    assert refs(one)["runs/gpt/last"] == before["runs/gpt/last"]


def test_what_is_ahead_here_stays(make: Make) -> None:
    one, other, remote = make("one"), make("other"), MemoryObjects()
    committed(one, 0)
    pushed(one, remote)
    pulled(other, remote)
    committed(other, 1)
    before = refs(other)
    assert pulled(other, remote).moves == ()
    assert refs(other) == before


def test_a_dry_run_of_a_pull_tells_the_moves_and_makes_none(make: Make) -> None:
    one, other, remote = make("one"), make("other"), MemoryObjects()
    committed(one, 0, 1)
    pushed(one, remote)
    pulled(other, remote)
    committed(one, 2)
    pushed(one, remote)
    before = journal(other)
    tried = pulled(other, remote, dry_run=True)
    assert journal(other) == before
    assert tried.moves == pulled(other, remote).moves != ()


# ---- clone


def cloned(tmp_path: Path, remote: Objects, name: str, **words: Any) -> tuple[casckpt.Store, PullReport]:
    repository, report = clone(LocalStorage(tmp_path / name), remote, **words)
    repository.close()
    return casckpt.open(tmp_path / name), report


def test_a_clone_has_all_in_few_requests(make: Make, tmp_path: Path) -> None:
    one, remote = make("one"), MemoryObjects()
    for step in range(5):
        committed(one, step)
        pushed(one, remote)
    committed(one, 3, run="wide")
    pushed(one, remote, everything=True)
    watched = Watched(remote)
    store, report = cloned(tmp_path, watched, "clone")
    with store:
        assert refs(store) == refs(one)
        assert store.fsck("full").ok
        for commit in one.log():
            assert same(store.checkout(commit.id), one.checkout(commit.id))
        segments = watched.count("get", "index/")
        assert len(watched.requests) - watched.count("get", "packs/") <= 3 + segments
        assert watched.count("list") == 1
        # Of each push one pack of chunks and one of metadata.
        assert watched.count("get", "packs/") <= 2 * segments + 1
        assert report.fetched.requests["get"] == watched.count("get")


def test_a_store_with_drops_is_cloned_with_them(make: Make, tmp_path: Path) -> None:
    one, remote = make("one"), MemoryObjects()
    committed(one, 0, 1, 2, 3)
    one.drop("gpt~2")
    one.drop("gpt~3", parts=["optimizer"])
    pushed(one, remote)
    store, _ = cloned(tmp_path, remote, "clone")
    with store:
        assert rules(store) == rules(one)
        assert same(store.checkout("gpt~3", select="model/**"), {"model": state(0)["model"]})
        with pytest.raises(CommitDropped):
            store.checkout("gpt~2")
        assert store.fsck("full").ok
        other = MemoryObjects()
        push(repository_of(store), other, "elsewhere", ["gpt"])
        again, _ = cloned(tmp_path, other, "again")
        with again:
            assert rules(again) == rules(one)


def test_a_shallow_clone_goes_on_being_shallow_and_pushes(make: Make, tmp_path: Path) -> None:
    one, remote = make("one"), MemoryObjects()
    committed(one, 2, 1, 0)
    pushed(one, remote)
    store, _ = cloned(tmp_path, remote, "clone", depth=1)
    with store:
        assert rules(store) == {1: (None, ABSENT)}
        committed(store, 5)
        pushed(store, remote)
        committed(one_more(one, remote), 6)
        pushed(one, remote)
        pulled(store, remote)
        assert rules(store) == {1: (None, ABSENT)}
        assert same(store.checkout("gpt"), state(6))
        assert store.fsck("full").ok
    assert rules(one) == {}


def one_more(store: casckpt.Store, remote: Objects) -> casckpt.Store:
    pulled(store, remote)
    return store


def test_a_clone_goes_into_an_empty_folder_only(make: Make, tmp_path: Path) -> None:
    one, remote = make("one"), MemoryObjects()
    committed(one, 0)
    pushed(one, remote)
    with pytest.raises(StoreExists):
        clone(LocalStorage(tmp_path / "one"), remote)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(FolderNotEmpty):
        clone(LocalStorage(tmp_path / "full"), remote)


def test_an_interrupted_clone_goes_on_and_ends_as_one_without(make: Make, tmp_path: Path) -> None:
    one, remote = make("one"), MemoryObjects()
    committed(one, 0, 1, 2)
    pushed(one, remote, everything=True)
    watched = Watched(remote)
    store, _ = cloned(tmp_path, watched, "whole")
    with store:
        expected = refs(store), tracking(store), rules(store)
    for number in range(len(watched.requests)):
        with pytest.raises(RemoteUnavailable):
            clone(LocalStorage(tmp_path / f"clone{number}"), Watched(remote, failing_at(number)))
        store, _ = cloned(tmp_path, remote, f"clone{number}")
        with store:
            assert (refs(store), tracking(store), rules(store)) == expected
            assert store.fsck("full").ok
