"""What lies at a path of a commit, listed without reading a chunk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import casckpt
from casckpt.errors import CommitDropped, IntegrityError, NotFoundError, UsageError
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, ObjectId
from casckpt.ops.listing import place_of, size_of
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.state.walk import LeafInfo
from tests.strategies import states


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def listed(store: casckpt.Store, target: str) -> dict[str, tuple[Any, ...]]:
    return {one.path: (one.kind, one.nbytes, one.leaves) for one in store.ls(target)}


def test_one_level_is_listed_in_order_with_what_containers_hold(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.zeros((3, 4), np.float32)
    state = {"z": [1, {"a": 2}], "model": {"w": weight, "tied": weight, "big": np.ones(90_000)}, "n": 5, "e": {}}
    store.commit(state)
    for name in ("fetch", "read", "pieces", "memory"):
        monkeypatch.setattr(f"casckpt.ops.load.Loader.{name}", None)
    assert list(listed(store, "@").items()) == [
        ("z", ("list", 0, 2)),
        ("model", ("dict", 720_048, 3)),
        ("n", ("int", None, None)),
        ("e", ("dict", None, None)),
    ]
    assert listed(store, "@:model/") == {
        "model/w": ("array", 48, None),
        "model/tied": ("array", 48, None),
        "model/big": ("array", 720_000, None),
    }
    assert listed(store, "@:z") == {"z/0": ("int", None, None), "z/1": ("dict", 0, 1)}
    assert listed(store, "@:z/1/a") == {"z/1/a": ("int", None, None)}
    assert listed(store, "@:e") == {"e": ("dict", None, None)}


def test_a_class_is_a_container_of_its_kind(store: casckpt.Store) -> None:
    plain = OrderedDict(a=1)
    plain._metadata = {"version": 2}  # type: ignore[attr-defined]
    store.commit({"path": Path("x"), "set": {1, 2}, "module": plain})
    found = listed(store, "@")
    assert found["set"][2] == 2
    assert found["set"][0].startswith("set")
    assert found["path"][2] is None
    assert found["module"] == ("odict", 0, 2)
    assert set(listed(store, "@:set")) == {"set/0", "set/1"}
    assert listed(store, "@:module") == {"module/a": ("int", None, None), "module/:meta": ("dict", 0, 1)}
    assert set(listed(store, "@:module/:meta")) == {"module/:meta/version"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(states())
def test_walking_down_the_levels_meets_every_leaf_once(state: Any) -> None:
    with casckpt.memory() as store:
        store.commit(state)
        below = [leaf.path for leaf in store.ls(recursive=True)]
        assert sorted(below) == sorted(leaf.path for leaf in store.leaves())

        def descend(target: str) -> Iterator[str]:
            for one in store.ls(target):
                if one.leaves is None:
                    yield one.path
                else:
                    assert one.leaves == sum(path.startswith(f"{one.path}/") for path in below)
                    yield from descend(f"@:{one.path}")

        met = list(descend("@"))
        assert set(met) <= set(below)
        assert len(met) == len(set(met))
        # What is not met is a container that is stored as something simpler: it is listed as one.
        assert all(any(other.startswith(f"{path}/") for other in below) for path in set(below) - set(met) if path)


@pytest.mark.parametrize(
    ("path", "value"),
    [("3", "int"), ('"3"', "text"), ("a%25b/x", 1), ("a%b/x", 1), ("c/d%e", 2), ("c/d%25e", 2)],
)
def test_paths_are_canonical_or_plain(store: casckpt.Store, path: str, value: object) -> None:
    store.commit({3: "int", "3": "text", "a%b": {"x": 1}, "c": {"d%e": 2}})
    [found] = store.ls(f"@:{path}")
    assert found.value == value


def test_files_are_listed_like_states(store: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "a.bin").write_bytes(bytes(5000))
    (tmp_path / "out" / "sub" / "100%").write_bytes(b"")
    store.commit_path(tmp_path / "out")
    assert listed(store, "@:out") == {"out/a.bin": ("file", 5000, None), "out/sub": ("dict", 0, 1)}
    assert set(listed(store, "@:out/sub/100%")) == {"out/sub/100%25"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("short", b"short"),
        ("\ud800\u00e9", b"\xed\xa0\x80\xc3\xa9"),
        ("long" * 1_000_000, b"long" * 1_000_000),
        (b"\xff\n", b"\xff\n"),
        (bytearray(b"\x00" * 5000), b"\x00" * 5000),
        (b"", b""),
    ],
)
def test_the_bytes_of_a_text_come_in_pieces(store: casckpt.Store, value: object, expected: bytes) -> None:
    store.commit({"deep": {"v": value}, "n": 1})
    found = list(store.pieces("@:deep/v"))
    assert b"".join(found) == expected
    assert max(map(len, found)) <= 1 << 20


def test_the_bytes_of_a_file_come_in_pieces(store: casckpt.Store, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    (tmp_path / "out").mkdir()
    for name, data in (("large", content), ("small", b"small"), ("empty", b"")):
        (tmp_path / "out" / name).write_bytes(data)
    store.commit_path(tmp_path / "out")
    for name, data in (("large", content), ("small", b"small"), ("empty", b"")):
        found = list(store.pieces(f"@:out/{name}"))
        assert b"".join(found) == data
        assert all(len(piece) <= 1 << 20 for piece in found)
    store.commit_path(tmp_path / "out" / "small", run="single")
    assert b"".join(store.pieces("single")) == b"small"
    assert store.entry("single").path == "small"


def test_what_is_no_text_has_no_pieces(store: casckpt.Store) -> None:
    store.commit({"w": np.zeros(3), "n": 1, "deep": {"t": "text"}})
    for target, what in (("@:w", "array"), ("@:n", "int"), ("@:deep", "container"), ("@", "the state is a container")):
        with pytest.raises(UsageError, match=what):
            list(store.pieces(target))


def test_an_entry_says_what_lies_at_a_path(store: casckpt.Store) -> None:
    store.commit({"model": {"w": np.zeros(3), "more": [1, 2]}, "class": {3}, "n": 1})
    found = {path: store.entry(f"@:{path}") for path in ("", "model", "model/more", "model/w", "class", "n")}
    assert {path: (one.path, one.kind, one.nbytes, one.leaves) for path, one in found.items()} == {
        "": ("", "dict", 24, 6),
        "model": ("model", "dict", 24, 3),
        "model/more": ("model/more", "list", 0, 2),
        "model/w": ("model/w", "array", 24, None),
        "class": ("class", "set", 0, 1),
        "n": ("n", "int", None, None),
    }


def test_of_a_component_nothing_else_is_read(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({"model": {"w": 1}, "optimizer": {"lr": 2}, "n": 1})
    read: list[str] = []
    component = Loader.component

    def recorded(loader: Loader, name: str, identity: ObjectId) -> LoadedComponent:
        read.append(name)
        return component(loader, name, identity)

    monkeypatch.setattr(Loader, "component", recorded)
    assert list(listed(store, "@:optimizer")) == ["optimizer/lr"]
    assert read == ["optimizer"]


def test_what_is_not_there_is_named(store: casckpt.Store) -> None:
    store.commit({"model": {"w": 1}, "n": 1})
    for path in ("nothing", "model/nothing", "model/w/0", "n/0", "mode"):
        with pytest.raises(NotFoundError, match=path):
            list(store.ls(f"@:{path}"))
    assert listed(store, "@:/model/w/") == {"model/w": ("int", None, None)}
    assert listed(store, "@://") == listed(store, "@")


def test_a_state_that_is_one_value_is_one_entry(store: casckpt.Store) -> None:
    store.commit(7)
    assert [(one.path, one.value) for one in store.ls()] == [("", 7)]


def test_a_dropped_commit_lists_nothing_and_a_blob_that_is_not_there_is_damage(store: casckpt.Store) -> None:
    commit = store.commit({"n": 1})
    loaded = place_of(store._repository.database, "@").loaded
    with pytest.raises(IntegrityError, match="blob 7"):
        size_of(loaded, LeafInfo("n", "file", blob=7))
    drop = Drop(CommitId(ObjectId(bytes.fromhex(commit.id))), None, "keep_last=1", 1_700_000_000_000_000_000)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("drop", 1, drops=(drop,)), []))
    with pytest.raises(CommitDropped):
        list(store.ls())
