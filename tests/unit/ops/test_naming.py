"""Tags, pins and notes: names and facts of commits that never change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import casckpt
from casckpt.errors import InvalidName, NotFoundError, RefExists, RevisionNotFound, UsageError
from casckpt.format.entry import Entry, Mark
from casckpt.format.ids import CommitId, ObjectId
from casckpt.format.limits import MAX_MARK_BYTES


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        for step in range(3):
            made.commit({"n": step}, run="gpt", step=step)
        yield made


def steps(store: casckpt.Store) -> list[int | None]:
    return [commit.step for commit in store.log()]


def operations(store: casckpt.Store) -> list[str]:
    return [operation.op for operation in store.operations()]


def expired(store: casckpt.Store, revision: str) -> None:
    """Pin a commit until a moment that is over."""
    identity = CommitId(ObjectId(bytes.fromhex(store.show(revision).id)))
    pin = {"time": 1, "until": time.time_ns() - 1}
    with store._repository.session() as session:
        session.publish(lambda: (Entry("pin", 2, marks=(Mark(identity, "pin", None, pin),)), []))


def test_a_tag_is_removed_and_can_be_given_to_another_commit(store: casckpt.Store) -> None:
    store.tag("v1", "gpt~1")
    with pytest.raises(RefExists):
        store.tag("v1", "gpt")
    assert store.untag("v1").step == 1
    assert store.tag("v1", "gpt").step == 2
    assert store.show("v1").step == 2


def test_a_tag_that_is_not_there_cannot_be_removed(store: casckpt.Store) -> None:
    store.tag("release")
    for name, words in {"relaese": "did you mean 'release'", "gpt": "it is no tag", "\ud800": "it is no tag"}.items():
        with pytest.raises(RevisionNotFound, match=words):
            store.untag(name)
    with pytest.raises(InvalidName):
        store.tag("a b")


def test_a_pinned_commit_stays_in_the_log_when_nothing_else_names_it(store: casckpt.Store) -> None:
    store.pin("gpt")
    for number in (3, 2):
        store.undo(number)
    assert steps(store) == [2, 1, 0]
    store.unpin(store.pins()[0].id)
    assert steps(store) == [0]
    assert store.pins() == []


def test_a_pin_ends_at_its_moment(store: casckpt.Store) -> None:
    day = datetime.now(UTC) + timedelta(days=1)
    pinned = store.pin("gpt", day)
    assert pinned.pinned
    assert abs((pinned.pinned_until or 0) - day.timestamp() * 1e9) < 1e6
    assert store.pin("gpt").pinned_until is None
    assert store.pin("gpt", "30d").to_dict()["pinned_until"]
    expired(store, "gpt~2")
    assert [commit.step for commit in store.pins()] == [2]
    over = store.show("gpt~2")
    assert (over.pinned, over.pinned_until) == (False, None)
    assert not store.unpin("gpt~2").pinned
    with pytest.raises(UsageError):
        store.pin("gpt", "2020-01-01")


def test_an_expired_pin_keeps_nothing(store: casckpt.Store) -> None:
    expired(store, "gpt")
    store.undo(3)
    assert steps(store) == [1, 0]


def test_what_is_not_pinned_cannot_be_unpinned(store: casckpt.Store) -> None:
    with pytest.raises(NotFoundError, match="a pin of commit"):
        store.unpin("gpt")


def test_a_note_takes_the_place_of_the_one_before(store: casckpt.Store) -> None:
    assert store.show().note is None
    assert store.note("@", "lr too high").note == "lr too high"
    assert store.note("@", "lr too low").note == "lr too low"
    assert store.show().to_dict()["note"] == "lr too low"
    assert store.note("@", "").note is None
    assert [commit.note for commit in store.log()] == [None] * 3


def test_a_note_has_the_length_that_the_format_allows(store: casckpt.Store) -> None:
    longest = "n" * (MAX_MARK_BYTES - 3)
    assert store.note("@", longest).note == longest
    for wrong in (longest + "n", "\ud800", 5):
        with pytest.raises(UsageError):
            store.note("@", wrong)  # type: ignore[arg-type]


def test_what_is_so_already_is_no_operation(store: casckpt.Store) -> None:
    store.note("@", "good")
    store.tag("v1")
    store.pin("@")
    before = operations(store)
    store.note("@", "good")
    store.note("@~1", "")
    assert store.tag("v1").refs == ("last", "tag: v1")
    assert store.pin("@").pinned
    assert operations(store) == before


def test_a_dry_run_says_what_would_be_and_changes_nothing(store: casckpt.Store) -> None:
    store.tag("v1")
    store.pin("@~1")
    before = operations(store)
    assert "tag: v2" in store.tag("v2", dry_run=True).refs
    assert "tag: v1" not in store.untag("v1", dry_run=True).refs
    assert store.pin("@", dry_run=True).pinned
    assert not store.unpin("@~1", dry_run=True).pinned
    assert store.note("@", "good", dry_run=True).note == "good"
    with pytest.raises(RefExists):
        store.tag("v1", "@~1", dry_run=True)
    assert operations(store) == before
    now = store.show()
    assert (now.refs, now.note, now.pinned) == (("last", "tag: v1"), None, False)


def test_marks_are_there_after_a_rebuild_of_the_index_and_a_seal(tmp_path: object) -> None:
    from tests.unit.ops.test_reflog import sealed

    with casckpt.init(f"{tmp_path}/store") as store:
        store.commit({"n": 1}, run="gpt")
        store.note("@", "kept")
        store.pin("@")
        sealed(store)
        store.commit({"n": 2}, run="gpt")
        store._repository.rebuild_index()
        assert [(one.note, one.pinned) for one in store.log()] == [(None, False), ("kept", True)]
    with casckpt.open(f"{tmp_path}/store") as store:
        assert [one.note for one in store.log()] == [None, "kept"]


def test_a_pin_of_a_commit_that_is_missing_is_damage(store: casckpt.Store) -> None:
    lost = CommitId(ObjectId(b"l" * 32))
    with store._repository.session() as session:
        mark = Mark(lost, "pin", None, {"time": 1, "until": None})
        session.publish(lambda: (Entry("pin", 2, marks=(mark,)), []))
    [finding] = store.fsck().findings
    assert (finding.what, finding.where) == ("it is pinned and missing", f"commit {lost.hex()[:12]}")
    assert store.pins() == []
    assert len(list(store.log())) == 3
