from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import (
    AmbiguousRevision,
    InvalidFilter,
    InvalidRevision,
    MetricNotFound,
    RevisionNotFound,
    RevisionWarning,
)
from casckpt.format.entry import Drop, Entry, RefMove
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb import journal
from casckpt.ops import lookup
from casckpt.plan.moments import Moment

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
        ("sick/best(loss,min)", "no completed, sound commit of run 'sick' that is not dropped has a number for 'loss'"),
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


def test_what_a_name_meant_at_a_time_is_told_by_the_journal(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = 3600 * 10**9
    now = 1_000_000 * hour
    monkeypatch.setattr("time.time_ns", lambda: now)
    ids = []
    for loss in (3.0, 1.0, 2.0):
        now += hour
        ids += losses(store, [loss], best="loss:min")
    now += hour // 2
    for text, number in {
        "main@{0s ago}": 2, "@{29min ago}": 2, "@@{31min ago}": 1, "main/best@{0s ago}": 1, "main@{2h ago}": 0,
        "main@{31min ago}~": 0, "runs/main/last@{31min ago}": 1, f"main@{{{Moment(now - hour)}}}": 1,
        "main@{2100-01-01}": 2,
    }.items():  # fmt: skip
        assert store.show(text).id == ids[number], text
    first = store.show(ids[0]).time_ns
    problem = why(store, "main@{yesterday}")
    assert problem == f"the journal knows it from {Moment(first)} on, when it named {ids[0][:12]}"
    assert store.show(f"main@{{{Moment(first)}}}").id == ids[0]
    assert "did you mean 'main'?" in why(store, "mian@{yesterday}")
    assert "no run, head or tag" in why(store, f"{ids[0][:12]}@{{yesterday}}")


def test_a_name_that_was_removed_still_has_meant_something(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now)
    ids = losses(store, [1])
    store.tag("v1", "@")
    now += 7200 * 10**9
    named = CommitId(ObjectId(bytes.fromhex(ids[0])))
    with store._repository.session() as session:
        session.publish(lambda: (Entry("untag", now, refs=(RefMove("tags/v1", named, None),)), []))
    now += 3600 * 10**9
    assert store.show("v1@{2h ago}").id == store.show("tags/v1@{2h ago}").id == ids[0]
    assert why(store, "v1@{0s ago}").startswith("it was removed at ")
    assert why(store, "v1@{0s ago}").endswith(f" and had named {ids[0][:12]}")


def test_times_go_back_through_sealed_files_as_far_as_they_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 5)
    with casckpt.init(tmp_path / "store") as store:
        ids = losses(store, [float(n) for n in range(12)])
        moved = [(change.time_ns, change.new) for change in store.reflog("main")]
        for time_ns, new in moved:
            assert store.show(f"main@{{{Moment(time_ns)}}}").id == new
        (tmp_path / "store/journal/0.log").unlink()
        assert "the journal knows it from " in why(store, f"main@{{{Moment(moved[-1][0])}}}")
        assert store.show(f"main@{{{Moment(moved[0][0])}}}").id == ids[-1]


@pytest.fixture
def line(store: casckpt.Store) -> list[str]:
    """Commits with a config, all kinds of values, and one from another run."""
    config = {"optim": {"lr": 1e-4, "name": "adamw", "betas": [0.9, 0.95]}, "amp": True, "seed": None, "a.b": {"c": 1}}
    made = store.commit({}, run="base", metrics={"loss": 3.0, "steps": 7}, config=config, author="ann", step=0)
    ids = [made.id]
    for step, (kind, loss) in enumerate([("step", 2.0), ("recovery", NAN), ("step", 1.0), ("final", 1.5)], 1):
        optim = {**config["optim"], "lr": 1e-5}  # type: ignore[dict-item]
        words = {"run": "main", "step": step, "kind": kind, "metrics": {"loss": loss}, "status": "completed"}
        parents = {"parents": (made.id,)} if step == 1 else {}
        ids.append(store.commit({}, config={**config, "optim": optim}, **words, **parents).id)  # type: ignore[arg-type]
    return ids


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("@loss=1.5", 4),
        ("main@loss=2", 1),
        ("@loss=nan", 2),
        ("@steps=7", 0),
        ("@kind=step", 3),
        ("@kind=recovery~", 1),
        ("@run=base", 0),
        ("@author=ann", 0),
        ("@author=", 4),
        ("@config.optim.lr=0.0001", 0),
        ("@config.optim.lr=1e-5", 4),
        ("@config.optim.name=adamw@kind=step", 3),
        ("@config.optim.betas.1=0.95", 4),
        ("@config.amp=true", 4),
        ("@config.seed=null", 4),
        ("fork(main,base)@status=completed", 0),
    ],
)
def test_the_newest_ancestor_with_a_value_is_found(
    store: casckpt.Store, line: list[str], text: str, number: int
) -> None:
    assert store.show(text).id == line[number]


def test_a_value_that_no_ancestor_has_is_said_with_those_there_are(store: casckpt.Store, line: list[str]) -> None:
    short = [identity[:12] for identity in line]
    assert why(store, "@loss=1.1") == f"no commit at loss 1.1; nearest are 1.0 ({short[3]}) and 1.5 ({short[4]})"
    assert why(store, "@loss=inf") == "no commit at loss inf"
    assert why(store, "@lss=1") == "no commit has 'lss'; did you mean 'loss'?"
    assert why(store, "main~3@kind=final") == (f"no commit with kind 'final'; there are step ({short[1]})")
    assert why(store, "@config.optim.lr=1") == (
        f"no commit with config.optim.lr '1'; there are 1e-05 ({short[4]}), 0.0001 ({short[0]})"
    )
    assert why(store, "@config.optim.lt=1").startswith(
        "no commit has 'config.optim.lt'; did you mean 'config.optim.lr'"
    )
    assert "'config.optim.betas'" in why(store, "@config.optim=1")
    assert "'config.amp'" in why(store, "@config.am=1")
    assert "'config.optim.lr.x'" in why(store, "@config.optim.lr.x=1")
    assert why(store, "@config.a.b=1").startswith("no commit has 'config.a.b'")


def test_each_config_is_read_once(store: casckpt.Store, line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = store._repository.database.read, list[ObjectId]()
    monkeypatch.setattr(store._repository.database, "read", lambda i, *rest: asked.append(i) or read(i, *rest))
    assert store.show("@config.optim.lr=0.0001").id == line[0]
    assert len(asked) == len(set(asked)) == 2


def test_a_word_with_two_meanings_warns_once_and_names_each(store: casckpt.Store) -> None:
    ids = losses(store, [1, 2, 3])
    word = ids[0][:8]
    losses(store, [4], word)
    for text in ("main", "@", "main/last", "runs/main", ids[0][:9], f"id:{word}", f"runs/{word}", f"{word}/last"):
        store.show(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert store.show(f"{word}~0").run == word
        store.show(word)
        store.show(f"{word}@{{0}}")
        next(store.reflog(word))
    assert [str(one.message) for one in caught] == [
        f"'{word}' is taken as the run runs/{word}, and is the commit id:{word} too: write runs/{word} or id:{word}"
    ]
    store.tag(word, "main~1")
    with pytest.warns(
        RevisionWarning, match=f"taken as the tag tags/{word}, and is the run runs/{word} and the commit"
    ):
        assert store.show(word).id == ids[1]
    assert store.show(f"runs/{word}").run == word
    assert store.show(f"id:{word}").id == ids[0]
    store.tag("main", "main~2")
    with pytest.warns(RevisionWarning, match="taken as the tag tags/main, and is the run runs/main too"):
        assert store.show("main").id == ids[0]


def test_names_of_remotes_are_reserved(store: casckpt.Store) -> None:
    losses(store, [1])
    assert "not a run, tag, ref or commit id here" in why(store, "remotes/lab/main")


def test_heads_and_calls_of_a_run_with_dots(store: casckpt.Store) -> None:
    ids = losses(store, [3, 1, 2], "lr-1.5.b", best="loss:min")
    for text, number in {
        "lr-1.5.b/first": 0, "lr-1.5.b/best": 1, "lr-1.5.b/best(loss,max)": 0, "runs/lr-1.5.b/best(loss)": 1,
        "runs/lr-1.5.b/first": 0, "lr-1.5.b@{1}": 1, "lr-1.5.b@loss=3": 0,
    }.items():  # fmt: skip
        assert store.show(text).id == ids[number], text
    assert [info.id for info in store.log("lr-1.5.b/first..lr-1.5.b/best")] == [ids[1]]
    store.commit({}, run="lr-1.5.b", kind="recovery")
    assert store.show("lr-1.5.b/recovery").kind == "recovery"


def test_filters_by_time_age_and_tag(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86400 * 10**9
    now = 20_000 * day
    monkeypatch.setattr("time.time_ns", lambda: now)
    ids = []
    for _ in range(4):
        now += day
        ids += losses(store, [1])
    store.tag("v1", ids[1])
    store.tag("v2", ids[1])
    now += day // 2
    for where, wanted in {
        "age < 2d": ids[:1:-1], "age >= '36 hours'": ids[2::-1], "time > yesterday": ids[:2:-1],
        f"time <= {Moment(20_002 * day)}": ids[1::-1], "has tag": [ids[1]], "tag ~ 'v*'": [ids[1]],
        "not tag = v2": [ids[3], ids[2], ids[0]],
    }.items():  # fmt: skip
        assert [info.id for info in store.log(where=where)] == wanted, where
