"""What a store knows of its remotes is changed wholly, or not at all."""

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
from casckpt.ops.remote_changes import forget_seen
from casckpt.ops.remotes import Remote
from tests.cli.scenes import append


@pytest.fixture
def store(tmp_path: Path) -> casckpt.Store:
    return casckpt.init(tmp_path / "s")


def file_of(store: casckpt.Store) -> str:
    assert store.path is not None
    return (store.path / "config.toml").read_text()


def test_a_remote_is_kept_with_all_that_is_said_of_it(store: casckpt.Store) -> None:
    made = store.add_remote("lab", "s3://bucket/x", probe=False, profile="team", limit_rate="20MiB", timeout="10min")
    assert made == Remote("lab", "s3://bucket/x", "team", limit_rate=20 << 20, timeout_s=600.0)
    assert store.remotes() == [made]
    store.add_remote("nas", "/srv/x", probe=False, concurrency=2)
    assert [remote.name for remote in store.remotes()] == ["lab", "nas"]
    assert store.set_remote("nas", "cost.put", "0.005").cost == (("put", 0.005),)
    assert store.set_remote("nas", "concurrency", None) == Remote("nas", "/srv/x", cost=(("put", 0.005),))
    assert store.remove_remote("lab") == made
    assert file_of(store) == '[remote.nas]\nurl = "/srv/x"\n\n[remote.nas.cost]\nput = 0.005\n'


def test_a_store_in_memory_has_remotes_too() -> None:
    with casckpt.memory() as store:
        store.add_remote("nas", "/srv/x", probe=False)
        assert [remote.url for remote in store.remotes()] == ["/srv/x"]


def test_a_dry_run_says_what_would_be_and_changes_nothing(store: casckpt.Store) -> None:
    assert store.add_remote("lab", "s3://bbb", probe=False, dry_run=True).url == "s3://bbb"
    assert store.remotes() == []
    store.add_remote("lab", "s3://bbb", probe=False, region="eu")
    before = file_of(store)
    assert store.set_remote("lab", "concurrency", 9, dry_run=True) == Remote(
        "lab", "s3://bbb", region="eu", concurrency=9
    )
    assert store.set_remote("lab", "region", None, dry_run=True) == Remote("lab", "s3://bbb")
    assert store.remove_remote("lab", dry_run=True).name == "lab"
    assert file_of(store) == before


def test_what_cannot_be_is_refused_and_changes_nothing(store: casckpt.Store) -> None:
    store.add_remote("lab", "s3://bbb", probe=False)
    before = file_of(store)
    for error, call in [
        (RemoteExists, lambda: store.add_remote("lab", "s3://ccc", probe=False)),
        (InvalidName, lambda: store.add_remote("a.b", "s3://ccc", probe=False)),
        (SecretInUrl, lambda: store.add_remote("x", "s3://key:secret@ccc", probe=False)),
        (SecretInUrl, lambda: store.set_remote("lab", "endpoint", "https://u:p@host")),
        (UnknownSetting, lambda: store.add_remote("x", "s3://ccc", probe=False, speed=3)),
        (UnknownSetting, lambda: store.set_remote("lab", "speed", 3)),
        (InvalidSetting, lambda: store.set_remote("lab", "concurrency", "many")),
        (InvalidSetting, lambda: store.add_remote("x", "", probe=False)),
        (UsageError, lambda: store.set_remote("lab", "url", None)),
        (RemoteNotFound, lambda: store.set_remote("x", "region", "eu")),
        (RemoteNotFound, lambda: store.remove_remote("x")),
    ]:
        with pytest.raises(error):
            call()
    assert file_of(store) == before


def test_a_remote_goes_with_its_tracking_refs_and_with_what_was_seen_of_it(store: casckpt.Store) -> None:
    store.add_remote("nas", "/a", probe=False)
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


def test_a_remote_is_tried_out_before_it_is_known(store: casckpt.Store, tmp_path: Path) -> None:
    with pytest.raises(RemoteNotFound, match="mounted"):
        store.add_remote("nas", str(tmp_path / "nowhere"))
    with pytest.raises(RemoteNotFound, match="mounted"):
        store.add_remote("nas", str(tmp_path / "nowhere"), dry_run=True)
    (tmp_path / "nas").mkdir()
    store.add_remote("nas", str(tmp_path / "nas"), dry_run=True)
    assert not any((tmp_path / "nas").iterdir())
    store.add_remote("nas", str(tmp_path / "nas"))
    assert not [path for path in (tmp_path / "nas").rglob("*") if path.is_file()]


def test_a_folder_is_known_by_its_whole_path(
    store: casckpt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nas").mkdir()
    monkeypatch.chdir(tmp_path)
    store.add_remote("nas", "nas")
    monkeypatch.chdir("/")
    assert store.remotes()[0].url == str(tmp_path / "nas")
    store.probe_remote("nas")
