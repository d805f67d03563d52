"""Checkout into a live state: everything fits and everything arrives, or nothing is changed."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

import casckpt
from casckpt import errors
from casckpt.errors import DamagedLeaf, PartialRestore, StateMismatch, UsageError
from casckpt.odb.repository import Repository, initialize
from casckpt.state import paths
from casckpt.storage.memory import MemoryStorage
from tests.leafwise import assert_same_leaves
from tests.strategies import assert_same_state, byte_window, states

MIB = 1 << 20
NOW = 1_700_000_000_000_000_000


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def new_store(threads: int = 1) -> tuple[casckpt.Store, MemoryStorage]:
    storage = MemoryStorage()
    initialize(storage, time_ns=NOW, by="test")
    return casckpt.Store(Repository(storage, threads=threads)), storage


def is_memory(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def objects(state: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All containers, tensors and arrays of a state and where they are."""
    if isinstance(state, dict):
        yield path, state
        for key, child in state.items():
            yield from objects(child, (*path, key))
    elif isinstance(state, list | tuple):
        yield path, state
        for index, child in enumerate(state):
            yield from objects(child, (*path, index))
    elif is_memory(state):
        yield path, state


def address(value: Any) -> int:
    return value.data_ptr() if isinstance(value, torch.Tensor) else value.__array_interface__["data"][0]


def content(state: Any) -> list[tuple[Any, ...]]:
    """Every value of a state by bytes, and which objects and memory hold it; the state must stay alive."""
    if isinstance(state, dict):
        inside = [(repr(key), *entry) for key, child in state.items() for entry in content(child)]
        return [
            (
                "dict",
                id(state),
                repr(list(state)),
                content(list(vars(state).values()) if hasattr(state, "__dict__") else None),
            ),
            *inside,
        ]
    if isinstance(state, list | tuple):
        return [(type(state), id(state), len(state)), *(entry for child in state for entry in content(child))]
    if isinstance(state, torch.Tensor) and (state.is_meta or state.is_sparse):
        return [(id(state),)]
    if isinstance(state, torch.Tensor):
        value = state.detach().resolve_conj().resolve_neg().contiguous().cpu()
        return [(id(state), state.data_ptr(), bytes(value.reshape(-1).view(torch.uint8).numpy()), state._version)]
    if isinstance(state, np.ndarray):
        return [(id(state), address(state), state.tobytes())]
    return [(type(state), repr(state))]


def refused(store: casckpt.Store, live: Any, match: str = "not fit", **options: Any) -> StateMismatch:
    """The error of a checkout into a state that does not fit, which is as it was."""
    before = content(live)
    with pytest.raises(StateMismatch, match=match) as found:
        store.checkout(into=live, **options)
    assert content(live) == before
    return found.value


# ---- everything arrives


def other_values(state: Any) -> Any:
    """A state of the same structure with other values: memory inverted in place in a copy, numbers replaced."""
    if isinstance(state, dict):
        made = type(state)((key, other_values(child)) for key, child in state.items())
        for name, value in getattr(state, "__dict__", {}).items():
            setattr(made, name, other_values(value))
        return made
    if isinstance(state, list | tuple):
        return type(state)(other_values(child) for child in state)
    return state if is_memory(state) else "another value"


def identities(state: Any) -> list[tuple[Any, ...]]:
    """Which objects hold a state, and where its memory is; tuples are values, which cannot be changed."""
    return [
        (path, id(value), address(value) if is_memory(value) else 0)
        for path, value in objects(state)
        if not isinstance(value, tuple)
    ]


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(state=states())
def test_a_state_of_the_same_structure_becomes_what_was_committed(state: Any) -> None:
    if not isinstance(state, dict | list) or len(state) > 64:
        state = {"state": state}
    assume(not has_odd_key(state))
    with casckpt.memory() as used:
        info = used.commit(state)
        # A checkout shares memory as the state does; a lazy conjugate in it has come apart.
        live = other_values(used.checkout(info.id))
        fill(live)
        before = identities(live)
        result = used.checkout(info.id, into=live)
        assert result is live
        known = {repr(path) for path, *_ in before}
        assert [entry for entry in identities(live) if repr(entry[0]) in known] == before
        assert_same_leaves(used.checkout(info.id), live)


def has_odd_key(state: Any) -> bool:
    """Whether a dict has a key that is not found again: one with a NaN in it."""
    if isinstance(state, dict):
        return any(
            copy.deepcopy(key) != key or ":x7ff" in paths.element(key) or ":xfff" in paths.element(key) for key in state
        ) or any(map(has_odd_key, state.values()))
    return isinstance(state, list | tuple) and any(map(has_odd_key, state))


def fill(state: Any) -> None:
    """Other bytes in all memory of a state."""
    for _, value in objects(state):
        if is_memory(value) and value.nbytes:
            byte_window(value)[...] = 0x5A


def check(store: casckpt.Store, stored: Any, live: Any) -> Any:
    """Commit, restore and compare by value; what is memory is still where it was."""
    store.commit(stored)
    before = [(path, id(value), address(value) if is_memory(value) else 0) for path, value in objects(live)]
    assert store.checkout(into=live) is live
    assert [(p, id(v), address(v) if is_memory(v) else 0) for p, v in objects(live)] == before
    for (_, mine), (_, theirs) in zip(objects(stored), objects(live), strict=True):
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs)
        elif isinstance(mine, np.ndarray):
            assert np.array_equal(mine, theirs)
        elif isinstance(mine, dict):
            scalars = {key: value for key, value in mine.items() if not is_memory(value)}
            assert repr(scalars.keys()) == repr({k: v for k, v in theirs.items() if not is_memory(v)}.keys())
    return live


def ramp(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.arange(1, 1 + int(np.prod(shape)), dtype=dtype).reshape(shape)


STORED = ramp(4, 6)
LAYOUTS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "transposed": (STORED, lambda: torch.zeros(6, 4).t()),
    "strided": (STORED, lambda: torch.zeros(4, 12)[:, ::2]),
    "stored transposed": (STORED.t(), lambda: torch.zeros(6, 4)),
    "both transposed": (STORED.t(), lambda: torch.zeros(4, 6).t()),
    "stored expanded": (torch.tensor([[1.0], [2.0]]).expand(2, 3), lambda: torch.zeros(2, 3)),
    "both expanded": (torch.tensor([[1.0], [2.0]]).expand(2, 3), lambda: torch.zeros(2, 1).expand(2, 3)),
    "0-d": (torch.tensor(7.5), lambda: torch.tensor(0.0)),
    "empty": (torch.empty(0, 3), lambda: torch.zeros(0, 3)),
    "conjugate": (torch.tensor([1 + 2j, 3j]), lambda: torch.zeros(2, dtype=torch.complex64).conj()),
    "stored conjugate": (torch.tensor([1 + 2j, 3j]).conj(), lambda: torch.zeros(2, dtype=torch.complex64)),
    "negative": (torch.tensor([1 + 2j, 3j]).conj().imag, lambda: torch.zeros(2, dtype=torch.complex64).conj().imag),
    "channels last": (ramp(2, 3, 4, 5), lambda: torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)),
    "bool": (torch.tensor([True, False]), lambda: torch.tensor([False, True])),
    "half": (ramp(700, dtype=torch.bfloat16), lambda: torch.zeros(700, dtype=torch.bfloat16)),
    "middle of a storage": (ramp(40), lambda: torch.zeros(100)[7:47]),
    "F order": (np.asfortranarray(STORED.numpy()), lambda: np.zeros((4, 6), np.float32, order="F")),
    "F from C": (STORED.numpy(), lambda: np.zeros((4, 6), np.float32, order="F")),
    "C from F": (np.asfortranarray(STORED.numpy()), lambda: np.zeros((4, 6), np.float32)),
    "array backwards": (STORED.numpy(), lambda: np.zeros((4, 6), np.float32)[::-1, ::-1]),
    "array 0-d": (np.array(3), lambda: np.array(0)),
    "array empty": (np.zeros((0, 2)), lambda: np.ones((0, 2))),
    "array of dates": (np.array(["2024-02-29"], "M8[D]"), lambda: np.zeros(1, "M8[D]")),
    "big-endian": (np.arange(5, dtype=">i4"), lambda: np.zeros(5, ">i4")),
    "large": (ramp(MIB), lambda: torch.zeros(MIB)),
    "large strided": (ramp(512, 1024), lambda: torch.zeros(1024, 512).t()),
    "large with a tail": (ramp(MIB // 4 + 3), lambda: torch.zeros(MIB // 4 + 3)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_leaf_of_another_layout_gets_the_values_where_it_is(store: casckpt.Store, name: str) -> None:
    stored, make = LAYOUTS[name]
    live = check(store, {"m": {"x": stored}, "n": 1}, {"m": {"x": make()}, "n": 2})
    assert live["n"] == 1


def test_what_lies_beside_a_strided_leaf_stays(store: casckpt.Store) -> None:
    base = torch.full((4, 12), 9.0)
    check(store, {"x": STORED}, {"x": base[:, ::2]})
    assert bool((base[:, 1::2] == 9).all())
    line = torch.full((100,), 9.0)
    check(store, {"x": ramp(40)}, {"x": line[7:47]})
    assert bool((line[:7] == 9).all()) and bool((line[47:] == 9).all())


def test_columns_of_one_matrix_are_no_conflict(store: casckpt.Store) -> None:
    """They interleave without sharing a byte, as the parts of a fused projection do."""
    live = torch.zeros(8, 9).split(3, dim=1)
    check(store, {"q": ramp(8, 3), "k": ramp(8, 3) + 1, "v": ramp(8, 3) + 2}, dict(zip("qkv", live, strict=True)))


@pytest.mark.parametrize("size", [3, 700, MIB])
@pytest.mark.parametrize("parts", [True, False])
def test_a_state_that_is_one_tensor_or_a_list_of_them(store: casckpt.Store, size: int, parts: bool) -> None:
    if parts:
        check(store, [ramp(size), ramp(size) + 1], [torch.zeros(size), torch.zeros(size)])
    else:
        check(store, ramp(size), torch.zeros(size))


@pytest.mark.parametrize("size", [2, 700, MIB])
@pytest.mark.parametrize("as_parameter", [True, False])
def test_autograd_hears_of_it_and_keeps_what_it_knew(store: casckpt.Store, size: int, as_parameter: bool) -> None:
    store.commit({"w": ramp(size)})
    for make in (lambda: torch.zeros(size), lambda: torch.zeros(2 * size)[::2]):
        live = torch.nn.Parameter(make()) if as_parameter else make().requires_grad_()
        loss = (live * live).sum()
        version = live._version
        store.checkout(into={"w": live})
        assert live._version > version
        assert live.requires_grad and live.is_leaf and live.grad is None
        assert torch.equal(live.detach(), ramp(size))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_gradient_is_asked_for_by_the_live_side_only(store: casckpt.Store) -> None:
    store.commit({"a": torch.nn.Parameter(ramp(3)), "b": ramp(3)})
    live = {"a": torch.zeros(3), "b": torch.nn.Parameter(torch.zeros(3))}
    store.checkout(into=live)
    assert (live["a"].requires_grad, live["b"].requires_grad) == (False, True)
    assert torch.equal(live["a"], ramp(3)) and torch.equal(live["b"].detach(), ramp(3))


# ---- scalars and containers


def test_other_values_are_replaced_in_their_containers(store: casckpt.Store) -> None:
    inner: Any = OrderedDict(a=1)
    inner._metadata = {"version": 3}
    stored = {
        "lr": 0.1, "text": "long " * 500, "raw": b"x" * 3000, "none": None, "list": [1, "a", np.float32(2)],
        "big": list(range(100)), "longer": list(range(70)), "o": inner, "scalar": np.float64(2.5), "empty": {}, "e": [],
    }  # fmt: skip
    other: Any = OrderedDict(a=2)
    live = {
        "lr": 1, "text": None, "raw": 3, "none": "x", "list": [ramp(2), None, "b"],
        "big": [0.5] * 100, "longer": [None], "o": other, "scalar": {}, "empty": {}, "e": [],
    }  # fmt: skip
    kept = [live["list"], live["big"], live["o"], live["empty"]]
    store.commit(stored)
    store.checkout(into=live)
    assert_same_state(stored, live)
    assert all(a is b for a, b in zip(kept, [live["list"], live["big"], live["o"], live["empty"]], strict=True))


def test_a_packed_list_takes_the_place_of_anything(store: casckpt.Store) -> None:
    numbers = list(range(300, 370))
    store.commit({"n": numbers})
    for there in (tuple(range(70)), [{}] * 70, bytearray(70), ramp(70), "x", [1], [torch.zeros(1)] * 70, None):
        live = {"n": there}
        store.checkout(into=live)
        assert live == {"n": numbers} and type(live["n"]) is list


def test_a_packed_list_is_overwritten_where_the_list_is_fixed(store: casckpt.Store) -> None:
    numbers = [float(n) for n in range(70)]
    for wrap in (lambda value: (value,), lambda value: value):
        store.commit(wrap(numbers))
        live = wrap([0.0] * 70)
        store.checkout(into=live)
        assert live == wrap(numbers)
        refused(store, wrap([0.0] * 69), "list of 70")
        refused(store, wrap(tuple(numbers)), "list of 70")


@pytest.mark.parametrize(
    "value",
    [1, -0.0, float("nan"), "x", None, True, b"b", 1j, np.float32(3), np.str_("é"), 1 << 80, bytearray(b"q"),
     np.float64("nan"), complex("nan")],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_values_in_tuples_are_replaced_unless_the_tuple_has_no_place(store: casckpt.Store, value: Any) -> None:
    store.commit({"t": ("x", (ramp(3), value))})
    whole = store.commit((ramp(3), value))
    for other in (2, 0.0, "y", None if value is not None else 0, False, {}, []):
        memory = torch.zeros(3)
        live = {"t": ("z", (memory, other))}
        store.checkout("main~1", into=live)
        assert live["t"][1][0] is memory and torch.equal(memory, ramp(3))
        assert_same_state(("x", value), (live["t"][0], live["t"][1][1]))
        if (type(other), str(other)) != (type(value), str(value)):
            error = refused(store, (torch.zeros(3), other), revision=whole.id)
            assert error.facts["path"] == "1"
    store.checkout(whole.id, into=(memory.zero_(), copy.deepcopy(value)))
    assert torch.equal(memory, ramp(3))


def test_one_tuple_in_two_places_takes_two_values(store: casckpt.Store) -> None:
    betas = (0.9, 0.99)
    store.commit({"groups": [{"betas": (0.8, 0.9)}, {"betas": (0.5, 0.6)}]})
    live = {"groups": [{"betas": betas}, {"betas": betas}]}
    store.checkout(into=live)
    assert live == {"groups": [{"betas": (0.8, 0.9)}, {"betas": (0.5, 0.6)}]}


def test_containers_in_tuples_are_filled(store: casckpt.Store) -> None:
    stored = ({"a": 1, "x": ramp(3)}, [2, ramp(4)])
    store.commit({"t": stored})
    live = {"t": ({"a": 0, "x": torch.zeros(3)}, [0, torch.zeros(4)])}
    store.checkout(into=live)
    assert_same_state({"t": stored}, live)


# ---- what does not fit


STATE: dict[str, Any] = {
    "m": {"w": ramp(300, 1000), "b": ramp(5), "a": np.arange(700)},
    "o": {"lr": 0.1, "state": {0: {"step": 3}, 1: {"step": 4}}, "list": [1, 2, {"x": ramp(2)}], "t": (1, ramp(2))},
    "epoch": 3,
}


def blank() -> dict[str, Any]:
    """A live state that `STATE` fits."""
    return {
        "m": {"w": torch.zeros(300, 1000), "b": torch.zeros(5), "a": np.zeros(700, np.int64)},
        "o": {"lr": 9.0, "state": {0: {"step": 0}, 1: {"step": 0}}, "list": [0, 0, {"x": torch.zeros(2)}],
              "t": (1, torch.zeros(2))},
        "epoch": 0,
    }  # fmt: skip


def replaced(path: str, value: Any) -> dict[str, Any]:
    live: Any = blank()
    *above, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    place = live
    for part in above:
        place = place[part]
    place[last] = value
    return live


def without(path: str) -> dict[str, Any]:
    live: Any = blank()
    *above, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    place = live
    for part in above:
        place = place[part]
    del place[last]
    return live


def read_only() -> Any:
    array = np.zeros(700, np.int64)
    array.flags.writeable = False
    return array


MISFITS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "dtype": (lambda: replaced("m/w", torch.zeros(300, 1000, dtype=torch.float64)), "m/w", "float64"),
    "shape": (lambda: replaced("m/w", torch.zeros(1000, 300)), "m/w", "1000, 300"),
    "dimensions": (lambda: replaced("m/b", torch.zeros(5, 1)), "m/b", "5, 1"),
    "an array for a tensor": (lambda: replaced("m/b", np.zeros(5, np.float32)), "m/b", "ndarray"),
    "a tensor for an array": (lambda: replaced("m/a", torch.zeros(700, dtype=torch.int64)), "m/a", "Tensor"),
    "a number for a tensor": (lambda: replaced("m/b", 5), "m/b", "int"),
    "array dtype": (lambda: replaced("m/a", np.zeros(700, np.uint64)), "m/a", "<u8"),
    "array byte order": (lambda: replaced("m/a", np.zeros(700, ">i8")), "m/a", ">i8"),
    "a read-only array": (lambda: replaced("m/a", read_only()), "m/a", "read-only"),
    "a broadcast array": (lambda: replaced("m/a", np.broadcast_to(np.zeros(1, np.int64), 700)), "m/a", "read-only"),
    "a sparse tensor": (lambda: replaced("m/b", torch.zeros(5).to_sparse()), "m/b", "sparse"),
    "a meta tensor": (lambda: replaced("m/b", torch.zeros(5, device="meta")), "m/b", "meta"),
    "an expanded tensor": (lambda: replaced("m/b", torch.zeros(1).expand(5)), "m/b", "share memory"),
    "a tensor that overlaps itself": (lambda: replaced("m/w", torch.zeros(1400).as_strided((300, 1000), (1, 1))),
                                      "m/w", "share memory"),
    "an array that overlaps itself": (
        lambda: replaced("m/a", np.lib.stride_tricks.as_strided(np.zeros(1, np.int64), (700,), (0,))),
        "m/a", "share memory"),
    "a missing key": (lambda: without("m/b"), "m/b", "no such entry"),
    "a missing component": (lambda: without("m"), "m", "no such entry"),
    "a missing number": (lambda: without("o/state/1"), "o/state/1", "no such entry"),
    "an extra key": (lambda: replaced("m/extra", 1), "m/extra", "not in the commit"),
    "an extra component": (lambda: replaced("x", {}), "x", "not in the commit"),
    "an extra odd key": (lambda: replaced("o/state", {0: {"step": 0}, 1: {"step": 0}, "0": 1}),
                         'o/state/"0"', "not in the commit"),
    "a shorter list": (lambda: without("o/list/0"), "o/list", "list of 3"),
    "a longer list": (lambda: replaced("o/list", [0, 0, {"x": torch.zeros(2)}, 1]), "o/list", "list of 3"),
    "a tuple for a list": (lambda: replaced("o/list", (0, 0, {"x": torch.zeros(2)})), "o/list", "list of 3"),
    "a list for a tuple": (lambda: replaced("o/t", [1, torch.zeros(2)]), "o/t", "tuple of 2"),
    "a list for a dict": (lambda: replaced("o/state", [0, 1]), "o/state", "dict"),
    "a dict for a list": (lambda: replaced("o/list", {}), "o/list", "list of 3"),
    "a longer tuple": (lambda: replaced("o/t", (1, torch.zeros(2), 1)), "o/t", "tuple of 2"),
    "a list at the root": (lambda: [1], "the state", "dict"),
    "a number at the root": (lambda: 1, "the state", "dict"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("first", [False, True])
def test_what_does_not_fit_is_named_before_anything_is_changed(store: casckpt.Store, name: str, first: bool) -> None:
    make, path, problem = MISFITS[name]
    store.commit(STATE)
    error = refused(store, make(), verify="first" if first else None)
    assert error.facts["path"] == path
    assert problem in str(error)
    assert error.facts["count"] == 1
    store.checkout(into=blank())


def test_all_that_does_not_fit_is_counted(store: casckpt.Store) -> None:
    store.commit(STATE)
    live = replaced("m/b", torch.zeros(6))
    live["m"]["extra"] = live["o"]["list"] = 5
    error = refused(store, live)
    assert set(error.facts["problems"]) == {"m/b", "m/extra", "o/list"}
    assert error.facts["count"] == 3


def test_a_selection_ignores_what_it_does_not_name(store: casckpt.Store) -> None:
    store.commit(STATE)
    live = {"m": {"w": torch.zeros(300, 1000), "extra": 1}, "x": "kept"}
    assert store.checkout(into=live, select="m/w") is live
    assert torch.equal(live["m"]["w"], STATE["m"]["w"])
    assert (live["m"]["extra"], live["x"]) == (1, "kept")
    refused(store, live, "no such entry", select=["m/w", "m/b"])
    refused(store, {"m": {}}, "no such entry", select="**/w")


def test_a_selection_out_of_a_tied_pair(store: casckpt.Store) -> None:
    tied = ramp(MIB)
    store.commit({"a": {"w": tied, "v": tied}, "b": {"w": tied, "n": 1}})
    live = {"a": {"w": torch.zeros(MIB), "v": torch.zeros(MIB)}, "b": {"w": torch.zeros(MIB)}}
    store.checkout(into=live, select="b/w")
    assert torch.equal(live["b"]["w"], tied)
    assert not live["a"]["w"].any() and not live["a"]["v"].any()


# ---- shared memory


def test_tied_in_both_stays_tied(store: casckpt.Store) -> None:
    for size in (3, 700, MIB):
        tied, here = ramp(size), torch.zeros(size)
        store.commit({"m": {"a": tied, "b": tied}, "o": {"c": tied}})
        live = {"m": {"a": here, "b": here}, "o": {"c": here}}
        store.checkout(into=live)
        assert live["m"]["a"] is live["m"]["b"] is live["o"]["c"] is here
        assert torch.equal(here, tied)


def test_tied_in_the_commit_only_fills_both(store: casckpt.Store) -> None:
    for size, strided in itertools.product((3, 700, MIB), (False, True)):
        tied = ramp(size)
        store.commit({"m": {"a": tied, "b": tied}, "o": {"c": tied}})
        parts = [torch.zeros(2 * size)[::2] if strided and not n else torch.zeros(size) for n in range(3)]
        store.checkout(into={"m": {"a": parts[0], "b": parts[1]}, "o": {"c": parts[2]}})
        assert all(torch.equal(part, tied) for part in parts)


def test_a_view_of_a_leaf_comes_back_as_it_was(store: casckpt.Store) -> None:
    base = ramp(40, 10)
    store.commit({"base": base, "row": base[3], "column": base[:, 2], "turned": base.t()})
    here = torch.zeros(40, 10)
    for live in (
        {"base": here, "row": here[3], "column": here[:, 2], "turned": here.t()},
        {
            name: torch.zeros(shape)
            for name, shape in (("base", (40, 10)), ("row", 10), ("column", 40), ("turned", (10, 40)))
        },
    ):
        store.checkout(into=live)
        assert torch.equal(live["base"], base) and torch.equal(live["row"], base[3])
        assert torch.equal(live["column"], base[:, 2]) and torch.equal(live["turned"], base.t())


def conflicts() -> dict[str, tuple[Any, Any]]:
    """States in which two leaves cannot both have their stored values."""
    shared, line, square = torch.zeros(8), torch.zeros(12), torch.zeros(4, 4)
    both = ramp(8)
    matrix = ramp(4, 4)
    array = np.zeros(8)
    large = torch.zeros(2 * MIB)
    return {
        "the same tensor": ({"a": ramp(8), "b": ramp(8) + 1}, {"a": shared, "b": shared}),
        "halves": ({"a": ramp(8), "b": ramp(8) + 1}, {"a": line[:8], "b": line[4:]}),
        "halves of a tied pair": ({"a": both, "b": both}, {"a": line[:8], "b": line[4:]}),
        "a strided view twice": ({"a": ramp(6), "b": ramp(6) + 1}, {"a": line[::2], "b": line[::2]}),
        "a whole and its strided view": ({"a": ramp(12), "b": ramp(6)}, {"a": line, "b": line[::2]}),
        "a whole and its end": ({"a": both, "b": both[:4]}, {"a": shared, "b": shared[4:]}),
        "turned in the commit only": ({"a": matrix, "b": matrix.t()}, {"a": square, "b": square}),
        "turned here only": ({"a": matrix, "b": matrix}, {"a": square, "b": square.t()}),
        "arrays": ({"a": np.arange(8.0), "b": np.arange(8.0) + 1}, {"a": array, "b": array}),
        "reversed": ({"a": np.arange(8.0), "b": np.arange(8.0)}, {"a": array, "b": array[::-1]}),
        "an array of a tensor": ({"a": ramp(8), "b": np.arange(8, dtype="f4")}, {"a": shared, "b": shared.numpy()}),
        "large ones": ({"a": ramp(MIB), "b": ramp(MIB) + 1}, {"a": large[:MIB], "b": large[1 : MIB + 1]}),
        "across components": ({"a": {"x": ramp(8)}, "b": {"x": ramp(8) + 1}}, {"a": {"x": shared}, "b": {"x": shared}}),
        "another type": ({"a": ramp(8), "b": torch.arange(8, dtype=torch.int32)},
                         {"a": shared, "b": shared.view(torch.int32)}),
    }  # fmt: skip


@pytest.mark.parametrize("name", conflicts())
def test_memory_that_is_shared_only_here_is_refused(store: casckpt.Store, name: str) -> None:
    stored, live = conflicts()[name]
    store.commit(stored)
    error = refused(store, live, "share")
    assert error.facts["path"].split("/")[0] in "ab"


def test_one_container_in_two_places_takes_one_state_only(store: casckpt.Store) -> None:
    here = {"lr": 0}
    store.commit({"a": {"lr": 1}, "b": {"lr": 1}})
    store.checkout(into={"a": here, "b": here})
    assert here == {"lr": 1}
    store.commit({"a": {"lr": 1}, "b": {"lr": 2}})
    refused(store, {"a": here, "b": here}, "same")
    here["lr"] = (0,)
    store.commit({"a": {"lr": (1,)}, "b": {"lr": (2,)}})
    refused(store, {"a": here, "b": here}, "same")


# ---- models


def network() -> Any:
    return torch.nn.Sequential(
        torch.nn.Linear(20, 30),
        torch.nn.LayerNorm(30),
        torch.nn.BatchNorm1d(30),
        torch.nn.GELU(),
        torch.nn.Linear(30, 20),
    )


def trained(seed: int, steps: int) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01 * (seed + 1))
    train(model, optimizer, steps, seed)
    return model, optimizer


def train(model: Any, optimizer: Any, steps: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        batch = torch.randn(16, 20, generator=generator)
        optimizer.zero_grad()
        loss = ((model(batch) - batch) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_training_goes_on_in_place_as_from_a_fresh_start(store: casckpt.Store) -> None:
    model, optimizer = trained(1, 3)
    store.commit({"model": model.state_dict(), "optimizer": optimizer.state_dict()})

    state = store.checkout()
    fresh_model, fresh_optimizer = trained(2, 0)
    fresh_model.load_state_dict(state["model"])
    fresh_optimizer.load_state_dict(state["optimizer"])
    expected = train(fresh_model, fresh_optimizer, 4, 7)

    live_model, live_optimizer = trained(3, 2)
    live = {"model": live_model.state_dict(), "optimizer": live_optimizer.state_dict()}
    parameters = [(id(p), p.data_ptr()) for p in live_model.parameters()]
    assert store.checkout(into=live) is live
    live_optimizer.load_state_dict(live["optimizer"])
    assert [(id(p), p.data_ptr()) for p in live_model.parameters()] == parameters
    assert train(live_model, live_optimizer, 4, 7) == expected
    assert_same_state(fresh_model.state_dict(), live_model.state_dict())
    assert_same_state(fresh_optimizer.state_dict(), live_optimizer.state_dict())


def test_tied_weights_of_a_module_stay_tied(store: casckpt.Store) -> None:
    def tied() -> Any:
        made = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Linear(9, 9))
        made[1].weight = made[0].weight
        return made

    torch.manual_seed(0)
    stored, live = tied(), tied()
    store.commit(stored.state_dict())
    store.checkout(into=live.state_dict())
    assert live[1].weight is live[0].weight
    assert torch.equal(live[0].weight, stored[0].weight) and torch.equal(live[1].bias, stored[1].bias)


# ---- damage


def noise(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8)


def damage(storage: MemoryStorage, plain: bytes) -> None:
    """Flip a bit of the only stored copy of some bytes."""
    (hit,) = [(name, data.index(plain)) for name, data in storage.snapshot().items() if data and plain in data]
    name, offset = hit
    file = storage.open_write(name)
    file.write_at(bytes([plain[0] ^ 1]), offset)
    file.close()


DAMAGED: dict[str, tuple[str, int]] = {"first chunk": ("m/b", 0), "second chunk": ("m/b", 9 * MIB), "last": ("o/z", 0)}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("first", [False, True])
def test_damage_of_one_chunk_names_what_was_overwritten(name: str, threads: int, first: bool) -> None:
    path, at = DAMAGED[name]
    stored = {
        "m": {"a": noise(3 * MIB, 1), "b": noise(12 * MIB, 2), "c": noise(60 * MIB, 3)},
        "o": {"small": noise(900, 4), "other": noise(700, 5), "z": noise(2 * MIB, 6)},
    }
    store, storage = new_store(threads)
    with store:
        store.commit(stored, compress="off")
        part, leaf = path.split("/")
        damage(storage, stored[part][leaf][at : at + 1000].tobytes())
        live = {part: {name: np.zeros_like(value) for name, value in child.items()} for part, child in stored.items()}
        with pytest.raises(DamagedLeaf) as found:
            store.checkout(into=live, verify="first" if first else None)
    error = found.value
    assert path in error.facts["path"]
    touched = {f"{part}/{name}" for part, child in live.items() for name, value in child.items() if value.any()}
    if first:
        assert not isinstance(error, PartialRestore) and not touched
        return
    assert isinstance(error, PartialRestore)
    assert touched <= set(error.facts["overwritten"])
    assert error.facts["count"] == len(error.facts["overwritten"]) == len(set(error.facts["overwritten"]))
    if name != "last":
        assert "o/z" not in error.facts["overwritten"]
    assert str(len(error.facts["overwritten"])) in str(error)


def test_damage_before_anything_was_overwritten_is_no_partial_restore() -> None:
    """What is read into memory of its own first leaves the live state alone."""
    store, storage = new_store()
    with store:
        stored = {"a": noise(2 * MIB, 1).reshape(1024, -1)}
        store.commit(stored, compress="off")
        damage(storage, stored["a"][:1].tobytes())
        live = {"a": np.zeros((2048, 1024), np.uint8).T}
        with pytest.raises(DamagedLeaf) as found:
            store.checkout(into=live)
        assert type(found.value) is DamagedLeaf
        assert not live["a"].any()


@pytest.mark.parametrize("tied", [True, False])
def test_leaves_that_share_memory_are_all_named(tied: bool) -> None:
    store, storage = new_store()
    with store:
        weight = noise(2 * MIB, 1)
        store.commit({"m": {"w": weight, "v": weight}, "o": {"w": weight, "z": noise(2 * MIB, 2)}}, compress="off")
        damage(storage, weight[:1000].tobytes())
        here = np.zeros(2 * MIB, np.uint8)
        others = [here if tied else np.zeros(2 * MIB, np.uint8) for _ in range(2)]
        live = {"m": {"w": here, "v": others[0]}, "o": {"w": others[1], "z": np.zeros(2 * MIB, np.uint8)}}
        with pytest.raises(PartialRestore) as found:
            store.checkout(into=live)
        overwritten = set(found.value.facts["overwritten"])
        assert overwritten - {"o/z"} == ({"m/w", "m/v", "o/w"} if tied else {"m/w"})
        assert all(not other.any() for other in others if not tied)


# ---- how it is called


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "First"},
        {"verify": "x", "into": {}},
        {"verify": True},
        {"verify": ""},
        {"verify": "first"},
        {"verify": "background"},
        {"verify": "background", "into": {}},
        {"verify": "first", "mmap": True},
        {"mmap": True, "into": {}},
        {"into": {}, "select": 5},
        {"into": {}, "select": []},
        {"select": [None]},
    ],
    ids=repr,
)
def test_arguments_that_do_not_go_together_are_refused(store: casckpt.Store, options: dict[str, Any]) -> None:
    store.commit({})
    with pytest.raises(UsageError):
        store.checkout(**options)


def test_progress_counts_every_byte_once_and_can_cancel(store: casckpt.Store) -> None:
    store.commit(STATE)
    total = 300 * 1000 * 4 + 5 * 4 + 700 * 8 + 2 * 2 * 4
    for first in (None, "first"):
        seen: list[tuple[int, int]] = []
        store.checkout(into=blank(), verify=first, progress=lambda done, of: seen.append((done, of)))  # noqa: B023
        assert {of for _, of in seen} == {total}
        counts = [done for done, _ in seen]
        assert counts == sorted(counts) and len(set(counts)) == len(counts) and counts[-1] <= total

    def cancel(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.checkout(into=blank(), progress=cancel)


def test_files_are_not_restored_into_a_state(store: casckpt.Store, tmp_path: Any) -> None:
    (tmp_path / "f").write_bytes(b"x")
    store.commit_path(tmp_path / "f")
    with pytest.raises(UsageError, match="checkout_path"):
        store.checkout(into={"f": 1})


@pytest.mark.parametrize(
    "error",
    [
        StateMismatch(path="m/w", problem="no", count=2, problems={"m/w": "no", "x": "y"}),
        PartialRestore(object="m", path="m", commit="c", problem="p", count=1, overwritten=["m/a"], shown="m/a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_errors_pickle_and_say_the_same(error: errors.CasckptError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and again.facts == error.facts
    assert "?" not in str(error)
