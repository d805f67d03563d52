from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import casckpt
from casckpt.errors import AmbiguousRevision, CommitDropped, InvalidRevision, RevisionNotFound
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, ObjectId


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def line(store: casckpt.Store, count: int, run: str = "main") -> list[str]:
    return [store.commit({"n": n}, run=run, step=n * 10, epoch=n / 2).id for n in range(count)]


def test_every_way_to_name_a_commit(store: casckpt.Store) -> None:
    ids = line(store, 5)
    store.tag("v1", ids[2])
    names = {
        "@": 4, "last": 4, "main": 4, "main/last": 4, "runs/main": 4, "runs/main/last": 4, "main/first": 0,
        "runs/main/first": 0, "v1": 2, "tags/v1": 2, "v1~": 1, "v1^": 1, "@~4": 0, "@~0": 4, "main^^": 2, "v1^0": 2,
        "@step=20": 2, "main@step=0": 0, "main@epoch=1.5": 3, "main@epoch=1": 2, "v1@step=10~1": 0,
        ids[1]: 1, ids[1][:8]: 1, ids[1][:13]: 1, f"id:{ids[3]}": 3, f"{ids[3][:20]}~3": 0,
    }  # fmt: skip
    for text, number in names.items():
        assert store.show(text).id == ids[number], text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("nowhere", "no commits yet"),
        ("@", "no commits yet"),
        ("main~1", "no commits yet"),
        ("f" * 64, "no commits yet"),
    ],
)
def test_an_empty_store_has_nothing_and_says_so(store: casckpt.Store, text: str, hint: str) -> None:
    with pytest.raises(RevisionNotFound) as raised:
        store.show(text)
    assert hint in raised.value.message
    assert list(store.log()) == []
    assert store.runs() == []
    assert store.status().commits == 0


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mian", "did you mean 'main'?"),
        ("MAIN~2", "did you mean 'main'"),
        ("best", "best="),
        ("main~5", "fewer than 5"),
        ("main^2", "1 parents"),
        ("main@step=11", "nearest are 10 ("),
        ("main@epoch=7", "nearest are 1.5 ("),
        ("main/best", "best="),
        ("other/last", ""),
        ("other/first", ""),
        ("0000000000", ""),
        ("id:abcd1234", ""),
    ],
)
def test_what_is_not_there_is_said_with_what_is_near(store: casckpt.Store, text: str, hint: str) -> None:
    line(store, 5)
    with pytest.raises(RevisionNotFound) as raised:
        store.show(text)
    assert raised.value.facts["text"] == text
    assert hint in raised.value.message


def test_a_prefix_of_several_commits_is_ambiguous(store: casckpt.Store) -> None:
    ids = line(store, 2000)
    prefix = next(p for p in (i[:4] for i in ids) if sum(i.startswith(p) for i in ids) > 1)
    matching = [identity for identity in ids if identity.startswith(prefix)]
    with pytest.raises(AmbiguousRevision) as raised:
        store.show(prefix)
    assert raised.value.facts["count"] == len(matching)
    for identity in matching:
        assert store.show(identity[:16]).id == identity


@pytest.mark.parametrize("text", ["", "~", "main@", "main~x"])
def test_what_is_no_revision_is_refused(store: casckpt.Store, text: str) -> None:
    line(store, 1)
    with pytest.raises(InvalidRevision):
        store.show(text)


def test_the_log_of_a_revision_is_its_ancestors_and_of_nothing_is_everything(store: casckpt.Store) -> None:
    a, b = line(store, 3, "a"), line(store, 2, "b")
    assert [info.id for info in store.log("a~1")] == [a[1], a[0]]
    assert [info.id for info in store.log("a")] == a[::-1]
    assert [info.id for info in store.log()] == b[::-1] + a[::-1]
    assert [info.id for info in store.log(limit=2)] == b[::-1]
    assert list(store.log(limit=0)) == []
    assert next(iter(store.log())).refs == ("last",)


def test_the_log_of_a_range_is_what_one_side_has_and_the_other_has_not(store: casckpt.Store) -> None:
    base = line(store, 4, "base")
    wide = [store.commit({}, run="wide", parents=("base~2",)).id, store.commit({}, run="wide").id]
    for text, expected in {
        "base..wide": wide[::-1], "wide..base": base[:1:-1], "base...wide": wide[::-1] + base[:1:-1],
        "base..": wide[::-1], "base..base": [], "wide~..@": wide[1:], "base~3..fork(base,wide)": base[1:2],
    }.items():  # fmt: skip
        assert [info.id for info in store.log(text)] == expected, text
    assert [info.id for info in store.log("base...wide", limit=1)] == wide[1:]


@pytest.mark.parametrize("text", ["main..wide", "mian..main"])
def test_a_range_of_a_name_that_is_not_there_says_which(store: casckpt.Store, text: str) -> None:
    line(store, 2)
    with pytest.raises(RevisionNotFound) as raised:
        list(store.log(text))
    assert raised.value.facts["text"] in ("wide", "mian")


def test_only_a_log_takes_a_range(store: casckpt.Store) -> None:
    line(store, 2)
    with pytest.raises(InvalidRevision, match="range"):
        store.show("main~..main")


def test_a_merge_is_logged_once(store: casckpt.Store) -> None:
    a, b = line(store, 2, "a"), line(store, 2, "b")
    merged = store.commit({}, run="a", parents=("a", "b"))
    assert [info.id for info in store.log("a")] == [merged.id, *b[::-1], *a[::-1]]
    assert store.show("b").children == (merged.id,)


def test_the_current_run_is_that_of_the_newest_commit(store: casckpt.Store) -> None:
    line(store, 1, "a")
    b = line(store, 1, "b")
    assert store.show("@").id == b[0]
    a = store.commit({}, run="a")
    assert store.show("last").id == a.id
    assert [run.name for run in store.runs()] == ["a", "b"]


def test_runs_and_status_add_up(store: casckpt.Store) -> None:
    weights = np.random.default_rng(1).standard_normal(50_000)
    store.commit({"w": weights}, run="a")
    store.commit({"w": weights}, run="a")
    store.commit({"w": np.random.default_rng(0).bytes(100_000)}, run="b")
    status = store.status()
    assert (status.commits, status.packs) == (3, 2)
    assert status.logical == 2 * 400_000 + 100_000
    assert 100_000 < status.stored < 600_000
    assert {run.name: run.commits for run in status.runs} == {"a": 2, "b": 1}
    assert status.path == "memory"
    assert status.journal_seq == 4


def test_leaves_are_listed_without_reading_a_tensor(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({"m": {"w": np.zeros((3, 4), np.float32), "big": np.ones(90_000)}, "n": 5, "e": {}})
    monkeypatch.setattr("casckpt.ops.load.Loader.fetch", None)
    found = {leaf.path: (leaf.kind, leaf.dtype, leaf.shape, leaf.nbytes, leaf.value) for leaf in store.leaves()}
    assert found["m/w"] == ("array", "<f4", (3, 4), 48, None)
    assert found["m/big"] == ("array", "<f8", (90_000,), 720_000, None)
    assert found["n"] == ("int", None, None, None, 5)
    assert set(found) == {"m/w", "m/big", "n", "e"}


def test_a_dropped_commit_keeps_its_place_and_says_which_rule(store: casckpt.Store) -> None:
    ids = line(store, 3)
    drop = Drop(CommitId(ObjectId(bytes.fromhex(ids[1]))), None, "keep_last=1", 1_700_000_000_000_000_000)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("drop", 1, drops=(drop,)), []))
    assert [info.dropped for info in store.log()] == [None, "keep_last=1", None]
    assert [info.id for info in store.log()] == ids[::-1]
    for reading in (store.checkout, lambda text: list(store.leaves(text)), lambda text: store.diff(text, "@")):
        with pytest.raises(CommitDropped) as raised:
            reading(ids[1])
        assert raised.value.facts["rule"] == "keep_last=1"
        assert "2023-11-14" in raised.value.message
    assert store.checkout(ids[0]) == {"n": 0}
    assert store.fsck().ok


def test_a_text_that_no_name_can_have_is_not_found(store: casckpt.Store) -> None:
    with pytest.raises(RevisionNotFound):
        store.show("\ud800")
