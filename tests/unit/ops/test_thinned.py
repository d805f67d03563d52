"""What every verb says of a commit that is whole, thinned or dropped; of what is left, and of what is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import CasckptError, CommitDropped, CommitThinned, NotFoundError
from casckpt.format.entry import Drop, Entry
from casckpt.units import DAY, rfc3339
from tests.support.build import noise
from tests.unit.ops.test_drop import records

SHARED = [0.5, 1.5, 2.5]
STATE = {"name": "gpt", "model": {"w": SHARED, "b": [1]}, "optimizer": {"m": SHARED}, "rng": {"s": 3}, "n": 7}
LEFT = {"name": "gpt", "model": {"w": SHARED, "b": [1]}, "n": 7}
LOST = ("optimizer", "rng")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[casckpt.Store]:
    """`live` and `files` are commits of a state and of folders, each with a child that lost two components (`-thin`),
    and one that was dropped (`-gone`); the states that come after differ in `n` alone."""
    monkeypatch.chdir(tmp_path)
    for folder in ("model", "optimizer", "rng"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    (tmp_path / "note.txt").write_text("note")
    with casckpt.init(tmp_path / "s") as made:
        for run, tail in (("live", 5), ("thin", 6), ("gone", 7)):
            made.commit({**STATE, "n": tail}, run=run, step=1)
            made.commit({**STATE, "n": 7}, run=run, step=2)
            made.commit(STATE | {"n": 8}, run=run, step=3)
        for run in ("files", "files-thin", "files-gone"):
            made.commit_path("model", "optimizer", "rng", "note.txt", run=run, step=2)
            made.commit_path("model", run=run, step=3)
        made.drop("thin@step=2", "files-thin@step=2", parts=LOST)
        made.drop("gone@step=2", "files-gone@step=2")
        yield made


def listed(store: casckpt.Store, rev: str) -> list[tuple[str, str]]:
    return [(one.path, "lost" if one.lost else "there") for one in store.ls(rev)]


def exported(store: casckpt.Store, rev: str, **words: Any) -> Any:
    import json

    store.export(rev, "out.json", replace=True, **words)
    return json.loads(Path("out.json").read_text())


def written(store: casckpt.Store, rev: str, **words: Any) -> dict[str, str]:
    store.checkout_path(rev, "out", replace=True, **words)
    found = Path("out")
    files = [found] if found.is_file() else sorted(one for one in found.rglob("*") if one.is_file())
    return {str(one.relative_to(found)): one.read_text() for one in files}


def whole(names: str) -> list[tuple[str, str]]:
    return [(name, "there") for name in names.split()]


Verb = Callable[[casckpt.Store, str], Any]
THERE = [("name", "there"), ("model", "there"), ("optimizer", "lost"), ("rng", "lost"), ("n", "there")]
FILES = {f"{name}/a.txt": name for name in ("model", "optimizer", "rng")} | {"note.txt": "note"}
FILES_LEFT = {"model/a.txt": "model", "note.txt": "note"}
LEAVES = ["model/b/0", "model/w/0", "model/w/1", "model/w/2", "n", "name"]
ALL_LEAVES = sorted([*LEAVES, "optimizer/m/0", "optimizer/m/1", "optimizer/m/2", "rng/s"])

STATES: dict[str, tuple[Verb, Any, Any]] = {
    # verb, what a whole commit gives, what a thinned one gives
    "ls": (listed, whole("name model optimizer rng n"), THERE),
    "ls -R": (
        lambda store, rev: sorted(one.path for one in store.ls(rev, recursive=True) if not one.lost),
        ALL_LEAVES,
        LEAVES,
    ),
    "ls part": (lambda store, rev: listed(store, f"{rev}:model"), whole("model/w model/b"), whole("model/w model/b")),
    "ls lost": (lambda store, rev: listed(store, f"{rev}:optimizer"), whole("optimizer/m"), CommitThinned),
    "entry": (lambda store, rev: store.entry(f"{rev}:n").value, 7, 7),
    "entry of all": (lambda store, rev: store.entry(rev).leaves, 10, 6),
    "entry lost": (lambda store, rev: store.entry(f"{rev}:rng/s").value, 3, CommitThinned),
    "cat": (lambda store, rev: b"".join(store.pieces(f"{rev}:name")), b"gpt", b"gpt"),
    "leaves": (lambda store, rev: sorted(leaf.path for leaf in store.leaves(rev)), ALL_LEAVES, LEAVES),
    "blame": (lambda store, rev: sorted(line.path for line in store.blame(revision=rev)), ALL_LEAVES, LEAVES),
    "blame part": (lambda store, rev: len(list(store.blame("model", rev))), 4, 4),
    "blame lost": (lambda store, rev: len(list(store.blame("rng", rev))), 1, CommitThinned),
    "checkout": (lambda store, rev: store.checkout(rev), STATE, CommitThinned),
    "checkout select": (lambda store, rev: store.checkout(rev, select=["name", "model", "n"]), LEFT, LEFT),
    "checkout lost": (lambda store, rev: store.checkout(rev, select="rng"), {"rng": {"s": 3}}, CommitThinned),
    "checkout into": (
        lambda store, rev: store.checkout(rev, into={**STATE, "n": 0}),
        STATE,
        CommitThinned,
    ),
    "tree": (lambda store, rev: len(store.tree(rev)), 10, CommitThinned),
    "export": (exported, STATE, CommitThinned),
    "export select": (lambda store, rev: exported(store, rev, select=["name", "model", "n"]), LEFT, LEFT),
    "export part": (lambda store, rev: exported(store, f"{rev}:model"), STATE["model"], STATE["model"]),
    "export leaf": (lambda store, rev: exported(store, f"{rev}:n"), 7, 7),
    "export lost": (lambda store, rev: exported(store, f"{rev}:rng"), {"s": 3}, CommitThinned),
    "diff": (
        lambda store, rev: [(leaf.path, leaf.change) for leaf in store.diff("live@step=1", rev).leaves],
        [("n", "changed")],
        [("n", "changed")],
    ),
    "diff lost": (lambda store, rev: store.diff("live@step=1", rev).lost, (), ()),
    "storage": (lambda store, rev: store.storage(rev).packs >= 0, True, CommitThinned),
    "migrate": (lambda store, rev: store.migrate(rev, schema=("s", 1), run="m"), CasckptError, CasckptError),
}
FOLDERS: dict[str, tuple[Verb, Any, Any]] = {
    "ls": (
        listed,
        whole("model optimizer rng note.txt"),
        [("model", "there"), ("optimizer", "lost"), ("rng", "lost"), ("note.txt", "there")],
    ),
    "cat": (lambda store, rev: b"".join(store.pieces(f"{rev}:model/a.txt")), b"model", b"model"),
    "cat lost": (lambda store, rev: b"".join(store.pieces(f"{rev}:rng/a.txt")), b"rng", CommitThinned),
    "checkout": (written, FILES, CommitThinned),
    "checkout part": (lambda store, rev: written(store, f"{rev}:model"), {"a.txt": "model"}, {"a.txt": "model"}),
    "checkout file": (lambda store, rev: written(store, f"{rev}:note.txt"), {".": "note"}, {".": "note"}),
    "checkout lost": (lambda store, rev: written(store, f"{rev}:rng"), {"a.txt": "rng"}, CommitThinned),
    "checkout select": (lambda store, rev: written(store, rev, select=["model", "note.txt"]), FILES_LEFT, FILES_LEFT),
    "checkout one": (lambda store, rev: written(store, rev, select="n*"), {"note.txt": "note"}, {"note.txt": "note"}),
    "checkout select lost": (
        lambda store, rev: written(store, rev, select="**/a.txt"),
        {name: text for name, text in FILES.items() if name != "note.txt"},
        CommitThinned,
    ),
    "checkout select nothing": (lambda store, rev: written(store, rev, select="x"), NotFoundError, NotFoundError),
    "export file": (
        lambda store, rev: store.export(f"{rev}:note.txt", "out.txt", replace=True).nbytes,
        4,
        4,
    ),
    "export lost": (
        lambda store, rev: store.export(f"{rev}:rng/a.txt", "out.txt", replace=True).nbytes,
        3,
        CommitThinned,
    ),
}
CASES = [
    pytest.param(prefix, verb, *outcomes, id=f"{prefix or 'states'} {name}")
    for prefix, table in (("", STATES), ("files-", FOLDERS))
    for name, (verb, *outcomes) in table.items()
]


def check(verb: Verb, store: casckpt.Store, rev: str, expected: Any) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            verb(store, rev)
    else:
        assert verb(store, rev) == expected


@pytest.mark.parametrize(("prefix", "verb", "of_whole", "of_thinned"), CASES)
def test_a_verb_gives_what_is_left_or_says_what_is_lost(
    store: casckpt.Store, prefix: str, verb: Verb, of_whole: Any, of_thinned: Any
) -> None:
    check(verb, store, "files@step=2" if prefix else "live@step=2", of_whole)
    check(verb, store, f"{prefix}thin@step=2", of_thinned)
    gone = f"{prefix}gone@step=2"
    with pytest.raises(CommitDropped) as caught:
        verb(store, gone)
    drop = records(store)[store.show(gone).id]
    facts = {"rule": "by hand", "when": rfc3339(drop.time_ns), "until": rfc3339(drop.time_ns + DAY)}
    assert {name: caught.value.facts[name] for name in facts} == facts
    assert caught.value.facts["commit"] == store.show(gone).short


@pytest.mark.parametrize("rev", ["thin@step=2", "files-thin@step=2"])
def test_the_refusal_of_a_part_names_what_gives_the_rest(store: casckpt.Store, rev: str) -> None:
    store.set_retention({"keep_last": 1, "grace": "5d"})
    with pytest.raises(CommitThinned) as caught:
        store.checkout(rev) if rev == "thin@step=2" else store.checkout_path(rev, "out")
    error, drop = caught.value, records(store)[store.show(rev).id]
    assert (error.facts["parts"], error.facts["until"]) == ("optimizer, rng", rfc3339(drop.time_ns + 5 * DAY))
    select = error.facts["select"]
    assert "--select model " in error.advice
    if rev == "thin@step=2":
        assert store.checkout(rev, select=select) == LEFT
    else:
        assert written(store, rev, select=select) == FILES_LEFT


def test_names_are_quoted_for_the_shell_and_many_are_cut_in_the_message_alone(store: casckpt.Store) -> None:
    many = {f"n {number}": number for number in range(20)}
    store.commit({"it's": {"a": 1}, "lost": {"a": 1}, **many}, run="many", step=1)
    store.commit({"n": 1}, run="many", step=2)
    store.drop("many@step=1", parts="lost")
    with pytest.raises(CommitThinned) as caught:
        store.checkout("many@step=1")
    assert caught.value.facts["select"] == ["it's", *many]
    assert """--select 'it'"'"'s' --select 'n 0'""" in caught.value.advice
    assert "and more (casckpt ls)" in caught.value.advice
    assert "n 19" not in caught.value.advice
    assert store.checkout("many@step=1", select=caught.value.facts["select"]) == {"it's": {"a": 1}, **many}


def test_what_remains_is_told_with_rule_and_time(store: casckpt.Store) -> None:
    drop = records(store)[store.show("thin@step=2").id]
    found = store.remains("thin@step=2")
    assert found is not None
    assert (found.lost, found.rule) == (LOST, "by hand")
    assert (found.time_ns, found.until_ns) == (drop.time_ns, drop.time_ns + DAY)
    assert found.select == ("model", "name", "n")
    assert [one.lost for one in store.ls("thin@step=2") if one.lost] == [("by hand", drop.time_ns)] * 2
    gone = store.remains("gone@step=2")
    assert gone is not None
    assert (gone.lost, gone.select) == (None, ())
    assert store.remains("live@step=2") is None


def test_a_policy_that_cannot_be_read_hides_nothing_but_the_promise(store: casckpt.Store) -> None:
    assert store.path is not None
    (store.path / "config.toml").write_text("[retention]\nkeep_lst = 1\n")
    with pytest.raises(CommitDropped, match="nobody knows when"):
        store.checkout("gone@step=2")
    found = store.remains("thin@step=2")
    assert found is not None
    assert (found.until_ns, found.select) == (None, ("model", "name", "n"))


def test_a_lost_component_that_differs_is_said_to(store: casckpt.Store) -> None:
    store.commit({**STATE, "rng": {"s": 4}, "other": {"x": 1}}, run="live", step=4)
    for one, other in (("thin@step=2", "live"), ("live", "thin@step=2")):
        found = store.diff(one, other)
        assert found.lost == ("rng",)
        assert {leaf.path for leaf in found.leaves} == {"other/x"}
    assert store.compare("thin~1", "live").tips[0].diff is not None
    with pytest.raises(CommitDropped):
        store.diff("gone@step=2", "thin@step=2")
    assert store.diff("gone@step=2", "thin@step=2", parts=["metadata"]).lost == ()


def test_a_component_that_is_there_again_is_read_again(store: casckpt.Store) -> None:
    identity = bytes.fromhex(store.show("thin@step=2").id)
    with store._repository.session() as session:
        drop = Drop(identity, LOST, "by hand", 1, True)  # type: ignore[arg-type]
        session.publish(lambda: (Entry("pull", 1, drops=(drop,)), []))
    assert store.checkout("thin@step=2") == STATE
    assert store.remains("thin@step=2") is None


def test_of_what_was_freed_nobody_promises_that_it_can_be_taken_back() -> None:
    with casckpt.memory() as store:
        for step in range(2):
            state = {"model": {"w": noise(f"w {step}", 90_000)}, "optimizer": {"m": noise(f"m {step}", 90_000)}}
            store.commit(state, run="thin", step=step)
        store.drop("thin@step=0", parts="optimizer")
        before = store.remains("thin@step=0")
        assert before is not None and before.until_ns is not None and not before.is_freed
        with pytest.raises(CommitThinned, match="undo is promised until"):
            store.checkout("thin@step=0")
        store.gc(now=True)
        found = store.remains("thin@step=0")
        assert found is not None
        assert (found.until_ns, found.is_freed) == (None, True)
        with pytest.raises(CommitThinned, match="was freed since") as caught:
            store.checkout("thin@step=0")
        assert "casckpt undo" not in str(caught.value)
        assert store.checkout("thin@step=0", select="model") == {"model": {"w": noise("w 0", 90_000)}}
