"""Objects in a store: models and optimizers themselves, pickles that nobody runs unasked, entries left out."""

from __future__ import annotations

import datetime
import enum
import pickle
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import casckpt
from casckpt import errors
from tests.leafwise import assert_same_leaves


class Phase(enum.Enum):
    TRAIN = 1
    EVAL = 2


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def store():
    with casckpt.memory() as store:
        yield store


def training(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50)
    return {"model": model, "opt": optimizer, "sched": scheduler, "step": 0, "when": Phase.TRAIN}


def train(state, steps):
    losses = []
    for _ in range(steps):
        torch.manual_seed(state["step"])
        loss = state["model"](torch.randn(4, 8)).square().mean()
        state["opt"].zero_grad()
        loss.backward()
        state["opt"].step()
        state["sched"].step()
        state["step"] += 1
        losses.append(loss.item())
    return losses


def test_a_training_is_committed_as_it_is_and_continues_from_it_bit_by_bit(store):
    state = training(1)
    train(state, 5)
    store.commit(state)
    expected = train(state, 5)
    other = training(2)
    train(other, 2)
    weight = other["model"][0].weight
    assert store.checkout(into=other) is other
    assert other["model"][0].weight is weight and other["step"] == 5
    assert train(other, 5) == expected


def test_objects_and_their_state_dicts_are_one_state_and_share_all(store):
    state = training(1)
    train(state, 2)
    first = store.commit(state)
    dicts = {key: one.state_dict() if hasattr(one, "state_dict") else one for key, one in state.items()}
    assert store.commit(dicts).tree == first.tree
    assert_same_leaves(dicts, store.checkout())


def test_a_model_of_another_shape_is_left_as_it_is(store):
    store.commit({"model": torch.nn.Linear(2, 2), "step": 1})
    live = {"model": torch.nn.Linear(3, 2), "step": 7}
    before = live["model"].weight.clone()
    with pytest.raises(errors.StateMismatch, match="model/weight"):
        store.checkout(into=live)
    assert torch.equal(before, live["model"].weight) and live["step"] == 7


def test_a_module_with_other_state_loads_it_by_itself(store):
    class Counting(torch.nn.Linear):
        seen = 0

        def get_extra_state(self):
            return {"seen": self.seen}

        def set_extra_state(self, state):
            self.seen = state["seen"]

    model = Counting(2, 2)
    model.seen = 5
    store.commit({"m": model})
    live = {"m": Counting(2, 2)}
    store.checkout(into=live)
    assert live["m"].seen == 5 and torch.equal(live["m"].weight, model.weight)


def test_an_object_that_refuses_its_state_is_a_typed_error(store):
    class Picky:
        def state_dict(self):
            return {"a": 1}

        def load_state_dict(self, state):
            raise KeyError("b")

    store.commit({"p": Picky()})
    with pytest.raises(errors.StateRefused, match=r"Picky.*KeyError.*'b'"):
        store.checkout(into={"p": Picky()})


def test_values_of_classes_are_put_into_a_live_state(store):
    day = datetime.date(2024, 2, 29)
    counts = defaultdict(list, a=[1])
    store.commit({"x": [day, Phase.EVAL], "t": (Phase.EVAL,), "c": counts, "n": Counter(b=2), "w": torch.ones(3)})
    live = {"x": [None, 1], "t": (Phase.EVAL,), "c": defaultdict(list, a=[7]), "n": Counter(b=0), "w": torch.zeros(3)}
    inner, weight = live["c"], live["w"]
    store.checkout(into=live)
    assert live["x"] == [day, Phase.EVAL] and live["c"] is inner and inner["a"] == [1] and live["n"]["b"] == 2
    assert live["w"] is weight and weight.sum() == 3
    live["t"] = (Phase.TRAIN,)
    store.checkout(into=live)
    assert live["t"] == (Phase.EVAL,)
    store.commit((Phase.EVAL,))
    with pytest.raises(errors.StateMismatch, match="0"):
        store.checkout(into=(Phase.TRAIN,))


def test_a_part_of_an_object_can_be_selected_and_read(store):
    store.commit({"state": {"c": defaultdict(dict, a={"w": torch.arange(4)})}, "x": 1})
    assert torch.equal(store.tree()["state/c/a/w"][1:3], torch.tensor([1, 2]))
    picked = store.checkout(select="state/**")
    assert type(picked["state"]["c"]) is defaultdict and list(picked) == ["state"]


def test_diff_sees_that_a_list_became_a_set(store):
    first = store.commit({"a": [1, 2]})
    second = store.commit({"a": {1, 2}})
    assert [change.path for change in store.diff(first.id, second.id).leaves] == ["a"]


def test_a_pickle_is_not_run_unasked_and_not_read(store, tmp_path):
    trap = tmp_path / "run"
    state = {"model": {"w": torch.ones(2)}, "bad": [Canary(trap)], "big": {"x": Canary(trap)}}
    with pytest.raises(errors.UnsupportedType, match="bad/0"):
        store.commit(state)
    store.commit(state, allow_pickle=["bad", "big/*"])
    with pytest.raises(errors.PickleBlocked, match=r"bad/0.*Canary"):
        store.checkout()
    with pytest.raises(errors.PickleBlocked, match="big/x"):
        store.checkout(allow_pickle="bad")
    with pytest.raises(errors.PickleBlocked):
        store.tree()["bad/0"].read()
    assert store.checkout(select="model/**")["model"]["w"].sum() == 2
    assert [leaf.kind for leaf in store.leaves() if leaf.path == "bad/0"] == ["pickle"]
    assert not store.diff("@", "@").leaves and not trap.exists()
    store.checkout(allow_pickle=True)
    assert trap.exists()


def test_a_pickled_value_comes_back_in_place_too(store):
    class_free = {"f": slice, "w": torch.ones(2)}
    store.commit(class_free, allow_pickle=True)
    live = {"f": None, "w": torch.zeros(2)}
    store.checkout(into=live, allow_pickle=["f"])
    assert live["f"] is slice and live["w"].sum() == 2
    with pytest.raises(errors.UsageError):
        store.commit({}, allow_pickle=3)


def test_a_pickle_file_inside_a_state_is_just_bytes(store, tmp_path):
    data = pickle.dumps(Canary(tmp_path / "run"))
    store.commit({"file": data})
    assert store.checkout() == {"file": data} and not (tmp_path / "run").exists()


def test_entries_are_left_out_by_pattern(store):
    state = {"a": {"lock": object(), "x": 1}, "_cache": object(), "deep": {"_cache": object(), "y": np.zeros(2)}}
    store.commit(state, skip=["a/lock", "**/_cache"])
    back = store.checkout()
    assert list(back) == ["a", "deep"] and back["a"] == {"x": 1} and list(back["deep"]) == ["y"]


def test_objects_are_staged_like_all_else_when_committed_in_the_background(store):
    state = training(3)
    pending = store.commit(state, wait=False, skip="when")
    pending.result()
    assert "when" not in store.checkout()


def test_tensors_without_strided_memory_replace_what_is_there(store):
    state = {"sparse": torch.eye(3).to_sparse(), "meta": torch.empty(2, device="meta"), "w": torch.ones(2)}
    store.commit(state)
    live = {"sparse": torch.zeros(3, 3).to_sparse(), "meta": None, "w": torch.zeros(2)}
    weight = live["w"]
    store.checkout(into=live)
    assert torch.equal(live["sparse"].to_dense(), torch.eye(3)) and live["meta"].is_meta
    assert live["w"] is weight and weight.sum() == 2


@pytest.mark.parametrize("size", [70_001, 262_145, 1_048_577, 3_000_001])
def test_the_progress_of_a_checkout_reaches_its_total(store, size):
    store.commit({"w": torch.zeros(size, dtype=torch.uint8), "small": torch.ones(100), "text": "x" * 3000})
    for words in ({}, {"into": {"w": torch.ones(size, dtype=torch.uint8), "small": torch.ones(100), "text": ""}}):
        heard = []
        store.checkout(progress=lambda done, total: heard.append((done, total)), **words)  # noqa: B023
        assert heard[-1][0] == heard[-1][1] == size + 400 + 3000


def test_a_share_of_a_distributed_tensor_is_refused_by_path(store):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        sharded = distribute_tensor(torch.ones(4, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
        with pytest.raises(errors.DistributedState, match=r"model/w: .*DTensor.*full_tensor"):
            store.commit({"model": {"w": sharded}})
        store.commit({"model": {"w": sharded.full_tensor()}})
    finally:
        dist.destroy_process_group()
    assert torch.equal(store.checkout()["model"]["w"], torch.ones(4, 2))
