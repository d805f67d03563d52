"""Checkout by mappings of the packs: what comes of it, of writing to it, and of damage in it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import casckpt
from casckpt.errors import DamagedLeaf
from casckpt.odb import fetch
from casckpt.storage.mapping import can_map
from tests.strategies import assert_same_state, states

MIB = 1 << 20

pytestmark = pytest.mark.skipif(not can_map(), reason="this system cannot lay pieces of files in memory")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "store") as made:
        yield made


def noise(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8)


def mapped_lengths(store: casckpt.Store) -> list[int]:
    """Lengths of the ranges in which this process has packs of a store mapped."""
    gc.collect()
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) > 5 and fields[5].startswith(f"{store.path}/packs/"):
            start, end = fields[0].split("-")
            found.append(int(end, 16) - int(start, 16))
    return found


def address(value: Any) -> int:
    return int(value.data_ptr() if isinstance(value, torch.Tensor) else value.ctypes.data)


def pack_of(store: casckpt.Store, plain: bytes) -> tuple[Path, int]:
    """The only pack that holds some bytes, and where."""
    assert store.path is not None
    packs = [(path, path.read_bytes()) for path in sorted((store.path / "packs").iterdir())]
    ((path, data),) = [(path, data) for path, data in packs if plain in data]
    return path, data.index(plain)


def damage(store: casckpt.Store, plain: bytes) -> None:
    """Flip a bit of the only copy of some bytes on the disk."""
    path, offset = pack_of(store, plain)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([plain[0] ^ 1]))


BIG = {
    "model": {
        "w": torch.arange(3 * MIB // 4 + 5, dtype=torch.float32),
        "bf16": torch.arange(MIB).to(torch.bfloat16).reshape(1024, -1),
        "p": torch.nn.Parameter(torch.arange(float(MIB))),
        "array": noise(2 * MIB + 1).reshape(1, -1),
        "columns": np.asfortranarray(noise(4 * MIB, 1).reshape(2048, -1)),
        "wide": torch.zeros(1, 7).expand(200_000, 7),
        "small": torch.arange(300.0),
        "tiny": torch.tensor(3),
        "exact": noise(MIB, 2),
        "below": noise(MIB - 1, 3),
    },
    "text": "x" * (2 * MIB),
    "raw": noise(2 * MIB, 4).tobytes(),
    "numbers": list(range(300_000)),
    "scalar": 1,
}


def assert_equal(a: Any, b: Any) -> None:
    """Fail unless two large states are equal in types, bits and layout; looks at no single element."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, torch.Tensor):
        assert (a.dtype, a.stride(), a.requires_grad) == (b.dtype, b.stride(), b.requires_grad)
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.strides) == (b.dtype, b.strides)
        assert np.array_equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("compress", ["off", "always"])
@pytest.mark.parametrize("place", ["folder", "memory"])
def test_a_mapped_state_is_the_state(store: casckpt.Store, place: str, compress: Any) -> None:
    with casckpt.memory() as other:
        used = store if place == "folder" else other
        used.commit(BIG, compress=compress)
        state = used.checkout(mmap=True)
        assert_equal(used.checkout(), state)
        assert state["model"]["p"].requires_grad
        assert bool(mapped_lengths(store)) is (place == "folder")
        some = used.checkout(mmap=True, select=["model/w", "**/tiny"])
        assert_equal({"model": {name: BIG["model"][name] for name in ("w", "tiny")}}, some)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path_factory.mktemp("mapped") / "store") as made:
        yield made


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(state=states())
def test_any_state_comes_back_mapped(used: casckpt.Store, state: Any) -> None:
    # Large enough to be mapped, and tied to whatever memory the state has.
    large = torch.arange(MIB // 4).to(torch.int32)
    wrapped = {"a": state, "b": {"x": large, "y": large[7:], "turned": large.view(512, 512).t()}, "c": [large]}
    info = used.commit(wrapped)
    found = used.checkout(info.id, mmap=True)
    assert_same_state(used.checkout(info.id)["a"], found["a"])
    x, y, turned, z = *found["b"].values(), found["c"][0]
    assert x.data_ptr() == turned.data_ptr() == z.data_ptr() == y.data_ptr() - 28
    assert torch.equal(x, large) and torch.equal(turned, large.view(512, 512).t()) and y.numel() == MIB // 4 - 7


def test_a_contiguous_raw_leaf_is_one_mapping(store: casckpt.Store) -> None:
    state = {"w": noise(64 * MIB + 12_345)}
    store.commit(state, compress="off")
    found = store.checkout(mmap=True)
    assert mapped_lengths(store) == [64 * MIB + 16_384]
    assert found["w"].ctypes.data % 4096 == 0
    assert found["w"].tobytes() == state["w"].tobytes()
    del found
    assert mapped_lengths(store) == []


def test_a_leaf_that_lies_in_several_packs_is_one_array(store: casckpt.Store) -> None:
    parts = [noise(3 * MIB, seed) for seed in range(4)]
    for part in parts[:3]:
        store.commit({"x": part}, compress="off")
    whole = np.concatenate([parts[2], parts[0], parts[3], parts[1], parts[0]])
    store.commit({"x": whole}, compress="off")
    found = store.checkout(mmap=True)
    assert found["x"].tobytes() == whole.tobytes()
    assert sorted(mapped_lengths(store)) == [3 * MIB] * 5
    assert len(list((store.path / "packs").iterdir())) == 4  # type: ignore[operator]


def test_encoded_chunks_between_raw_ones_are_read(store: casckpt.Store) -> None:
    raw, zeros = noise(4 * MIB), np.zeros(3 * MIB, np.uint8)
    store.commit({"x": zeros}, compress="always")
    store.commit({"x": raw}, compress="off")
    whole = np.concatenate([raw, zeros, raw[: MIB + 77]])
    store.commit({"x": whole}, compress="off")
    found = store.checkout(mmap=True, verify="background")
    assert found["x"].tobytes() == whole.tobytes()
    assert sum(mapped_lengths(store)) >= 8 * MIB
    store.wait()


def test_leaves_that_share_memory_share_the_mapping(store: casckpt.Store) -> None:
    tied = torch.arange(float(MIB))
    store.commit({"m": {"a": tied, "b": tied, "half": tied[MIB // 2 :]}, "o": {"c": tied}}, compress="off")
    found = store.checkout(mmap=True)
    assert len(mapped_lengths(store)) == 1
    found["o"]["c"][-1] = -5
    assert [float(leaf[-1]) for leaf in (found["m"]["a"], found["m"]["b"], found["m"]["half"])] == [-5.0] * 3


def test_writing_reaches_neither_the_pack_nor_another_checkout(store: casckpt.Store) -> None:
    state = {"w": torch.arange(float(MIB)), "a": noise(2 * MIB)}
    store.commit(state, compress="off")
    one, other = store.checkout(mmap=True), store.checkout(mmap=True)
    one["w"].mul_(-1).add_(3)
    one["a"][...] = 7
    assert_equal(state, other)
    assert store.fsck("full").findings == ()
    assert_equal(state, store.checkout())
    assert_equal(state, store.checkout(mmap=True, verify="background"))
    store.wait()
    assert bool((one["a"] == 7).all()) and float(one["w"][1]) == 2.0


def test_a_training_step_runs_on_mapped_parameters(store: casckpt.Store) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(600, 600)
    store.commit(model.state_dict(), compress="off")
    results = []
    for mmap in (False, True):
        copy = torch.nn.Linear(600, 600)
        copy.load_state_dict(store.checkout(mmap=mmap), assign=True)
        optimizer = torch.optim.SGD(copy.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            copy(torch.ones(3, 600)).square().mean().backward()
            optimizer.step()
        results.append(copy.state_dict())
    assert_equal(dict(results[0]), dict(results[1]))
    assert_equal(dict(model.state_dict()), dict(store.checkout()))


def test_pages_are_there_after_the_pack_is_gone_and_the_store_closed(tmp_path: Path) -> None:
    plain = noise(5 * MIB)
    with casckpt.init(tmp_path / "s") as store:
        store.commit({"x": plain}, compress="off")
        found = store.checkout(mmap=True)
        path, _ = pack_of(store, plain[:1000].tobytes())
        path.unlink()
    assert found["x"].tobytes() == plain.tobytes()


def test_what_is_mapped_can_be_committed_again(store: casckpt.Store) -> None:
    first = store.commit(BIG, compress="off")
    again = store.commit(store.checkout(mmap=True), compress="off")
    assert again.tree == first.tree
    found = store.checkout(mmap=True)
    pending = store.commit(found, wait=False)
    assert pending.result().tree == first.tree


def test_a_truncated_pack_is_refused_and_never_mapped(store: casckpt.Store) -> None:
    plain = noise(3 * MIB)
    store.commit({"x": plain}, compress="off")
    path, offset = pack_of(store, plain[:1000].tobytes())
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.truncate(offset + 2 * MIB + 5)
    with pytest.raises(DamagedLeaf, match="of commit"):
        store.checkout(mmap=True)
    assert mapped_lengths(store) == []


# ---- verification in the background


def test_nothing_is_heard_of_what_is_whole(store: casckpt.Store) -> None:
    store.commit(BIG, compress="off")
    state = store.checkout(mmap=True, verify="background")
    store.wait()
    assert_equal(store.checkout(), state)


@pytest.mark.parametrize("hear", ["wait", "checkout", "commit"])
def test_damage_is_heard_of_once(tmp_path: Path, hear: str) -> None:
    plain = noise(5 * MIB)
    with casckpt.init(tmp_path / "s") as store:
        info = store.commit({"m": {"x": plain, "y": noise(2 * MIB, 1)}}, compress="off")
        damage(store, plain[3 * MIB : 3 * MIB + 1000].tobytes())
        state = store.checkout(mmap=True, verify="background")
        assert np.count_nonzero(state["m"]["x"] != plain) == 1
        if hear != "wait":
            with store._background._changed:
                store._background._changed.wait_for(lambda: not store._background._watching, 60)
        calls: dict[str, Any] = {
            "wait": store.wait,
            "checkout": lambda: store.checkout(info.id, select="m/y"),
            "commit": lambda: store.commit({"n": 1}),
        }
        with pytest.raises(DamagedLeaf) as found:
            calls[hear]()
        assert found.value.facts["path"] == "m/x"
        assert info.id.startswith(found.value.facts["commit"])
        calls[hear]()
        store.wait()


def test_without_verification_damage_is_not_looked_for(store: casckpt.Store) -> None:
    plain = noise(2 * MIB)
    store.commit({"x": plain}, compress="off")
    damage(store, plain[:1000].tobytes())
    assert np.count_nonzero(store.checkout(mmap=True)["x"] != plain) == 1
    store.wait()


class Gate:
    """Holds every verification at its first task until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.tasks = 0
        run = fetch._Fetcher.run

        def held(fetcher: Any, task: Any) -> None:
            if threading.current_thread().name == "casckpt-verify":
                self.tasks += 1
                self.reached.set()
                assert self.opened.wait(60)
            run(fetcher, task)

        monkeypatch.setattr(fetch._Fetcher, "run", held)


def test_what_the_caller_writes_meanwhile_is_no_damage(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = noise(20 * MIB)
    store.commit({"x": plain}, compress="off")
    gate = Gate(monkeypatch)
    state = store.checkout(mmap=True, verify="background")
    assert gate.reached.wait(60)
    state["x"][...] = 1
    gate.opened.set()
    store.wait()
    assert gate.tasks == 3
    assert bool((state["x"] == 1).all())


def test_closing_ends_a_verification_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = noise(40 * MIB)
    store = casckpt.init(tmp_path / "s")
    store.commit({"x": plain}, compress="off")
    damage(store, plain[:1000].tobytes())
    gate = Gate(monkeypatch)
    state = store.checkout(mmap=True, verify="background")
    assert gate.reached.wait(60)
    closer = threading.Thread(target=store.close)
    closer.start()
    assert store._background._closing.wait(60)
    gate.opened.set()
    closer.join(60)
    assert not closer.is_alive()
    assert gate.tasks <= 2
    assert not caplog.records
    assert not [thread for thread in threading.enumerate() if thread.name == "casckpt-verify"]
    assert state["x"][1:].tobytes() == plain[1:].tobytes()
