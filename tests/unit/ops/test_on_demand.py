"""What a commit lost here and a remote still holds comes when it is read, and no more than that."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import CommitDropped, CommitThinned, NotFetched, RemoteUnavailable
from casckpt.format.ids import Kind
from casckpt.ops.on_demand import OnDemand, Place
from casckpt.plan.transfer import ABSENT
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.remote_content import Watched, failing_at
from tests.unit.ops.test_fetch import fetched, repository_of, rules, same, state
from tests.unit.ops.test_pull import committed, pulled, pushed

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "source") as made:
        committed(made, 0, 1, 2, 3)
        yield made


@pytest.fixture
def remote(source: casckpt.Store) -> MemoryObjects:
    made = MemoryObjects()
    pushed(source, made)
    return made


def asking(store: casckpt.Store, *places: Objects) -> casckpt.Store:
    """The store, with remotes that it asks."""
    repository = repository_of(store)

    def place(number: int, objects: Objects) -> Place:
        return Place(f"r{number}", lambda: objects, 4)

    repository.ask(OnDemand(repository, lambda: [place(*one) for one in enumerate(places)]))
    return store


@pytest.fixture
def names(tmp_path: Path, remote: MemoryObjects) -> Iterator[casckpt.Store]:
    """A store with the names of all commits and the content of none."""
    with casckpt.init(tmp_path / "names") as made:
        fetched(made, remote, depth=0)
        yield made


def last(store: casckpt.Store) -> str:
    return repository_of(store).database.refs("remotes/")["remotes/origin/runs/gpt/last"].hex()


def test_what_was_never_fetched_comes_when_it_is_checked_out(names: casckpt.Store, remote: MemoryObjects) -> None:
    with pytest.raises(NotFetched, match="casckpt fetch REMOTE"):
        names.checkout(last(names))
    assert same(asking(names, remote).checkout(last(names)), state(3))
    assert rules(names) == dict.fromkeys(range(4), (None, ABSENT))
    assert names.fsck("full").ok


def test_what_retention_dropped_comes_back_for_a_look(source: casckpt.Store, remote: MemoryObjects) -> None:
    source.drop("gpt~3")
    source.gc(now=True)
    with pytest.raises(CommitDropped):
        source.checkout("gpt~3")
    assert same(asking(source, remote).checkout("gpt~3"), state(0))
    assert rules(source) == {0: (None, "by hand")}


def test_components_that_were_thinned_come_too(source: casckpt.Store, remote: MemoryObjects) -> None:
    source.drop("gpt~3", parts=["optimizer"])
    source.gc(now=True)
    with pytest.raises(CommitThinned):
        source.checkout("gpt~3")
    watched = Watched(remote)
    assert same(asking(source, watched).checkout("gpt~3"), state(0))
    assert watched.down < 150_000 * 8 + MIB


def test_one_tensor_brings_its_chunks_and_metadata_alone(names: casckpt.Store, remote: MemoryObjects) -> None:
    watched = Watched(remote)
    asking(names, watched)
    found = names.tree(last(names))["optimizer/moment"]
    metadata = watched.down
    assert metadata < 200_000
    assert np.array_equal(found.read(), state(3)["optimizer"]["moment"])
    assert 150_000 * 8 <= watched.down - metadata <= 150_000 * 8 + MIB
    before = len(watched.requests)
    assert np.array_equal(found.read(), state(3)["optimizer"]["moment"])
    assert np.array_equal(found[5:9], state(3)["optimizer"]["moment"][5:9])
    assert len(watched.requests) == before


def test_rows_bring_only_their_chunks(tmp_path: Path) -> None:
    remote = MemoryObjects()
    wide = np.random.default_rng(1).standard_normal((1000, 1000))
    with casckpt.init(tmp_path / "one") as one, casckpt.init(tmp_path / "other") as other:
        one.commit({"wide": wide}, run="gpt")
        pushed(one, remote)
        fetched(other, remote, depth=0)
        watched = Watched(remote)
        asking(other, watched)
        assert np.array_equal(other.tree(last(other))["wide"][500:510], wide[500:510])
        assert watched.down < 2 * MIB


def test_show_diff_ls_and_export_ask_as_well(names: casckpt.Store, remote: MemoryObjects, tmp_path: Path) -> None:
    watched = Watched(remote)
    asking(names, watched)
    tip = last(names)
    assert {one.path for one in names.ls(tip)} >= {"model", "optimizer"}
    assert {one.path for one in names.diff(f"{tip}~1", tip).leaves} >= {"model/weight", "step"}
    assert watched.down < MIB
    names.export(tip, tmp_path / "out.npz", select="model/weight")
    assert (tmp_path / "out.npz").stat().st_size > 200_000 * 8
    assert watched.down < 200_000 * 8 + 2 * MIB


def test_a_selection_brings_what_it_selects(names: casckpt.Store, remote: MemoryObjects) -> None:
    watched = Watched(remote)
    found = asking(names, watched).checkout(last(names), select="model/weight")
    assert np.array_equal(found["model"]["weight"], state(3)["model"]["weight"])
    assert watched.down < 200_000 * 8 + 2 * MIB


def test_several_remotes_are_asked_in_turn(names: casckpt.Store, remote: MemoryObjects, tmp_path: Path) -> None:
    empty = MemoryObjects()
    assert same(asking(names, empty, remote).checkout(last(names)), state(3))


def test_a_remote_that_does_not_answer_is_an_error_only_where_no_other_has_it(
    names: casckpt.Store, remote: MemoryObjects
) -> None:
    dead = Watched(remote, failing_at(0))
    with pytest.raises(RemoteUnavailable):
        asking(names, dead).checkout(last(names))
    assert same(asking(names, dead, remote).checkout(last(names)), state(3))


def test_what_no_remote_has_is_refused_as_ever(source: casckpt.Store, names: casckpt.Store) -> None:
    with pytest.raises(NotFetched, match="casckpt fetch REMOTE"):
        asking(names, MemoryObjects()).checkout(last(names))


def test_a_failure_on_the_way_leaves_a_live_state_as_it_was(names: casckpt.Store, remote: MemoryObjects) -> None:
    live = state(0)
    watched = Watched(remote)
    asking(names, watched)
    count = len(watched.requests)
    seen: list[int] = []

    def cut(number: int, verb: str, key: str) -> None:
        seen.append(number)
        if verb == "get" and key.startswith("packs/") and len(seen) > count + 4:
            raise RemoteUnavailable(remote="memory:", operation=verb, problem="cut")

    watched.before = cut
    with pytest.raises(RemoteUnavailable):
        names.checkout(last(names), into=live)
    assert same(live, state(0))


def test_what_was_pushed_after_the_first_question_is_found(
    source: casckpt.Store, names: casckpt.Store, remote: MemoryObjects
) -> None:
    asking(names, remote).checkout(last(names))
    committed(source, 9)
    pushed(source, remote)
    fetched(names, remote, depth=0)
    assert same(names.checkout(last(names)), state(9))


def test_a_collection_frees_what_came_and_it_comes_again(names: casckpt.Store, remote: MemoryObjects) -> None:
    asking(names, remote).checkout(last(names))
    held = sum(pack.nbytes for pack in repository_of(names).database.pack_set())
    names.gc(now=True)
    assert sum(pack.nbytes for pack in repository_of(names).database.pack_set()) < held / 2
    assert same(names.checkout(last(names)), state(3))


def test_nobody_is_asked_while_nothing_is_missing(source: casckpt.Store, remote: MemoryObjects) -> None:
    watched = Watched(remote)
    asking(source, watched)
    source.checkout("gpt")
    source.fsck("full")
    source.gc()
    list(source.log())
    assert not watched.requests


def test_a_fetch_after_all_needs_no_chunk_again(names: casckpt.Store, remote: MemoryObjects) -> None:
    asking(names, remote).checkout(last(names))
    watched = Watched(remote)
    assert fetched(names, watched, revisions=[last(names)]).whole == 1
    assert watched.down < MIB
    assert pulled(names, remote).moves
    assert same(names.checkout("gpt"), state(3))


def test_a_shallow_clone_asks_where_it_came_from_unless_a_setting_says_no(
    source: casckpt.Store, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    pushed(source, FolderObjects(shared))
    with casckpt.clone(shared.as_uri(), tmp_path / "clone", depth=1) as store:
        assert rules(store) == dict.fromkeys(range(2), (None, ABSENT))
        assert same(store.checkout("gpt~3"), state(0))
    alone = casckpt.StoreSettings(fetch_on_demand=False)
    with casckpt.open(tmp_path / "clone", settings=alone) as store, pytest.raises(NotFetched):
        store.checkout("gpt~2")
    with casckpt.open(tmp_path / "clone") as store:
        assert same(store.checkout("gpt~2"), state(1))
        assert store.fetch(whole=True).whole == 2
        assert rules(store) == {}


def test_a_store_that_is_only_read_refuses_as_ever(source: casckpt.Store, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    pushed(source, FolderObjects(shared))
    casckpt.clone(shared.as_uri(), tmp_path / "clone", depth=1).close()
    with casckpt.open(tmp_path / "clone", read_only=True) as store, pytest.raises(NotFetched):
        store.checkout("gpt~3")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_of_fork_asks_with_a_lock_and_connections_of_its_own(
    names: casckpt.Store, remote: MemoryObjects
) -> None:
    connected: list[int] = []

    def connect() -> Objects:
        connected.append(os.getpid())
        return remote

    repository = repository_of(names)
    demand = OnDemand(repository, lambda: [Place("r", connect, 4)])
    repository.ask(demand)
    names.checkout(last(names))
    with demand._mutex:  # as another thread of the parent may at the moment of the fork
        pid = os.fork()
        if pid == 0:
            os._exit(0 if demand.need([], Kind.CHUNK) is None and connected[-1] == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert connected == [os.getpid()]
