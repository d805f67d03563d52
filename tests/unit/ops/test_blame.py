from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import casckpt
from casckpt.errors import CommitDropped, NotFoundError, UsageError
from casckpt.format.chunking import SMALL
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, Kind, ObjectId

LARGE = SMALL // 8
EXACT: tuple[Any, ...] = (
    0, False, 0.0, -0.0, float("nan"), "text", None, np.zeros(3), np.zeros(3, "f4"), np.ones(3), np.zeros((3, 1)),
    np.zeros(LARGE), np.ones(LARGE), np.zeros(LARGE + 1), np.zeros((LARGE // 8, 8)),
)  # fmt: skip
"""Values that differ in type, shape or bytes, and share no chunk."""
GROUPED: tuple[Any, ...] = (np.zeros(100), np.ones(100), np.zeros(99))
VALUES = EXACT + GROUPED
PATHS = ("model/a", "model/b/c", "model/d", "opt/m", "step")

STATES = st.dictionaries(st.sampled_from(PATHS), st.integers(0, len(VALUES) - 1), min_size=1)
HISTORIES = st.lists(st.tuples(STATES, st.booleans()), min_size=1, max_size=6)


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for path, value in leaves.items():
        *above, name = path.split("/")
        inner = state
        for key in above:
            inner = inner.setdefault(key, {})
        inner[name] = value
    return state


def drop(store: casckpt.Store, identity: str, parts: tuple[str, ...] | None = None) -> None:
    record = Drop(CommitId(ObjectId(bytes.fromhex(identity))), parts, "test", 1)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("drop", 1, drops=(record,)), []))


def wanted(history: list[tuple[dict[str, int], bool]], path: str) -> tuple[str, int, bool]:
    """Change, commits and exactness of a leaf, by its values alone; the newest commit comes first."""
    whole, _ = history[0]
    seen, gap = 0, False
    for number, (state, is_dropped) in enumerate(history):
        if is_dropped and number and state != whole:
            gap = True
            continue
        if path not in state or state[path] != history[0][0][path]:
            return ("changed" if path in state else "added"), seen + 1, not gap
        seen, gap, whole = number, False, state
    return "first", seen + 1, not gap


@given(HISTORIES)
@example([({"step": 1}, False), ({"step": 0}, True), ({"step": 0}, False)])
@example([({"step": 0}, False), ({"step": 1}, True), ({"step": 0}, False)])
@example([({"step": 0, "opt/m": 1}, False), ({"step": 1, "opt/m": 1}, True)])
@example([({"model/a": 16, "model/d": 15}, False), ({"model/a": 15, "model/d": 15}, False)])
def test_the_last_change_of_every_leaf_is_that_of_its_values(history: list[tuple[dict[str, int], bool]]) -> None:
    with casckpt.memory() as store:
        ids = []
        for number, (state, _) in enumerate(reversed(history)):
            leaves = {path: VALUES[value] for path, value in state.items()}
            ids.insert(0, store.commit(nested(leaves), step=number).id)
        for identity, (_, is_dropped) in list(zip(ids, history, strict=True))[1:]:
            if is_dropped:
                drop(store, identity)
        found = list(store.blame())
    assert sorted(line.path for line in found) == sorted(history[0][0])
    assert [line.commits for line in found] == sorted(line.commits for line in found)
    for line in found:
        change, commits, exact = wanted(history, line.path)
        assert line.id == ids[line.commits - 1]
        if line.shared:
            assert VALUES[history[0][0][line.path]].size in (99, 100)
            assert line.commits <= commits
        else:
            assert (line.change, line.commits, line.exact) == (change, commits, exact), line


def test_a_line_says_where_and_when(store: casckpt.Store) -> None:
    first = store.commit({"a": 1, "b": 1}, step=10, run="base")
    second = store.commit({"a": 1, "b": 2}, step=20, run="wide", parents=("base",))
    found = [(line.path, line.id, line.run, line.step, line.time_ns, line.commits) for line in store.blame()]
    assert found == [
        ("b", second.id, "wide", 20, second.time_ns, 1),
        ("a", first.id, "base", 10, first.time_ns, 2),
    ]
    assert [line.path for line in store.blame(revision="base")] == ["a", "b"]


def test_first_parents_alone_are_followed(store: casckpt.Store) -> None:
    main = store.commit({"a": 1}, run="main")
    store.commit({"a": 2}, run="side")
    store.commit({"a": 2}, run="main", parents=("side", "main"))
    [line] = store.blame()
    assert (line.change, line.run, line.commits) == ("first", "side", 2)
    assert line.id != main.id


def test_a_path_confines_the_search(store: casckpt.Store) -> None:
    store.commit({"model": {"a": 1, "b": {"c": 1}}, "step": 1})
    store.commit({"model": {"a": 1, "b": {"c": 2}}, "step": 2})
    assert [line.path for line in store.blame("model")] == ["model/b/c", "model/a"]
    assert [line.path for line in store.blame("model/b")] == ["model/b/c"]
    assert [line.path for line in store.blame(revision="@~1:model/b/c")] == ["model/b/c"]
    for words in ({"path": "modle"}, {"revision": "@:model/x"}):
        with pytest.raises(NotFoundError):
            list(store.blame(**words))


def test_lines_by_path_count_the_leaves_that_changed_together(store: casckpt.Store) -> None:
    state = {"model": {"h": {"a": 1, "b": 1, "c": 1}, "x": 1}, "step": 1}
    store.commit(state)
    store.commit({"model": {"h": {"a": 2, "b": 2, "c": 1, "new": 1}, "x": 1}, "step": 2})
    found = [(line.path, line.leaves, line.of, line.change, line.commits) for line in store.blame(by=2)]
    assert found == [
        ("model/h", 1, 4, "added", 1),
        ("model/h", 2, 4, "changed", 1),
        ("step", 1, 1, "changed", 1),
        ("model/h", 1, 4, "first", 2),
        ("model/x", 1, 1, "first", 2),
    ]
    assert [(line.path, line.leaves, line.of) for line in store.blame("model/h", by=1)] == [
        ("model", 1, 4), ("model", 2, 4), ("model", 1, 4),
    ]  # fmt: skip
    for by in (0, True, 1.5):
        with pytest.raises(UsageError):
            list(store.blame(by=by))  # type: ignore[arg-type]


def test_a_leaf_that_moved_between_components_is_the_same(store: casckpt.Store) -> None:
    many = {f"part{number:02}": {"w": number} for number in range(70)}
    store.commit(many)
    store.commit({"part69": {"w": 69}, "part01": {"w": 1}})
    store.commit({**many, "part03": {"w": 4}})
    store.commit({"part69": {"w": 69}, "part01": {"w": 2}})
    assert {line.path: (line.change, line.commits) for line in store.blame()} == {
        "part69/w": ("first", 4),
        "part01/w": ("changed", 1),
    }


def test_a_small_leaf_whose_neighbour_changed_says_so(store: casckpt.Store) -> None:
    store.commit({"frozen": np.zeros(100), "trained": np.zeros(100), "large": np.zeros(LARGE)})
    store.commit({"frozen": np.zeros(100), "trained": np.ones(100), "large": np.ones(LARGE)})
    assert {line.path: line.shared for line in store.blame()} == {"frozen": True, "trained": True, "large": False}


def test_of_a_thinned_commit_what_is_left_is_compared(store: casckpt.Store) -> None:
    ids = [store.commit({"model": {"w": 1}, "opt": {"m": n}, "new": {"n": min(n, 1)}}).id for n in (0, 1, 2, 2)]
    drop(store, ids[1], ("opt", "new"))
    assert {line.path: (line.change, line.commits, line.exact) for line in store.blame()} == {
        "model/w": ("first", 4, True),
        "opt/m": ("changed", 2, False),
        "new/n": ("changed", 3, True),
    }


def test_a_dropped_commit_itself_has_no_state_to_ask_for(store: casckpt.Store) -> None:
    identity = store.commit({"a": 1}).id
    drop(store, identity)
    with pytest.raises(CommitDropped):
        list(store.blame())


def test_no_chunk_is_read_and_what_is_equal_is_skipped_whole(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    paged = np.arange(65 << 17)
    for number in range(20):
        store.commit({"model": {"w": paged, "small": np.zeros(100)}, "opt": {"m": np.full(LARGE, number)}, "k": 1})
        store.commit({"model": {"w": paged, "small": np.zeros(100)}, "opt": {"m": np.full(LARGE, number)}, "k": 1})
    read, kinds = store._repository.database.read, Counter[Kind]()

    def counted(identity: ObjectId, kind: Kind, *rest: Any) -> Any:
        kinds[kind] += 1
        return read(identity, kind, *rest)

    monkeypatch.setattr(store._repository.database, "read", counted)
    assert len(list(store.blame())) == 4
    # Trees of every second commit are new; `opt` settles at the first of them, all other components are the same.
    assert kinds == {Kind.TREE: 20, Kind.COMPONENT: 4, Kind.STRUCTURE: 3}


def test_the_walk_ends_when_every_leaf_has_differed(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        store.commit({"a": number, "b": number // 2})
    commit, asked = store._repository.database.commit, set[CommitId]()
    monkeypatch.setattr(store._repository.database, "commit", lambda i: asked.add(i) or commit(i))
    assert [line.commits for line in store.blame()] == [1, 2]
    assert len(asked) == 3
