"""The journal as the reflog: what refs named before, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import RevisionNotFound, UsageError
from casckpt.format.entry import Entry, RefMove
from casckpt.odb import seal
from casckpt.odb.journal import Journal, Tail


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def line(store: casckpt.Store, *losses: float, run: str = "gpt") -> list[str]:
    return [
        store.commit({"n": n}, run=run, step=n, metrics={"loss": loss}, best="loss:min").id
        for n, loss in enumerate(losses)
    ]


def sealed(store: casckpt.Store) -> None:
    """Begin another journal file."""
    repository = store._repository
    with repository.storage.lock("journal", exclusive=True, wait_s=0):
        repository.database.refresh()
        seal.seal(repository.database, uuid=repository.format.uuid, time_ns=1, by="test")


def moves(store: casckpt.Store, ref: str | None = None, **given: Any) -> list[tuple[str, str | None, str | None]]:
    return [(change.ref, change.old, change.new) for change in store.reflog(ref, **given)]


def test_a_ref_is_followed_back_through_all_journal_files(store: casckpt.Store) -> None:
    ids = line(store, 0.5, 0.25)
    sealed(store)
    ids += line(store, 0.75)
    sealed(store)
    sealed(store)
    ids += line(store, 0.125)
    assert moves(store, "gpt") == [
        ("runs/gpt/last", ids[2], ids[3]),
        ("runs/gpt/last", ids[1], ids[2]),
        ("runs/gpt/last", ids[0], ids[1]),
        ("runs/gpt/last", None, ids[0]),
    ]
    assert [new for _, _, new in moves(store, "gpt/best")] == [ids[3], ids[1], ids[0]]
    assert {change.reason for change in store.reflog()} == {"commit"}
    times = [change.time_ns for change in store.reflog()]
    assert times == sorted(times, reverse=True)


def test_all_changes_in_their_order_make_the_refs_of_now(store: casckpt.Store) -> None:
    line(store, 0.5, 0.25)
    store.tag("v1", "gpt~1")
    sealed(store)
    line(store, 0.75, 0.5, run="wide")
    tagged = store._repository.database.ref("tags/v1")
    with store._repository.session() as session:  # as a journal may say of a tag that is given again
        session.publish(lambda: (Entry("tag", 7, refs=(RefMove("tags/v1", tagged, tagged),)), []))
    refs: dict[str, str | None] = {}
    for name, old, new in reversed(moves(store)):
        assert refs.get(name) == old
        refs[name] = new
    assert refs == {name: identity.hex() for name, identity in store._repository.database.refs().items()}
    assert len(moves(store, "v1")) == 1


def test_every_way_to_name_a_ref(store: casckpt.Store) -> None:
    line(store, 0.5)
    store.tag("v1")
    for name, ref in {
        "@": "runs/gpt/last", "last": "runs/gpt/last", "best": "runs/gpt/best", "gpt": "runs/gpt/last",
        "gpt/best": "runs/gpt/best", "runs/gpt": "runs/gpt/last", "v1": "tags/v1", "tags/v1": "tags/v1",
    }.items():  # fmt: skip
        assert [found for found, _, _ in moves(store, name)] == [ref], name
    for name in ("gtp", "gpt~1", store.show().id, "gpt/recovery", "\ud800"):
        with pytest.raises(RevisionNotFound):
            moves(store, name)


def test_a_ref_that_was_removed_has_its_past(store: casckpt.Store) -> None:
    [identity] = line(store, 0.5)
    store.tag("v1")
    commit = store._repository.database.ref("tags/v1")
    with store._repository.session() as session:
        session.publish(lambda: (Entry("untag", 7, refs=(RefMove("tags/v1", commit, None),), note="wrong"), []))
    removed, made = store.reflog("v1")
    assert (removed.old, removed.new, removed.reason, removed.note) == (identity, None, "untag", "wrong")
    assert (made.old, made.new) == (None, identity)


def test_only_the_files_that_are_asked_for_are_read(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    line(store, 0.5)
    sealed(store)
    ids = line(store, 0.25)
    read: list[int] = []
    read_file = Journal.read_file

    def recorded(journal: Journal, number: int) -> Tail:
        read.append(number)
        return read_file(journal, number)

    monkeypatch.setattr(Journal, "read_file", recorded)
    assert [change.new for change in store.reflog(limit=1)] == [ids[0]]
    assert read == [1]
    assert moves(store, limit=0) == []
    with pytest.raises(UsageError):
        moves(store, limit=-1)


def test_where_the_journal_before_is_gone_the_snapshot_says_what_is_known(store: casckpt.Store) -> None:
    ids = line(store, 0.5, 0.25)
    sealed(store)
    ids += line(store, 0.125)
    store._repository.storage.unlink("journal/0.log")
    assert [(change.old, change.new, change.reason) for change in store.reflog("gpt")] == [
        (ids[1], ids[2], "commit"),
        (None, ids[1], "snapshot"),
    ]


def test_an_empty_store_has_no_changes(store: casckpt.Store) -> None:
    assert moves(store) == []


def test_changes_in_damaged_frames_are_missing_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with casckpt.init(tmp_path / "store") as store:
        ids = line(store, 0.5, 0.25, 0.125)
        frame = store._repository.database.journal.read_file(0).frames[2].frame
    path = tmp_path / "store" / "journal" / "0.log"
    data = bytearray(path.read_bytes())
    data[frame.offset + 100] ^= 1
    path.write_bytes(data)
    with casckpt.open(tmp_path / "store") as store:
        found = [(change.old, change.new) for change in store.reflog("gpt")]
    assert found == [(ids[1], ids[2]), (None, ids[0])]
    assert "journal/0.log are damaged" in caplog.text
