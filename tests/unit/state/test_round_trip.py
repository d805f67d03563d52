from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.state.flatten import flatten
from casckpt.state.unflatten import unflatten
from tests.strategies import NUMPY_DTYPES, SCALARS, TORCH_DTYPES, assert_same_state, keys, leaves, states, stored


def there_and_back(state, piece=96):
    return unflatten(*stored(flatten(state), piece))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(states(), st.integers(1, 200))
def test_every_state_comes_back_exactly(state, piece):
    assert_same_state(state, there_and_back(state, piece))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(states())
def test_flattening_again_gives_the_same_structure_and_bytes(state):
    flat, again = flatten(state), flatten(there_and_back(state))
    for one, other in zip((flat.root, *flat.components), (again.root, *again.components), strict=True):
        assert repr((one.name, one.node, one.values)) == repr((other.name, other.node, other.values))
        assert [(b.path, b.element, b.nbytes) for b in one.blobs] == [
            (b.path, b.element, b.nbytes) for b in other.blobs
        ]
        assert all(
            bytes(a.read(0, a.nbytes)) == bytes(b.read(0, b.nbytes))
            for a, b in zip(one.blobs, other.blobs, strict=True)
        )
    assert flat.links == again.links


def test_the_strategy_emits_every_form_of_the_format():
    seen = set()

    def look(node):
        if node is None:
            return
        seen.add(node[0] if node[0] != "numbers" else f"numbers {node[1]}")
        if node[0] in ("dict", "odict"):
            seen.update(f"key {key[0] if isinstance(key, list) else type(key).__name__}" for key in node[1])
            if len(node) == 4:
                seen.add("metadata")
                look(node[3])
        if node[0] in ("dict", "odict", "list", "tuple"):
            for child in node[1 if node[0] in ("list", "tuple") else 2]:
                look(child)
        if node[0] == "tensor":
            seen.update({f"flags {node[6]}", f"strides {node[3] is not None}", f"no bytes {node[4] is None}"})
            seen.add(f"0-d {node[2] == []}")
        if node[0] == "array":
            seen.update({f"order {node[3]}", f"array strides {len(node) == 7}"})

    def collect(state):
        flat = flatten(state)
        seen.update({"links"} if flat.links else set())
        for part in (flat.root, *flat.components):
            look(part.node)
            seen.update(
                f"value {value[0] if isinstance(value, list) else type(value).__name__}" for value in part.values
            )
            seen.update(type(blob.source).__name__ for blob in part.blobs)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(states())
    def whole(state):
        collect(state)

    # Which examples come up depends on the modules that happen to be loaded, so rare forms get many chances at once.
    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(leaves(), min_size=10, max_size=30), st.lists(keys(), min_size=10, max_size=30, unique_by=repr))
    def parts(values, names):
        collect({"leaves": values})
        collect(dict.fromkeys(names))

    whole()
    parts()
    nodes = {
        "dict",
        "odict",
        "metadata",
        "list",
        "tuple",
        "str",
        "bytes",
        "bytearray",
        "array",
        "tensor",
        "part",
        "links",
    }
    numbers = {"numbers int64", "numbers float64", "numbers bool"}
    key_forms = {f"key {kind}" for kind in ("str", "int", "bool", "NoneType", "float", "bytes", "t", "s", "i")}
    natives = {
        f"value {kind}"
        for kind in ("NoneType", "bool", "int", "float", "str", "bytes", "bytearray", "complex", "scalar")
    }
    flags = {f"flags {flags}" for flags in range(4)} | {"strides True", "strides False", "no bytes True", "0-d True"}
    orders = {"order C", "order F", "array strides True", "array strides False"}
    sources = {"RangeSource", "StridedSource", "BytesSource"}
    assert (nodes | numbers | key_forms | natives | flags | orders | sources) - seen == set()


def test_the_comparer_notices_lost_sharing():
    x = torch.zeros(3)
    with pytest.raises(AssertionError):
        assert_same_state([x, x], [x.clone(), x.clone()])
    with pytest.raises(AssertionError):
        assert_same_state([x.clone(), x.clone()], [x, x])
    with pytest.raises(AssertionError):
        assert_same_state(torch.zeros(1).expand(3), torch.zeros(3))


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_tensors_of_every_dtype_come_back(dtype):
    raw = torch.arange(192, dtype=torch.uint8).view(dtype)
    state = {"t": raw, "0-d": raw[1], "empty": raw[:0], "view": raw[4:10]}
    assert_same_state(state, there_and_back(state))
    for alone in (raw.unflatten(0, (-1, 2)).t(), raw[::2], raw.unflatten(0, (-1, 2))[:, 1:].expand(-1, 3)):
        assert_same_state(alone, there_and_back(alone, piece=3))


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_arrays_of_every_dtype_come_back(dtype):
    raw = np.arange(240, dtype=np.uint8)[: 240 // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
    for state in (raw, raw[:4].reshape(2, 2).T, raw[::3], raw[:0], raw[1, ...], raw[:0].reshape(0, 5)):
        assert_same_state(state, there_and_back(state, piece=5))


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_numpy_scalars_come_back_with_their_type(scalar):
    assert_same_state([scalar], there_and_back([scalar]))


@pytest.mark.parametrize(
    "array", [np.zeros((2, 0, 3)), np.zeros(3, "V0"), np.ndarray((2,), "<U0"), np.asfortranarray(np.zeros((0, 2)))]
)
def test_arrays_without_bytes_come_back(array):
    assert_same_state(array, there_and_back(array))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(2, 0, 3),
        torch.empty(2, 0, 3).permute(2, 0, 1),
        torch.empty(0),
        torch.empty(0).as_strided((0, 3), (50, 7)),
    ],
)
def test_tensors_without_elements_keep_shape_and_strides(tensor):
    assert_same_state(tensor, there_and_back(tensor))
    assert_same_state(torch.nn.Parameter(tensor), there_and_back(torch.nn.Parameter(tensor)))


def test_tied_tensors_come_back_tied():
    weight = torch.nn.Parameter(torch.randn(4, 3))
    back = there_and_back({"model": {"emb": weight, "head": weight}, "ema": {"emb": weight.detach()}, "x": weight})
    with torch.no_grad():
        back["model"]["emb"][1, 1] = 42
    assert back["model"]["head"][1, 1] == back["ema"]["emb"][1, 1] == back["x"][1, 1] == 42
    assert back["model"]["emb"].untyped_storage().data_ptr() == back["ema"]["emb"].untyped_storage().data_ptr()


def test_a_tensor_and_the_array_made_of_it_come_back_tied():
    x = torch.arange(12.0).reshape(3, 4)
    back = there_and_back({"t": {"x": x.t()}, "n": {"x": x.numpy()[1:, ::-2]}})
    back["n"]["x"][0, 0] = -1
    assert back["t"]["x"][3, 1] == -1
    assert_same_state([x, x.numpy().T[::2]], there_and_back([x, x.numpy().T[::2]]))


def test_overlapping_and_disjoint_views_come_back_so():
    flat = torch.arange(32.0)
    state = {"a": [flat[0:10], flat[8:16]], "b": {"c": flat[16:24], "d": flat[24:32].view(2, 4)}}
    assert_same_state(state, there_and_back(state))
    assert len(flatten(state).components[1].blobs) == 2


def test_channels_last_and_transposed_tensors_keep_their_strides():
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    one = torch.randn(2, 1, 4, 5).contiguous(memory_format=torch.channels_last)
    state = [image, image[:, :, 1:3], one, torch.randn(3, 4).t(), torch.randn(2, 3, 4).permute(1, 2, 0)]
    back = there_and_back(state)
    assert_same_state(state, back)
    assert back[2].stride() == one.stride() and back[0].is_contiguous(memory_format=torch.channels_last)


def test_expanded_tensors_stay_expanded_and_cost_their_own_bytes():
    row = torch.arange(4.0)
    state = [row.expand(1000, 4), torch.arange(20.0)[::5].expand(3, 4), torch.tensor(2.0).expand(5, 5)]
    flat = flatten(state)
    assert [blob.nbytes for blob in flat.root.blobs] == [16, 16, 4]
    assert_same_state(state, there_and_back(state))


def test_tensors_that_overlap_themselves_do_so_afterwards():
    base = torch.arange(64.0)
    state = [base.unfold(0, 4, 1), base.clone().as_strided((3, 3, 2), (4, 2, 30))]
    assert_same_state(state, there_and_back(state))


def test_views_with_gaps_are_stored_without_the_gaps():
    base = torch.arange(64.0)
    twice = base.clone()[::2]
    state = {"a": base[::4], "b": [twice, twice[:]], "n": np.arange(64.0)[::2]}
    flat = flatten(state)
    assert [blob.nbytes for blob in (*flat.root.blobs, *flat.components[0].blobs)] == [64, 256, 128]
    assert there_and_back(state)["a"].stride() == (1,)
    assert_same_state(state, there_and_back(state))


def test_a_view_on_a_large_tensor_costs_its_own_bytes():
    assert flatten(torch.zeros(1 << 20)[5:7]).root.blobs[0].nbytes == 8


def test_interleaved_views_that_touch_no_common_byte_are_apart():
    matrix = torch.arange(24.0).reshape(4, 6)
    state = {"even": matrix[:, ::2], "odd": matrix[:, 1::2]}
    assert len(flatten(state).root.blobs) == 2
    assert_same_state(state, there_and_back(state))
    state["cell"] = matrix[2, 3:4]
    assert len(flatten(state).root.blobs) == 2
    assert_same_state(state, there_and_back(state))


def test_views_of_unlike_element_sizes_share_again():
    raw = torch.arange(64, dtype=torch.uint8)
    state = [raw[1:12], raw[4:20].view(torch.float32), raw[8:24].view(torch.float64), raw.numpy()[3:5].view("<u2")]
    flat = flatten(state)
    assert len(flat.root.blobs) == 1 and flat.root.blobs[0].element == "bytes"
    assert bytes(flat.root.blobs[0].read(0, 3)) == b"\0\1\2"
    assert_same_state(state, there_and_back(state, piece=2))


def test_tensors_at_odd_addresses_come_back_by_copy():
    raw = np.arange(40, dtype=np.uint8)
    state = [torch.from_numpy(raw[1:33].view("<f4")), torch.from_numpy(raw[0:16].view("<f4"))]
    back = there_and_back(state)
    assert [x.tolist() for x in back] == [x.tolist() for x in state]


def test_conj_and_neg_bits_come_back_resolved():
    z = torch.tensor([[1 + 2j, 3 - 4j], [5j, 6 + 0j]])
    state = {
        "z": z,
        "conj": z.conj(),
        "again": z.conj(),
        "imag": z.conj().imag,
        "mh": z.mH,
        "half": z.conj()[:, :1].expand(2, 3),
    }
    back = there_and_back(state, piece=5)
    for key, value in state.items():
        assert torch.equal(back[key], value) and not back[key].is_conj() and not back[key].is_neg()
    back["conj"][0, 0] = 9
    assert back["again"][0, 0] == 9 and back["z"][0, 0] == 1 + 2j
    assert back["half"].stride() == (1, 0)


def test_complex_halves_come_back():
    z = torch.arange(8, dtype=torch.float16).view(torch.complex32)
    back = there_and_back([z, z.conj()])
    assert torch.equal(torch.view_as_real(back[0]), torch.view_as_real(z))
    assert torch.view_as_real(back[1]).tolist() == [[0, -1], [2, -3], [4, -5], [6, -7]]


def test_results_with_gradients_come_back_as_leaves():
    x = torch.ones(3, requires_grad=True)
    back = there_and_back([x * 2, x, torch.nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)])
    assert back[0].is_leaf and back[0].requires_grad and back[1].requires_grad
    assert type(back[2]) is torch.nn.Parameter and not back[2].requires_grad


def test_a_module_and_its_optimizer_come_back():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "epoch": 3}
    back = there_and_back(state)
    assert_same_state(state, back)
    assert type(back["model"]) is OrderedDict and back["model"]._metadata == state["model"]._metadata
    model.load_state_dict(back["model"])


def test_the_default_device_and_dtype_do_not_matter():
    state = {"a": torch.ones(2, 2), "b": torch.empty(0), "c": torch.ones(2, dtype=torch.complex64).conj()}
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    try:
        back = there_and_back(state)
    finally:
        torch.set_default_device("cpu")
        torch.set_default_dtype(torch.float32)
    assert_same_state(state, back | {"c": back["c"]})
