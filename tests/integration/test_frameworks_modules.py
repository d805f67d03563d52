"""Modules of every kind go into a store and come back: tied, parametrized, pruned, lazy, with hooks and versions."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

import casckpt
from casckpt import errors
from tests.leafwise import assert_same_leaves

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store():
    with casckpt.memory() as store:
        yield store


class Tied(nn.Module):
    """Words in and words out by one matrix, and one bias under two names."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.head.weight = self.words.weight
        self.bias = self.head.bias

    def forward(self, x):
        return self.head(self.words(x.abs().sum(1).long() % 9)) + self.bias


class Buffered(nn.Module):
    """Buffers that are stored, one that is not, and one that is not there yet."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))
        self.register_buffer("scratch", torch.zeros(4), persistent=False)
        self.register_buffer("later", None)

    def forward(self, x):
        self.seen += 1
        return x * self.mask


class Extra(nn.Linear):
    """A state beside its tensors."""

    def __init__(self):
        super().__init__(4, 4)
        self.history = []

    def forward(self, x):
        self.history.append((len(self.history), x.mean().detach().clone()))
        return super().forward(x)

    def get_extra_state(self):
        return {"history": self.history, "type": "extra"}

    def set_extra_state(self, state):
        self.history = list(state["history"])


class Copying(nn.Linear):
    """Gives copies as its state, as modules do that gather or convert their weights."""

    def __init__(self):
        super().__init__(4, 4)
        self.register_state_dict_post_hook(Copying.copied)

    def copied(self, state, prefix, _metadata):
        state.update({key: value.clone() for key, value in state.items() if key.startswith(prefix)})


class Cached(nn.Linear):
    """Keeps something made of its weights, and makes it anew when weights are loaded."""

    def __init__(self):
        super().__init__(4, 4)
        self.register_load_state_dict_post_hook(lambda module, _keys: module.fold())
        self.fold()

    def fold(self):
        self.folded = self.weight.detach() * 2

    def forward(self, x):
        return x @ self.folded + super().forward(x)


def pruned():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_structured(model[1], "weight", 0.25, dim=0)
    return model


def old_spectral():
    return nn.Sequential(spectral_norm(nn.Linear(4, 4)))


MODULES = {
    "BatchNorm": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
    "InstanceNorm": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True)),
    "tied": Tied,
    "buffers": Buffered,
    "extra state": Extra,
    "copies": Copying,
    "hooks": Cached,
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "spectral_norm by hooks": old_spectral,
    "pruned": pruned,
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
    "names with dots": lambda: nn.ModuleDict({"a/b": nn.Linear(4, 4), "ü %": nn.Linear(4, 4)}),
    "parameters in lists": lambda: nn.ParameterDict({"x": nn.Parameter(torch.randn(2)), "y": torch.randn(3)}),
    "mixed dtypes": lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).to(torch.bfloat16)),
}  # fmt: skip

WITHOUT_OUTPUT = ("names with dots", "parameters in lists", "mixed dtypes")


def made(name, seed):
    """A module that has been used, so that its buffers are not what they begin with."""
    torch.manual_seed(seed)
    model = MODULES[name]()
    if name not in WITHOUT_OUTPUT:
        for _ in range(seed):
            model(torch.randn(8, 4, requires_grad=True)).sum().backward()
        with torch.no_grad():
            for value in model.parameters():
                value += 0.1 * torch.randn_like(value)
    if isinstance(model, Cached):
        model.fold()
    return model


def outputs(model):
    torch.manual_seed(0)
    return model.eval()(torch.randn(8, 4))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_any_kind_comes_back_in_place_and_by_loading(store, name):
    model = made(name, 3)
    wanted = model.state_dict()
    info = store.commit({"model": model})
    assert store.commit({"model": model.state_dict()}).tree == info.tree
    # Into a live one, in place.
    live = made(name, 2)
    owned = {key: value.data_ptr() for key, value in live.named_parameters(remove_duplicate=False)}
    assert store.checkout(into={"model": live})["model"] is live
    assert owned == {key: value.data_ptr() for key, value in live.named_parameters(remove_duplicate=False)}
    # By the module's own loading.
    loaded, state = made(name, 1), store.checkout()["model"]
    assert_same_leaves(wanted, state)
    loaded.load_state_dict(state)
    for other in (live, loaded):
        assert_same_leaves(wanted, other.state_dict())
    if name not in WITHOUT_OUTPUT:
        assert torch.equal(outputs(model), outputs(live)) and torch.equal(outputs(model), outputs(loaded))


def test_versions_of_modules_are_kept(store):
    model = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(2), spectral=spectral_norm(nn.Linear(2, 2))))
    store.commit({"m": model})
    found = store.checkout()["m"]._metadata
    assert found == model.state_dict()._metadata
    assert found["norm"] == {"version": 2} and found["spectral"]["spectral_norm"] == {"weight.version": 1}


def test_a_module_sees_the_version_that_was_stored(store):
    class Module(nn.Linear):
        _version = 1

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            self.loaded_version = metadata.get("version")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    store.commit({"m": Module(2, 2)})
    Module._version = 2
    live = Module(2, 2)
    store.checkout(into={"m": live})
    assert live.loaded_version == 1


def test_tied_weights_are_one_memory_again(store):
    store.commit({"m": Tied()})
    state = store.checkout()["m"]
    assert state["words.weight"].data_ptr() == state["head.weight"].data_ptr()
    state["head.weight"].zero_()
    assert not state["words.weight"].any()
    live = Tied()
    store.checkout(into={"m": live})
    assert live.head.weight is live.words.weight


def test_weights_that_are_not_tied_here_take_tied_ones(store):
    tied = Tied()
    store.commit({"m": tied})
    live = Tied()
    live.head.weight = nn.Parameter(torch.zeros(9, 4))
    store.checkout(into={"m": live})
    assert torch.equal(live.head.weight, tied.words.weight) and live.head.weight is not live.words.weight


def test_weights_that_are_tied_here_do_not_take_different_ones(store):
    free = Tied()
    free.head.weight = nn.Parameter(torch.zeros(9, 4))
    store.commit({"m": free})
    live = Tied()
    before = live.words.weight.clone()
    with pytest.raises(errors.StateMismatch, match="share"):
        store.checkout(into={"m": live})
    assert torch.equal(live.words.weight, before)


def test_a_buffer_that_is_no_state_stays_as_it_is(store):
    store.commit({"m": Buffered()})
    assert list(store.checkout()["m"]) == ["seen", "mask"]
    live = Buffered()
    live.scratch += 7
    store.checkout(into={"m": live})
    assert live.scratch.tolist() == [7] * 4


def test_a_lazy_module_is_kept_without_weights_and_takes_them_from_a_commit(store):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls lazy modules new in every release
        lazy, other = nn.LazyLinear(3), nn.LazyLinear(3)
    store.commit({"m": lazy})
    assert type(store.checkout()["m"]["weight"]) is nn.UninitializedParameter
    lazy(torch.zeros(1, 5))
    store.commit({"m": lazy})
    store.checkout(into={"m": other})
    assert torch.equal(other.weight, lazy.weight) and type(other.weight) is nn.Parameter


class Block(nn.Module):
    """A residual block as image networks have them."""

    def __init__(self, width=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def test_a_block_in_channels_last_keeps_its_strides_and_goes_on_bit_by_bit(store):
    def begin(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), Block(), Block()).to(memory_format=torch.channels_last)
        return {"m": model, "opt": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)}

    def train(state, seed):
        torch.manual_seed(seed)
        for _ in range(2):
            loss = state["m"](torch.randn(2, 3, 9, 9).to(memory_format=torch.channels_last)).square().mean()
            state["opt"].zero_grad()
            loss.backward()
            state["opt"].step()
        return loss.item()

    state = begin(1)
    train(state, 1)
    store.commit(state)
    wanted = train(state, 2)
    assert state["m"][1].conv1.weight.stride() == (36, 1, 12, 4)
    live = begin(2)
    assert train(store.checkout(into=live), 2) == wanted
    loaded = begin(3)
    for key, value in store.checkout().items():
        loaded[key].load_state_dict(value)
    assert store.checkout()["m"]["1.conv1.weight"].stride() == (36, 1, 12, 4)
    assert train(loaded, 2) == wanted
    for other in (live, loaded):
        assert_same_leaves(state["m"].state_dict(), other["m"].state_dict())
        assert_same_leaves(state["opt"].state_dict(), other["opt"].state_dict())


class Adapted(nn.Module):
    """Leaves its base out of its state."""

    def __init__(self):
        super().__init__()
        self.base, self.adapter = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_state_dict_post_hook(Adapted.without_base)

    def without_base(self, state, prefix, _metadata):
        for name in ("weight", "bias"):
            del state[f"{prefix}base.{name}"]


def test_a_module_that_leaves_its_frozen_part_out_takes_the_rest(store):
    model, live = Adapted(), Adapted()
    base = live.base.weight.clone()
    store.commit({"m": model})
    assert list(store.checkout()["m"]) == ["adapter.weight", "adapter.bias"]
    store.checkout(into={"m": live})
    assert torch.equal(live.adapter.weight, model.adapter.weight) and torch.equal(live.base.weight, base)
