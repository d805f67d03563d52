"""The remotes a store knows: which one is meant, and which place wins."""

from __future__ import annotations

from pathlib import Path

import pytest

import casckpt
from casckpt.errors import InvalidSetting, RemoteNotFound, UsageError
from casckpt.ops.remotes import remote_of
from casckpt.ops.settings import StoreSettings


@pytest.fixture
def store(tmp_path: Path) -> casckpt.Store:
    return casckpt.init(tmp_path / "s")


def test_one_remote_is_meant_without_a_name_and_of_several_origin(store: casckpt.Store) -> None:
    storage = store._repository.storage
    with pytest.raises(RemoteNotFound, match="no remote yet"):
        remote_of(storage, None)
    store.add_remote("nas", "/a", probe=False)
    assert remote_of(storage, None).name == "nas"
    store.add_remote("lab", "/b", probe=False)
    with pytest.raises(UsageError, match="nas, lab"):
        remote_of(storage, None)
    store.add_remote("origin", "/c", probe=False)
    assert remote_of(storage, None).name == "origin"
    with pytest.raises(RemoteNotFound, match="did you mean 'origin'"):
        remote_of(storage, "orgin")


def test_stronger_places_win_and_mistakes_stop_what_they_are_about(store: casckpt.Store) -> None:
    store.add_remote("nas", "/a", probe=False, limit_rate="1MB")
    storage = store._repository.storage
    assert remote_of(storage, "nas", {"remote.nas.limit_rate": "2MB", "remote.x.region": "eu"}).limit_rate == 2_000_000
    assert store.path is not None
    with (store.path / "config.toml").open("a") as file:
        file.write("policy = 'hope'\n")
    with pytest.raises(InvalidSetting, match="line"):
        store.remotes()
    with casckpt.open(store.path) as again:  # what is wrong with a remote does not concern commits
        again.commit({"a": 1})


def test_a_call_says_it_for_the_methods_of_a_store_too(store: casckpt.Store) -> None:
    store.add_remote("nas", "/a", probe=False)
    assert store.path is not None
    settings = StoreSettings(remotes={"remote.nas.concurrency": 9})
    with casckpt.open(store.path, settings=settings) as again:
        assert [remote.concurrency for remote in again.remotes()] == [9]
        assert [remote.concurrency for remote in store.remotes()] == [4]
