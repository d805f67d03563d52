from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import casckpt
from casckpt.errors import DamagedLeaf, UsageError
from casckpt.format.ids import Kind
from casckpt.odb.database import Database
from casckpt.ops.reports import Diff
from casckpt.ops.value_reports import Measures, Overlap

MIB = 1 << 20
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int8, torch.int64, torch.uint8, torch.bool, torch.complex64),
)


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def compared(store: casckpt.Store, before: Any, after: Any, **words: Any) -> Diff:
    return store.diff(store.commit(before).id, store.commit(after).id, values=True, **words)


def measures(found: Diff, path: str) -> Measures:
    assert found.values is not None
    return next(leaf.measures for leaf in found.values.leaves if leaf.path == path)


def check(found: Measures, before: Any, after: Any) -> None:
    """Compare with float64; what is not finite on a side counts as changed alone."""
    sides = [torch.as_tensor(side) for side in (before, after)]
    wide = torch.complex128 if any(side.is_complex() for side in sides) else torch.float64
    old, new = (side.to(wide).numpy().reshape(-1) for side in sides)
    kept = np.isfinite(old) & np.isfinite(new)
    a, b = old[kept], new[kept]
    nan = np.isnan(old) & np.isnan(new)
    assert found.elements == len(old)
    assert found.changed == pytest.approx(np.count_nonzero((old != new) & ~nan) / max(len(old), 1))
    assert found.l2 == pytest.approx(np.linalg.norm(b - a), rel=1e-9)
    assert found.largest == pytest.approx(np.max(np.abs(b - a), initial=0), rel=1e-9)
    assert (found.nan_before, found.nan_after) == (np.count_nonzero(np.isnan(old)), np.count_nonzero(np.isnan(new)))
    assert (found.inf_before, found.inf_after) == (np.count_nonzero(np.isinf(old)), np.count_nonzero(np.isinf(new)))
    length, other = np.linalg.norm(a), np.linalg.norm(b)
    if found.whole:
        change = np.linalg.norm(b - a)
        assert found.relative == pytest.approx(change / length if length else math.inf if change else 0, rel=1e-9)
    if found.whole and length and other:
        assert found.cosine == pytest.approx(np.vdot(a, b).real / length / other, abs=1e-9)
    else:
        assert found.cosine is None


def random(dtype: torch.dtype, size: int, seed: int) -> torch.Tensor:
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 50
    return values.to(dtype) if dtype != torch.bool else values > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 7, 1000, 700_001])
def test_every_dtype_is_measured_tiny_small_and_large(store: casckpt.Store, dtype: torch.dtype, size: int) -> None:
    before, after = random(dtype, size, 1), random(dtype, size, 2)
    after[0] = not before[0] if dtype == torch.bool else 1.5
    found = compared(store, {"x": before}, {"x": after})
    check(measures(found, "x"), before, after)


@given(st.data())
def test_leaves_with_shared_chunks_are_measured(data: st.DataObject) -> None:
    """Changes anywhere in a leaf of several chunks, of which some stay as they are."""
    dtype = data.draw(st.sampled_from([np.dtype("<f4"), np.dtype("<f8"), np.dtype("<i4")]))
    size = data.draw(st.integers(0, 3 * MIB // dtype.itemsize))
    before = np.arange(size).astype(dtype)
    after = before.copy()
    for at in data.draw(st.lists(st.integers(0, max(size - 1, 0)), max_size=4)):
        if size:
            after[at] = data.draw(st.sampled_from([0, 1, -3]))
    if size and dtype.kind == "f" and data.draw(st.booleans()):
        after[data.draw(st.integers(0, size - 1))] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    exact = data.draw(st.booleans())
    with casckpt.memory() as store:
        found = compared(store, {"x": before}, {"x": after}, exact=exact)
        assert found.values is not None
        if not found.leaves:
            assert np.array_equal(before, after, equal_nan=True)
            assert found.values.compared == 0
            return
        assert measures(found, "x").whole or not exact
        check(measures(found, "x"), before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
        (torch.tensor(2.0), torch.tensor(3.0)),
        (np.array(5), np.array(6)),
        (torch.zeros(4), torch.ones(4)),
        (torch.ones(4), torch.zeros(4)),
        (np.arange(100_000.0)[::-1], np.arange(100_000.0)[::-1] + 1),
        (list(range(100)), list(range(1, 101))),
    ],
    ids=["recast-zeros", "0-d", "0-d-array", "from-zero", "to-zero", "reversed", "numbers"],
)
def test_odd_leaves_are_measured(store: casckpt.Store, before: Any, after: Any) -> None:
    before, after = (np.ascontiguousarray(side) if isinstance(side, np.ndarray) else side for side in (before, after))
    check(measures(compared(store, {"x": before}, {"x": after}), "x"), before, after)


LAYOUTS = {
    "plain": lambda x: x.clone(),
    "transposed": lambda x: x.T.contiguous().T,
    "padded": lambda x: torch.nn.functional.pad(x, (3, 5))[:, 3:-5],
    "shifted": lambda x: torch.cat([torch.zeros(5), x.reshape(-1)])[5:].reshape(x.shape),
}


@pytest.mark.parametrize("pair", list(itertools.product(LAYOUTS, LAYOUTS)), ids="-".join)
def test_elements_are_paired_by_index_in_whatever_order_they_lie(store: casckpt.Store, pair: tuple[str, str]) -> None:
    before = torch.randn(700, 800, generator=torch.Generator().manual_seed(3))
    after = before + 0.1 * torch.randn(700, 800, generator=torch.Generator().manual_seed(4))
    found = compared(store, {"x": LAYOUTS[pair[0]](before)}, {"x": LAYOUTS[pair[1]](after)})
    check(measures(found, "x"), before, after)


def test_negative_strides_are_followed(store: casckpt.Store) -> None:
    before = np.arange(300_000.0)
    found = compared(store, {"x": before[::-1]}, {"x": before})
    check(measures(found, "x"), before[::-1].copy(), before)


def test_an_expanded_tensor_is_measured_without_its_copies(store: casckpt.Store) -> None:
    before, after = torch.tensor([1.0]).expand(1000, 1000), torch.tensor([3.0]).expand(1000, 1000)
    found = measures(compared(store, {"x": before}, {"x": after}), "x")
    assert (found.l2, found.relative, found.elements) == (pytest.approx(2000), pytest.approx(2), 1_000_000)


def test_elements_scattered_over_more_than_is_held_are_not_measured(store: casckpt.Store) -> None:
    wide = torch.arange(5.0 * MIB)
    found = compared(store, *({"all": flat, "some": flat[:: MIB // 16]} for flat in (wide, wide + 1)))
    assert found.values is not None
    assert (found.values.unmeasured, found.values.compared) == (("some",), 1)


def test_views_of_one_tensor_are_measured_each(store: casckpt.Store) -> None:
    before = torch.randn(700_000, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after[100_000:400_000] += 1
    cuts = [0, 1, 99_999, 300_001, 699_000, 700_000]
    parts = [{f"v{a}": flat[a:b] for a, b in itertools.pairwise(cuts)} for flat in (before, after)]
    found = compared(store, *parts)
    for a, b in itertools.pairwise(cuts):
        if not torch.equal(before[a:b], after[a:b]):
            check(measures(found, f"v{a}"), before[a:b], after[a:b])


# ---- what is read


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of all chunks that are read from now on."""
    read, counts, lock = Database.read, [], threading.Lock()

    def counted(self: Database, identity: Any, kind: Any, target: Any = None) -> Any:
        data = read(self, identity, kind, target)
        if kind == Kind.CHUNK:
            with lock:
                counts.append(len(data))
        return data

    monkeypatch.setattr(Database, "read", counted)
    return counts


def layers(count: int, changed: set[int], *, part: bool = False) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for number in range(count):
        weight = torch.arange(3 * MIB // 4) + number * MIB
        bias = torch.arange(500.0) + number
        if number in changed:
            weight = torch.cat([weight[:9] + 7, weight[9:]]) if part else weight + 7
            bias = bias + 1
        state[f"layer{number:02}"] = {"weight": weight.float(), "bias": bias}
    return state


@pytest.mark.parametrize("part", [False, True], ids=["leaves", "parts-of-leaves"])
def test_of_states_that_share_90_percent_at_most_11_percent_is_read(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch, part: bool
) -> None:
    changed = set(range(0, 20, 10)) if not part else set(range(0, 20, 3))
    first = store.commit(layers(20, set())).id
    second = store.commit(layers(20, changed, part=part)).id
    plain = store.diff(first, second)
    shared = plain.equal_bytes / plain.total_bytes
    assert shared > 0.85
    counts = counting(monkeypatch)
    found = store.diff(first, second, values=True).values
    assert found is not None
    assert sum(counts) == found.read_bytes
    assert found.read_bytes <= 1.1 * (1 - shared) * found.total_bytes
    assert found.compared == 2 * len(changed)
    assert all(leaf.measures.whole for leaf in found.leaves if leaf.path.endswith("bias"))
    assert all(leaf.measures.whole != part for leaf in found.leaves if leaf.path.endswith("weight"))


def test_equal_commits_are_not_read_at_all(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.commit(layers(2, set())).id
    counts = counting(monkeypatch)
    found = store.diff(first, first, values=True).values
    assert found is not None
    assert (counts, found.read_bytes, found.leaves) == ([], 0, ())


def test_chunks_that_did_not_change_are_read_for_the_lengths_only_if_exact(store: casckpt.Store) -> None:
    before = torch.randn(4 * MIB, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after[2 * MIB] += 5
    found = compared(store, {"x": before}, {"x": after})
    part = measures(found, "x")
    assert (part.whole, part.relative, part.cosine) == (False, None, None)
    check(part, before, after)
    assert found.values is not None
    assert found.values.read_bytes == 2 * MIB
    exact = compared(store, {"x": before}, {"x": after}, exact=True)
    check(measures(exact, "x"), before, after)
    assert exact.values is not None
    assert exact.values.read_bytes == 17 * MIB


def test_progress_is_told_of_all_that_is_read(store: casckpt.Store) -> None:
    said: list[tuple[int, int]] = []
    compared(store, layers(9, set()), layers(9, {1, 2, 3, 4, 5}), progress=lambda *now: said.append(now))
    assert said[-1] == (5 * 6 * MIB, 5 * 6 * MIB)
    assert said == sorted(said)


def test_what_progress_raises_cancels_the_diff_and_leaves_no_thread(store: casckpt.Store) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        compared(store, layers(9, set()), layers(9, {1, 2, 3, 4, 5}), progress=stop)
    assert threading.active_count() == before


# ---- kinds of changes


def kinds(found: Diff) -> dict[str, tuple[str, str | None]]:
    return {leaf.path: (leaf.change, leaf.source) for leaf in found.leaves}


def test_numbers_in_another_form_are_recast_reshaped_or_resized(store: casckpt.Store) -> None:
    weight = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    before = {"cast": weight, "shape": weight, "size": weight, "complex": weight, "text": "a", "array": weight}
    after = {
        "cast": weight.bfloat16(), "shape": weight.reshape(40, 30) * 2, "size": weight[:7],
        "complex": weight.to(torch.complex64), "text": 5, "array": weight.numpy().copy(),
    }  # fmt: skip
    found = compared(store, before, after)
    assert kinds(found) == {
        "cast": ("recast", None), "shape": ("reshaped", None), "size": ("resized", None),
        "complex": ("recast", None), "text": ("kind", None), "array": ("kind", None),
    }  # fmt: skip
    assert found.values is not None
    assert {leaf.path for leaf in found.values.leaves} == {"cast", "shape", "size", "array"}
    assert found.values.unmeasured == ("complex",)
    check(measures(found, "cast"), weight, weight.bfloat16())
    assert measures(found, "shape").relative == pytest.approx(1)
    assert measures(found, "array").changed == 0


def overlap(found: Diff, path: str = "x") -> Overlap | None:
    assert found.values is not None
    return next(leaf.overlap for leaf in found.values.leaves if leaf.path == path)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.data(),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64]),
    st.sampled_from([torch.float32, torch.float16]),
)
def test_of_a_leaf_resized_along_an_axis_the_part_that_both_have_is_measured(
    shape: list[int], data: st.DataObject, one: torch.dtype, other: torch.dtype
) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    size = data.draw(st.integers(1, 40).filter(lambda size: size != shape[axis]))
    resized = [*shape[:axis], size, *shape[axis + 1 :]]
    turns = data.draw(st.permutations(range(len(shape)))), data.draw(st.permutations(range(len(shape))))
    sides = []
    for number, (wanted, turn, dtype) in enumerate(zip((shape, resized), turns, (one, other), strict=True)):
        values = torch.randn(wanted, generator=torch.Generator().manual_seed(number)).mul(10).to(dtype)
        back = [turn.index(dimension) for dimension in range(len(turn))]
        sides.append(values.permute(turn).contiguous().permute(back))
    before, after = sides
    with casckpt.memory() as store:
        found = compared(store, {"x": before}, {"x": after})
    assert kinds(found) == {"x": ("resized", None)}
    common = min(shape[axis], size)
    assert overlap(found) == Overlap(axis, common, shape[axis], size)
    check(measures(found, "x"), before.narrow(axis, 0, common), after.narrow(axis, 0, common))


@pytest.mark.parametrize("rows", [700, 3000])
def test_rows_of_large_leaves_are_compared_chunk_by_chunk(store: casckpt.Store, rows: int) -> None:
    before = torch.randn(2000, 1000, generator=torch.Generator().manual_seed(0))
    after = torch.randn(rows, 1000, generator=torch.Generator().manual_seed(1))
    found = compared(store, {"x": before}, {"x": after})
    common = min(rows, 2000)
    check(measures(found, "x"), before[:common], after[:common])
    assert found.values is not None
    assert found.values.read_bytes <= 2 * (common * 4000 + MIB)


def test_rows_that_both_share_by_id_are_not_read(store: casckpt.Store) -> None:
    before = torch.randn(4096, 1024, generator=torch.Generator().manual_seed(0))
    after = torch.cat([before, torch.ones(1024, 1024)])
    after[0, 0] += 1
    found = compared(store, {"x": before}, {"x": after})
    part = measures(found, "x")
    assert (part.elements, part.changed * part.elements, part.largest, part.whole) == (4096 << 10, 1, 1, False)
    assert found.values is not None
    assert found.values.read_bytes == 2 * MIB
    check(measures(compared(store, {"x": before}, {"x": after}, exact=True), "x"), before, after[:4096])


def test_leaves_without_a_part_in_common_along_one_axis_are_not_measured(store: casckpt.Store) -> None:
    ones = torch.ones(6, 8)
    before = {"axes": ones, "rank": ones, "empty": ones, "scattered": torch.ones(3000, 1500)}
    after = {
        "axes": torch.ones(7, 9), "rank": torch.ones(6), "empty": torch.ones(0, 8), "scattered": torch.ones(3000, 1501),
    }  # fmt: skip
    found = compared(store, before, after)
    assert {change for change, _ in kinds(found).values()} == {"resized"}
    assert found.values is not None
    assert found.values.leaves == ()
    assert found.values.unmeasured == ("scattered",)


@pytest.mark.parametrize(("one", "other"), [(np.float64, np.float32), (np.float32, np.float64), (np.int64, np.int8)])
def test_large_leaves_of_other_widths_are_paired(store: casckpt.Store, one: Any, other: Any) -> None:
    before = (np.arange(900_001) % 100).astype(one)
    after = ((np.arange(900_001) + 1) % 100).astype(other)
    check(measures(compared(store, {"x": before}, {"x": after}), "x"), before, after)


def test_leaves_under_a_new_prefix_are_renamed_large_and_small(store: casckpt.Store) -> None:
    names = ("a/weight", "a/bias", "b/weight", "b/bias")
    rng = np.random.default_rng(0)
    leaves = {name: rng.standard_normal(MIB // 8 if "weight" in name else 300) for name in names}
    leaves["c/bias"] = leaves["b/bias"].copy()
    leaves["a/scale"] = np.ones(2)
    nested = {n: {k.split("/")[1]: v for k, v in leaves.items() if k[0] == n} for n in "abc"}
    found = compared(store, {"blocks": nested, "gone": np.ones(2)}, {"h": nested, "new": np.ones(2)})
    expected: dict[str, tuple[str, str | None]] = {f"h/{name}": ("renamed", f"blocks/{name}") for name in leaves}
    assert kinds(found) == expected | {"gone": ("removed", None), "new": ("added", None)}
    assert store.diff(found.before.id, found.after.id).leaves[0].change in ("added", "removed")


# ---- groups, order, arguments


def test_groups_add_up_what_lies_below_a_path(store: casckpt.Store) -> None:
    before = {"a": {"x": torch.ones(3, 100), "y": torch.ones(50), "same": torch.ones(9)}, "b": torch.ones(7)}
    after = {"a": {**before["a"], "x": torch.ones(3, 100) * 3, "y": torch.zeros(50)}, "b": torch.ones(7) * 1.5}
    found = compared(store, before, after, by=1).values
    assert found is not None
    assert [(group.path, group.leaves, group.equal) for group in found.groups] == [("a", 2, 1), ("b", 1, 0)]
    check(found.groups[0].measures, torch.ones(350), torch.cat([torch.ones(300) * 3, torch.zeros(50)]))
    assert found.groups[1].measures.relative == pytest.approx(0.5)


def test_the_largest_relative_changes_come_first(store: casckpt.Store) -> None:
    before = {"small": torch.ones(100) * 1000, "zero": torch.zeros(100), "large": torch.ones(100)}
    after = {"small": torch.ones(100) * 1010, "zero": torch.ones(100), "large": torch.ones(100) * 3}
    found = compared(store, before, after, top=2).values
    assert found is not None
    assert [leaf.path for leaf in found.leaves] == ["zero", "large"]
    assert found.compared == 3


@pytest.mark.parametrize("words", [{"top": -1}, {"by": 0}, {"by": True}, {"top": 1.5}])
def test_counts_that_are_none_are_refused(store: casckpt.Store, words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        compared(store, {}, {}, **words)


def test_words_about_values_need_values(store: casckpt.Store) -> None:
    store.commit({})
    with pytest.raises(UsageError, match="by, exact of a diff need values=True"):
        store.diff("@", "@", by=1, exact=True)


def test_damage_names_the_leaf(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        first, second = (store.commit({"ok": 1, "w": random(torch.float32, MIB, seed)}).id for seed in (1, 2))
        pack = max((tmp_path / "store").rglob("*.pack"), key=lambda path: path.stat().st_mtime_ns)
        data = bytearray(pack.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(64)
        pack.chmod(0o644)
        pack.write_bytes(data)
        with pytest.raises(DamagedLeaf, match="w"):
            store.diff(first, second, values=True)
