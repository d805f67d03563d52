"""A stored state by path, and slices that read only what they show."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import casckpt
from casckpt.errors import DamagedLeaf, NotFoundError
from casckpt.odb.repository import Repository, initialize
from casckpt.ops.lazy import StoredValue
from casckpt.storage.memory import MemoryReadFile, MemoryStorage
from tests.leafwise import assert_same_leaves
from tests.strategies import states

MIB = 1 << 20
NOW = 1_700_000_000_000_000_000
PAGED_IDS = 300


class Counting(MemoryStorage):
    """A storage that counts what is read of its packs."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def open_read(self, name: str) -> Any:
        return _Counted(super().open_read(name), self) if name.startswith("packs/") else super().open_read(name)


class _Counted:
    def __init__(self, file: MemoryReadFile, storage: Counting) -> None:
        self._file, self._storage = file, storage
        self.size, self.map_into, self.close = file.size, file.map_into, file.close

    def read_into(self, target: memoryview, offset: int) -> int:
        count = self._file.read_into(target, offset)
        self._storage.read += count
        return count


def new_store(threads: int = 1) -> tuple[casckpt.Store, Counting]:
    storage = Counting()
    initialize(storage, time_ns=NOW, by="test")
    return casckpt.Store(Repository(storage, threads=threads)), storage


def noise(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8)


def ramp(*shape: int) -> Any:
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)


BASE = ramp(40, 30)
LARGE = ramp(3000, 300)
LEAVES: dict[str, Any] = {
    "tiny": ramp(4, 3),
    "small": ramp(30, 20),
    "same group": ramp(33, 20) + 1,
    "large": LARGE,
    "cube": ramp(50, 20, 600),
    "rows of many chunks": ramp(4, 400_000),
    "half": ramp(900, 1000).to(torch.bfloat16),
    "bool": ramp(7, 5) > 9,
    "parameter": torch.nn.Parameter(ramp(900, 400)),
    "transposed": ramp(300, 2000).t(),
    "base": BASE,
    "column": BASE[:, 3],
    "end of the base": BASE[30:],
    "expanded": ramp(600, 1).expand(600, 50),
    "rows expanded": ramp(1, 50).expand(600, 50),
    "conjugate": torch.tensor([[1 + 2j, 3j], [4, 5]]).conj(),
    "one row": ramp(1, 1000),
    "no columns": ramp(5, 0),
    "array": noise(2 * MIB).reshape(512, -1),
    "array small": np.arange(600.0).reshape(30, 20),
    "array F": np.asfortranarray(np.arange(600.0).reshape(30, 20)),
    "array backwards": np.arange(600.0).reshape(30, 20)[::-1],
    "big-endian": np.arange(700_000, dtype=">i4").reshape(700, -1),
    "texts": np.array([["ab", "c"], ["", "def"]]),
    "dates": np.arange(6).astype("M8[D]").reshape(3, 2),
}
INDICES: list[Any] = [
    0, 1, -1, -2, True, None, Ellipsis, (), slice(None), slice(1, 3), slice(-3, None), slice(None, None, 2),
    slice(1, 100, 3), slice(3, 1), slice(10**9, None), slice(-(10**9), 2), (0, 0), (-1, -1), (1, slice(None)),
    (slice(0, 2), 1), (slice(None, None, 2), slice(None, 1)), (slice(0, 2), None), (None, 0), (Ellipsis, 0),
    (0, Ellipsis), (slice(0, 2), Ellipsis, 0), [0, 1], ([0, 1], 0), (0, [0, 1]), (slice(0, 2), [0, 1]), np.int64(1),
    np.array([1, 0]), (1, np.array([0, 1])), 10**9, -(10**9), (0, 10**9), (0, 0, 0, 0, 0), "x", 1.5,
    slice(None, None, 0), slice(None, None, np.int64(2)),
]  # fmt: skip


@pytest.fixture(scope="module", params=["off", "always"])
def tree(request: pytest.FixtureRequest) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The leaves as they are stored, raw or encoded, and as a checkout has them."""
    with casckpt.memory() as store:
        store.commit({"m": LEAVES}, compress=request.param)
        yield store.tree(), store.checkout()["m"]


def outcome(value: Any, index: Any) -> Any:
    try:
        return value[index]
    except (IndexError, TypeError, ValueError) as error:
        return type(error)


def assert_same_elements(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs) or {type(mine), type(theirs)} == {torch.Tensor, torch.nn.Parameter}
    if isinstance(mine, torch.Tensor):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert torch.equal(mine, theirs)
    elif isinstance(mine, np.ndarray | np.generic):
        assert (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
    else:
        assert mine == theirs


@pytest.mark.parametrize("name", LEAVES)
def test_every_index_gives_what_the_library_gives(tree: tuple[Any, dict[str, Any]], name: str) -> None:
    stored, whole = tree
    leaf, expected = stored[f"m/{name}"], whole[name]
    for index in INDICES:
        assert_same_elements(outcome(expected, index), outcome(leaf, index))
    mask = (expected if expected.dtype in (bool, torch.bool) else expected == expected)[..., :1].squeeze(-1)
    for index in (mask, ~mask, (mask,)):
        assert_same_elements(outcome(expected, index), outcome(leaf, index))
    assert_same_elements(expected, leaf.read())
    assert leaf.shape == tuple(expected.shape)
    assert leaf.dtype == (expected.dtype.str if isinstance(expected, np.ndarray) else str(expected.dtype)[6:])
    assert name in repr(leaf) and str(list(expected.shape)) in repr(leaf)


@pytest.mark.parametrize("index", [0, slice(0, 2), [0, 1]], ids=repr)
def test_what_is_read_can_be_written_to_and_is_the_callers(tree: tuple[Any, dict[str, Any]], index: Any) -> None:
    stored, whole = tree
    for name in ("small", "large", "tiny", "array", "array small", "end of the base"):
        leaf = stored[f"m/{name}"]
        leaf[index][...] = 77
        leaf.read()[...] = 78
        assert_same_elements(whole[name][index], leaf[index])


def test_random_slices_are_those_of_the_library(tree: tuple[Any, dict[str, Any]]) -> None:
    stored, whole = tree
    draw = np.random.default_rng(5)
    for name in ("large", "cube", "array", "rows of many chunks", "parameter"):
        total = whole[name].shape[0]
        for _ in range(15):
            low, high = (int(bound) for bound in draw.integers(-total - 5, total + 5, 2))
            index = slice(low, high, int(draw.integers(1, 9)))
            assert_same_elements(whole[name][index], stored[f"m/{name}"][index])


# ---- what is read


@pytest.mark.parametrize("compress", ["off", "always"])
@pytest.mark.parametrize("threads", [1, 2])
def test_three_rows_of_a_large_leaf_read_two_chunks_at_most(threads: int, compress: Any) -> None:
    store, storage = new_store(threads)
    with store:
        state = {"m": {"w": noise(64 * MIB).reshape(65_536, 1024), "b": noise(3 * MIB, 1)}}
        store.commit(state, compress=compress)
        leaf = store.tree()["m/w"]
        for start in (0, 1022, 30_000, 65_533):
            storage.read = 0
            assert np.array_equal(leaf[start : start + 3], state["m"]["w"][start : start + 3])
            assert storage.read <= 2 * MIB + 8192
        storage.read = 0
        assert np.array_equal(leaf[-1], state["m"]["w"][-1])
        assert np.array_equal(leaf[5, :7], state["m"]["w"][5, :7])
        assert storage.read <= 2 * MIB + 8192


def test_looking_reads_no_chunk() -> None:
    store, storage = new_store()
    with store:
        store.commit({"m": {"w": noise(4 * MIB), "x": noise(900, 1)}}, compress="off")
        storage.read = 0
        tree = store.tree()
        assert list(tree) == ["m/w", "m/x"] and len(tree) == 2 and "m/w" in tree and "m/v" not in tree
        assert (tree["m/w"].shape, tree["m/w"].dtype) == ((4 * MIB,), "|u1")
        assert storage.read < 64 << 10


def test_a_leaf_of_many_pages_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros are one chunk, so that a leaf with thousands of chunks costs little."""
    store, storage = new_store(2)
    with store:
        large = np.zeros((PAGED_IDS * 1024, 1024), np.uint8)
        large[::1000] = 7
        large[PAGED_IDS * 1024 - 5 :, 3] = 9
        store.commit({"m": {"w": large}}, compress="always")
        leaf = store.tree()["m/w"]
        for index in (slice(1022, 1027), slice(large.shape[0] - 9, None), 100_000, slice(0, None, 250_000)):
            if not isinstance(index, slice) or index.step is None:
                storage.read = 0
            assert np.array_equal(leaf[index], large[index])


# ---- damage


def damage(storage: MemoryStorage, plain: bytes) -> None:
    """Flip a bit of the only stored copy of some bytes."""
    ((name, offset),) = [(n, data.index(plain)) for n, data in storage.snapshot().items() if data and plain in data]
    file = storage.open_write(name)
    file.write_at(bytes([plain[0] ^ 1]), offset)
    file.close()


def test_damage_matters_where_it_is_only() -> None:
    store, storage = new_store()
    with store:
        rows = noise(8 * MIB).reshape(8192, 1024)
        small = noise(900, 1)
        store.commit({"m": {"w": rows, "s": small}}, compress="off")
        damage(storage, rows[3 * 1024 + 5].tobytes())
        tree = store.tree()
        leaf = tree["m/w"]
        assert np.array_equal(leaf[: 3 * 1024], rows[: 3 * 1024])
        assert np.array_equal(leaf[4 * 1024 :], rows[4 * 1024 :])
        assert np.array_equal(leaf[-1], rows[-1])
        assert np.array_equal(tree["m/s"].read(), small)
        # A whole chunk is compared with its id, so damage beside the slice in the same chunk is seen too.
        for index in (slice(3 * 1024 + 4, 3 * 1024 + 7), 3 * 1024, slice(None), Ellipsis, slice(0, None, 4096)):
            with pytest.raises(DamagedLeaf) as found:
                leaf[index]
            assert found.value.facts["path"] == "m/w"
        with pytest.raises(DamagedLeaf):
            leaf.read()
        with pytest.raises(DamagedLeaf):
            tree["m"].read()


def test_damage_of_a_group_names_its_leaves() -> None:
    store, storage = new_store()
    with store:
        parts = {name: noise(700, seed) for seed, name in enumerate("abc")}
        store.commit({"m": {**parts, "bulk": noise(300_000, 9)}}, compress="off")
        damage(storage, parts["b"].tobytes())
        with pytest.raises(DamagedLeaf, match="m/a"):
            store.tree()["m/a"][:3]
        assert store.tree()["m/bulk"][5] == noise(300_000, 9)[5]


# ---- paths and containers


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(state=states())
def test_every_path_gives_its_leaf(state: Any) -> None:
    with casckpt.memory() as store:
        info = store.commit(state)
        tree = store.tree()
        assert list(tree) == [leaf.path for leaf in store.leaves(info.id)]
        whole = store.checkout()
        for path in tree:
            assert path in tree
            assert_same_leaves(at(whole, path), tree[path].read())


def at(state: Any, path: str) -> Any:
    """What lies at a canonical path, found by comparing elements."""
    from casckpt.state import paths

    for element in path.split("/") if path else []:
        if isinstance(state, dict) and element == paths.METADATA:
            state = vars(state)["_metadata"]
        elif isinstance(state, dict):
            (state,) = [child for key, child in state.items() if paths.element(key) == element]
        else:
            state = state[int(element)]
    return state


def test_containers_are_read_whole() -> None:
    inner: Any = OrderedDict(w=ramp(3), b=1)
    inner._metadata = {"version": 1}
    state = {"m": {"layers": [inner, {"w": ramp(2)}]}, "o": (1, ramp(900, 300)), "e": {}, "s": "text", "n": [0.5] * 80}
    with casckpt.memory() as store:
        store.commit(state)
        tree = store.tree()
        for path, value in {
            "m": state["m"], "m/layers": state["m"]["layers"], "m/layers/0": inner, "m/layers/0/:meta": {"version": 1},
            "m/layers/0/:meta/version": 1, "o": state["o"], "o/0": 1, "e": {}, "s": "text", "n": [0.5] * 80,
        }.items():  # fmt: skip
            assert_same_leaves(value, tree[path].read())
            assert isinstance(tree[path], StoredValue) and tree[path].path == path
            assert tree[path].shape is None and tree[path].dtype is None
        assert tree["n"][3:5] == [0.5, 0.5] and tree["s"][0] == "t" and tree["o"][0] == 1
        assert list(tree) == [leaf.path for leaf in store.leaves() if leaf.kind != "part"]


@pytest.mark.parametrize("path", ["", "x", "m/x", "m/w/0", "m/", "/m", "m//w", "m/l/2", "m/l/-1", "m/l/00", "M", "m/*"])
def test_a_path_without_anything_is_not_found(path: str) -> None:
    with casckpt.memory() as store:
        store.commit({"m": {"w": ramp(3), "l": [1, 2]}, "s": 1})
        tree = store.tree()
        assert path not in tree
        with pytest.raises(NotFoundError, match="commit"):
            tree[path]
        assert 5 not in tree and None not in tree


@pytest.mark.parametrize("state", [ramp(900, 300), ramp(2), 5, {}, [1, [2]], None, ({},)], ids=lambda s: str(s)[:12])
def test_a_state_without_components_has_a_root(state: Any) -> None:
    with casckpt.memory() as store:
        store.commit(state)
        tree = store.tree()
        assert_same_leaves(state, tree[""].read())
        for path in tree:
            assert_same_leaves(at(state, path), tree[path].read())


def test_a_tree_outlives_later_commits_and_serves_threads() -> None:
    import threading

    with casckpt.memory() as store:
        state = {"m": {"w": ramp(2000, 300)}}
        store.commit(state)
        leaf = store.tree()["m/w"]
        store.commit({"m": {"w": ramp(2)}})
        wrong: list[int] = []

        def look(start: int) -> None:
            for row in range(start, 2000, 40):
                if not torch.equal(leaf[row], state["m"]["w"][row]):
                    wrong.append(row)

        threads = [threading.Thread(target=look, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_elements_of_a_parameter_are_plain_whatever_the_index() -> None:
    store = casckpt.memory()
    store.commit({"p": torch.nn.Parameter(torch.randn(5, 7))})
    value = store.tree()["p"]
    for index in (0, slice(1, 3), [0, 2], (..., 0)):
        assert not value[index].requires_grad
    assert isinstance(value.read(), torch.nn.Parameter)
