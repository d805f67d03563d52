"""The remotes a store knows: what holds for each, and that a change is whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import casckpt
from casckpt.errors import (
    InvalidName,
    InvalidSetting,
    NotUndoable,
    RemoteExists,
    RemoteNotFound,
    SecretInUrl,
    UnknownSetting,
    UsageError,
)
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId, ObjectId
from casckpt.ops.remotes import Remote, forget_seen, remote_of
from tests.cli.scenes import append


@pytest.fixture
def store(tmp_path: Path) -> casckpt.Store:
    return casckpt.init(tmp_path / "s")


def file_of(store: casckpt.Store) -> str:
    assert store.path is not None
    return (store.path / "config.toml").read_text()


def test_a_remote_is_kept_with_all_that_is_said_of_it(store: casckpt.Store) -> None:
    made = store.add_remote(
        "lab", "s3://bucket/x", profile="team", limit_rate="20MiB", timeout="10min", path_style=True
    )
    assert made == Remote("lab", "s3://bucket/x", "team", path_style=True, limit_rate=20 << 20, timeout_s=600.0)
    assert store.remotes() == [made]
    store.add_remote("nas", "/srv/x", concurrency=2)
    assert [remote.name for remote in store.remotes()] == ["lab", "nas"]
    assert store.set_remote("nas", "cost.put", "0.005").cost == (("put", 0.005),)
    assert store.set_remote("nas", "concurrency", None) == Remote("nas", "/srv/x", cost=(("put", 0.005),))
    assert store.remove_remote("lab") == made
    assert file_of(store) == '[remote.nas]\nurl = "/srv/x"\n\n[remote.nas.cost]\nput = 0.005\n'


def test_a_store_in_memory_has_remotes_too() -> None:
    with casckpt.memory() as store:
        store.add_remote("nas", "/srv/x")
        assert [remote.url for remote in store.remotes()] == ["/srv/x"]


def test_a_dry_run_says_what_would_be_and_changes_nothing(store: casckpt.Store) -> None:
    assert store.add_remote("lab", "s3://b", dry_run=True).url == "s3://b"
    assert store.remotes() == []
    store.add_remote("lab", "s3://b", region="eu")
    before = file_of(store)
    assert store.set_remote("lab", "concurrency", 9, dry_run=True) == Remote(
        "lab", "s3://b", region="eu", concurrency=9
    )
    assert store.set_remote("lab", "region", None, dry_run=True) == Remote("lab", "s3://b")
    assert store.remove_remote("lab", dry_run=True).name == "lab"
    assert file_of(store) == before


def test_what_cannot_be_is_refused_and_changes_nothing(store: casckpt.Store) -> None:
    store.add_remote("lab", "s3://b")
    before = file_of(store)
    for error, call in [
        (RemoteExists, lambda: store.add_remote("lab", "s3://c")),
        (InvalidName, lambda: store.add_remote("a.b", "s3://c")),
        (SecretInUrl, lambda: store.add_remote("x", "s3://key:secret@c")),
        (SecretInUrl, lambda: store.set_remote("lab", "endpoint", "https://u:p@host")),
        (UnknownSetting, lambda: store.add_remote("x", "s3://c", speed=3)),
        (UnknownSetting, lambda: store.set_remote("lab", "speed", 3)),
        (InvalidSetting, lambda: store.set_remote("lab", "concurrency", "many")),
        (InvalidSetting, lambda: store.add_remote("x", "")),
        (UsageError, lambda: store.set_remote("lab", "url", None)),
        (RemoteNotFound, lambda: store.set_remote("x", "region", "eu")),
        (RemoteNotFound, lambda: store.remove_remote("x")),
    ]:
        with pytest.raises(error):
            call()
    assert file_of(store) == before


def test_one_remote_is_meant_without_a_name_and_of_several_origin(store: casckpt.Store) -> None:
    storage = store._repository.storage
    with pytest.raises(RemoteNotFound, match="no remote yet"):
        remote_of(storage, None)
    store.add_remote("nas", "/a")
    assert remote_of(storage, None).name == "nas"
    store.add_remote("lab", "/b")
    with pytest.raises(UsageError, match="nas, lab"):
        remote_of(storage, None)
    store.add_remote("origin", "/c")
    assert remote_of(storage, None).name == "origin"
    with pytest.raises(RemoteNotFound, match="did you mean 'origin'"):
        remote_of(storage, "orgin")


def test_stronger_places_win_and_mistakes_stop_what_they_are_about(store: casckpt.Store) -> None:
    store.add_remote("nas", "/a", limit_rate="1MB")
    storage = store._repository.storage
    assert remote_of(storage, "nas", {"remote.nas.limit_rate": "2MB", "remote.x.region": "eu"}).limit_rate == 2_000_000
    assert store.path is not None
    with (store.path / "config.toml").open("a") as file:
        file.write("policy = 'hope'\n")
    with pytest.raises(InvalidSetting, match="line"):
        store.remotes()
    with casckpt.open(store.path) as again:  # what is wrong with a remote does not concern commits
        again.commit({"a": 1})


def test_a_remote_goes_with_its_tracking_refs_and_with_what_was_seen_of_it(store: casckpt.Store) -> None:
    store.add_remote("nas", "/a")
    identity = CommitId(ObjectId(bytes.fromhex(store.commit({"a": 1}, run="gpt").id)))
    assert store.path is not None
    store.close()
    store = casckpt.open(store.path)
    append(store._repository, Entry("fetch", 1, refs=(RefMove("remotes/nas/runs/gpt/last", None, identity),), by="t"))
    store = casckpt.open(store.path)
    seen = store.path / "remotes" / "nas"  # type: ignore[operator]
    (seen / "index").mkdir(parents=True)
    (seen / "seen").write_bytes(b"1")
    (seen / "index" / "a").write_bytes(b"1")
    store.remove_remote("nas", dry_run=True)
    assert store._repository.database.refs("remotes/")
    assert (seen / "seen").exists()
    store.remove_remote("nas")
    assert not store._repository.database.refs("remotes/")
    assert [path for path in seen.rglob("*") if path.is_file()] == []
    number = next(iter(store.operations(1))).number
    with pytest.raises(NotUndoable):
        store.undo(number)
    assert store.show("gpt").step is None
    forget_seen(store._repository.storage, "nas")
