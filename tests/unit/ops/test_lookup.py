from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import AmbiguousRevision, InvalidFilter, InvalidRevision, MetricNotFound, RevisionNotFound
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb import journal
from casckpt.ops import lookup

NAN = float("nan")


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def losses(store: casckpt.Store, values: list[float | None], run: str = "main", best: str | None = None) -> list[str]:
    """A commit for each loss, whose best is the rule of the run."""
    return [
        store.commit({}, run=run, step=n, metrics={} if value is None else {"loss": value}, best=best).id
        for n, value in enumerate(values)
    ]


def why(store: casckpt.Store, text: str) -> str:
    with pytest.raises(RevisionNotFound) as raised:
        store.show(text)
    return raised.value.reason


def test_earlier_values_of_a_ref_are_counted_back_from_now(store: casckpt.Store) -> None:
    ids = losses(store, [3, 1, 2, 0.5], best="loss:min")
    for number in range(4):
        assert store.show(f"main@{{{number}}}").id == ids[3 - number]
    assert store.show("@{1}").id == store.show("@@{1}").id == store.show("last@{1}").id == ids[2]
    assert [store.show(f"main/best@{{{number}}}").id for number in range(3)] == [ids[3], ids[1], ids[0]]
    assert store.show("runs/main/last@{1}~1").id == ids[1]
    assert why(store, "main/best@{3}") == "the journal has 3 values of runs/main/best"


def test_a_tag_has_one_value(store: casckpt.Store) -> None:
    ids = losses(store, [1])
    store.tag("v1", "@")
    assert store.show("v1@{0}").id == ids[0]
    assert why(store, "v1@{1}") == "the journal has 1 value of tags/v1"


def test_what_is_no_ref_has_no_earlier_values(store: casckpt.Store) -> None:
    ids = losses(store, [1])
    for text in (ids[0] + "@{0}", "main/first@{0}"):
        assert "no run, head or tag" in why(store, text)
    assert "did you mean 'main'?" in why(store, "mian@{1}")


def test_earlier_values_go_back_through_sealed_files_which_snapshots_do_not_add_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 5)
    with casckpt.init(tmp_path / "store") as store:
        ids = losses(store, [float(n) for n in range(20)])
        assert len(store._repository.database.journal.files()) > 3
        assert [store.show(f"@{{{n}}}").id for n in range(20)] == ids[::-1]
        assert "20 values" in why(store, "@{20}")


def test_the_value_before_the_oldest_move_that_is_left_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 5)
    with casckpt.init(tmp_path / "store") as store:
        ids = [bytes.fromhex(identity) for identity in losses(store, [float(n) for n in range(12)])]
        (tmp_path / "store/journal/0.log").unlink()
        values = list(lookup.values_of_ref(store._repository.database, "runs/main/last"))
    assert 6 <= len(values) < 12
    assert values == ids[::-1][: len(values)]


def test_best_by_a_metric_is_the_best_of_its_run(store: casckpt.Store) -> None:
    a = losses(store, [3, 1, None, NAN, 1, 9], "a")
    b = losses(store, [0, 4], "b")
    store.commit({}, run="a", metrics={"loss": -1}, status="failed")
    assert store.show("a/best(loss,min)").id == a[1]
    assert store.show("a/best(loss,max)~1").id == a[4]
    assert store.show("runs/b/best(loss,max)").id == b[1]
    assert store.show("best(loss,max)").id == a[5]


def test_best_without_a_mode_follows_the_rule_of_the_run(store: casckpt.Store) -> None:
    ids = losses(store, [3, 1, 2], best="loss:max")
    losses(store, [1], "plain")
    assert store.show("main/best(loss)").id == ids[0] == store.show("main/best").id
    for text in ("main/best(accuracy)", "plain/best(loss)"):
        with pytest.raises(InvalidRevision, match="say best"):
            store.show(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("main/best(lss,min)", "run 'main' has no metric 'lss'; did you mean 'loss'?"),
        ("main/best(accuracy,min)", "run 'main' has no metric 'accuracy'; there are loss"),
        ("mian/best(loss,min)", "did you mean 'main'?"),
        ("mian/best(loss)", "did you mean 'main'?"),
        ("sick/best(loss,min)", "no completed commit of run 'sick' that is not dropped has a number for 'loss'"),
        ("bare/best(loss,max)", "run 'bare' has no metric 'loss'; there is none"),
    ],
)
def test_a_metric_that_has_no_best_is_said_with_those_there_are(store: casckpt.Store, text: str, hint: str) -> None:
    losses(store, [1])
    losses(store, [NAN], "sick")
    store.commit({}, run="bare")
    assert why(store, text) == hint


def test_in_an_empty_store_nothing_is_best(store: casckpt.Store) -> None:
    assert why(store, "best(loss,min)") == "the store has no commits yet"


def test_a_run_that_is_called_like_a_call_is_named_in_full(store: casckpt.Store) -> None:
    ids = losses(store, [1, 2], "best(loss,max)")
    losses(store, [3])
    assert store.show("runs/best(loss,max)").id == ids[1]
    assert store.show("runs/best(loss,max)/best(loss,min)").id == ids[0]
    assert store.show("best(loss,max)").run == "main"


def test_a_dropped_commit_is_not_the_best_by_a_metric(store: casckpt.Store) -> None:
    ids = losses(store, [1, 2, 3])
    drop = Drop(CommitId(ObjectId(bytes.fromhex(ids[0]))), None, "keep_last=2", 1)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("drop", 1, drops=(drop,)), []))
    assert store.show("best(loss,min)").id == ids[1]


def test_a_fork_is_the_newest_common_ancestor(store: casckpt.Store) -> None:
    base = losses(store, [1, 2, 3], "base")
    wide = store.commit({}, run="wide", parents=("base~1",))
    store.commit({}, run="deep", parents=("wide", "base"))
    losses(store, [1], "apart")
    assert store.show("fork(base,wide)").id == base[1]
    assert store.show("fork(wide,base)~1").id == base[0]
    assert store.show("fork(deep,fork(wide,deep))").id == wide.id
    assert store.show("fork(base,base~2)").id == base[0]
    assert why(store, "fork(base,apart)") == "base and apart have no common ancestor"
    assert "did you mean 'wide'?" in why(store, "fork(base,wiide)")


def test_an_ambiguous_prefix_lists_commits_with_run_and_step(store: casckpt.Store) -> None:
    ids = losses(store, [1] * 1500)
    prefix = next(p for p in (i[:4] for i in ids) if sum(i.startswith(p) for i in ids) > 1)
    matching = [n for n, identity in enumerate(ids) if identity.startswith(prefix)]
    with pytest.raises(AmbiguousRevision) as raised:
        store.show(prefix)
    shown = [f"{ids[n][:12]} main step {n}" for n in reversed(matching)]
    assert raised.value.reason.startswith(", ".join(shown[:5]))


def test_commits_to_choose_from_are_at_most_five_told_apart_by_their_digits(store: casckpt.Store) -> None:
    database = store._repository.database
    ids = [CommitId(ObjectId(bytes.fromhex(identity))) for identity in losses(store, [1] * 7)]
    assert lookup.listed(database, ids).endswith(f"{ids[4].hex()[:12]} main step 4 and 2 more")
    twins = [CommitId(ObjectId(bytes(20) + bytes([n] * 12))) for n in (1, 2)]
    assert lookup.listed(database, twins) == "00" * 20 + "0" + "1, " + "00" * 20 + "0" + "2"


def test_an_unknown_step_names_the_nearest_with_their_commits(store: casckpt.Store) -> None:
    ids = [store.commit({}, step=step).id[:12] for step in (100, 200, 300, 200)]
    assert why(store, "@step=190") == f"no commit at step 190; nearest are 100 ({ids[0]}) and 200 ({ids[3]})"
    assert why(store, "@~3@step=1") == f"no commit at step 1; the nearest is 100 ({ids[0]})"
    assert why(store, "@epoch=1") == "no commit at epoch 1"


def test_a_log_gives_what_its_filter_wants_up_to_the_limit(store: casckpt.Store) -> None:
    ids = losses(store, [5, 4, 3, NAN, None, 1])
    assert [info.id for info in store.log(where="loss < 5")] == [ids[5], ids[2], ids[1]]
    assert [info.id for info in store.log(where="loss < 5", limit=2)] == [ids[5], ids[2]]
    assert [info.id for info in store.log("@~3..@", where="not has loss or loss = nan")] == [ids[4], ids[3]]
    assert list(store.log("main", where="step > 9")) == []


def test_a_filter_is_applied_while_the_log_is_read(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(store, [1.0] * 50)
    asked: list[CommitId] = []
    commit = store._repository.database.commit
    monkeypatch.setattr(
        store._repository.database, "commit", lambda identity: asked.append(identity) or commit(identity)
    )
    next(store.log("main", where="loss = 1"))
    assert len(asked) < 10


def test_a_metric_that_no_commit_has_is_a_slip_unless_something_was_found(store: casckpt.Store) -> None:
    losses(store, [5, 4])
    with pytest.raises(MetricNotFound) as raised:
        list(store.log(where="lss < 5 and step > 0"))
    assert raised.value.facts["metric"] == "lss"
    assert raised.value.reason == "did you mean 'loss'?"
    with pytest.raises(MetricNotFound, match="there are loss"):
        list(store.log(where="accuracy > 0.5"))
    assert list(store.log(where="has accuracy")) == []
    assert len(list(store.log(where="accuracy > 0.5 or loss < 9"))) == 2
    assert list(store.log("@..@", where="accuracy > 0.5")) == []


def test_a_filter_that_cannot_be_read_is_refused_in_an_empty_store_too(store: casckpt.Store) -> None:
    with pytest.raises(InvalidFilter):
        list(store.log(where="loss <"))
