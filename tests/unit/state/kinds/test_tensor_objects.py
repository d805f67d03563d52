import types
import warnings

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from casckpt import errors
from casckpt.state.flatten import flatten
from casckpt.state.kinds import tensor_objects
from casckpt.state.kinds.opaque import Opaque
from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown, IsDistributed
from tests.strategies_values import apart, assert_same, quiet, through, together

ZEROS = torch.zeros


def integers(*values):
    return torch.tensor(values, dtype=torch.int64)


def coo(indices, values, shape, coalesced=False):
    param = f'{{"shape":{list(shape)},"coalesced":{str(coalesced).lower()}}}'.replace(" ", "")
    return "torch.sparse_coo", param, {"indices": torch.tensor(indices), "values": values}


def csr(rows, columns, count, shape="[2,3]"):
    inner = {"crow_indices": rows, "col_indices": columns, "values": ZEROS(count)}
    return "torch.sparse_csr", f'{{"shape":{shape}}}', inner


def nested(**parts):
    inner = {
        "buffer": ZEROS(6),
        "sizes": integers([1, 2], [2, 2]),
        "strides": integers([2, 1], [2, 1]),
        "offsets": integers(0, 2),
    }
    return "torch.nested", None, inner | parts


def jagged(dim=1, **parts):
    inner = {"values": ZEROS(6, 2), "offsets": integers(0, 2, 6), "lengths": None, "min_seqlen": 2, "max_seqlen": 4}
    return "torch.jagged", f'{{"dim":{dim}}}', inner | parts


def quantized(shape="[2,3]", dtype="quint8", **parts):
    inner = {"data": ZEROS(2, 3, dtype=torch.uint8), "scale": 0.5, "zero_point": 3}
    return "torch.quantized", f'{{"dtype":"{dtype}","shape":{shape}}}', inner | parts


def channels(axis=1, shape="[2,3]", dtype="quint8", **parts):
    inner = {
        "data": ZEROS(2, 3, dtype=torch.uint8),
        "scales": ZEROS(3, dtype=torch.float64),
        "zero_points": integers(0, 0, 0),
    }
    return "torch.quantized_channels", f'{{"dtype":"{dtype}","shape":{shape},"axis":{axis}}}', inner | parts


def meta(shape, strides, dtype="float32"):
    return "torch.meta", f'{{"dtype":"{dtype}","shape":{shape},"strides":{strides}}}', None


def test_the_examples_that_are_made_wrong_below_are_right():
    for kind, param, inner in (
        coo([[0, 1], [2, 0]], ZEROS(2), (2, 3), True),
        csr(integers(0, 1, 2), integers(2, 0), 2),
        *(nested(), jagged(), quantized(), channels(), meta("[2,3]", "[3,1]")),
    ):
        assert isinstance(tensor_objects.MAKERS[kind](param, inner), torch.Tensor)


BIG = 1 << 62
WRONG = {
    "index behind the end": coo([[0, 2], [2, 0]], ZEROS(2), (2, 3)),
    "negative index": coo([[0, -1], [2, 0]], ZEROS(2), (2, 3)),
    "falsely coalesced": coo([[1, 0], [0, 0]], ZEROS(2), (2, 3), True),
    "too few values": coo([[0, 1], [2, 0]], ZEROS(1), (2, 3)),
    "other dimensions": coo([[0, 1], [2, 0]], ZEROS(2), (2, 3, 4)),
    "too large": coo([[0, 1], [2, 0]], ZEROS(2), (BIG, BIG), True),
    "indices of another type": coo([[0.0], [1.0]], ZEROS(1), (2, 3)),
    "sparse values": coo([[0, 1], [2, 0]], ZEROS(2).to_sparse(), (2, 3)),
    "column behind the end": csr(integers(0, 1, 2), integers(3, 0), 2),
    "rows that descend": csr(integers(0, 2, 1), integers(2, 0), 2),
    "rows that end early": csr(integers(0, 1, 1), integers(2, 0), 2),
    "one row too few": csr(integers(0, 2), integers(2, 0), 2),
    "columns twice": csr(integers(0, 2, 2), integers(1, 1), 2),
    "types that differ": csr(integers(0, 1, 2).int(), integers(2, 0), 2),
    "member behind the end": nested(offsets=integers(0, 3)),
    "negative offset": nested(offsets=integers(0, -1)),
    "empty member behind the end": nested(sizes=integers([1, 2], [0, 2]), offsets=integers(0, 7)),
    "size too large": nested(sizes=integers([1, 2], [BIG, BIG])),
    "negative size": nested(sizes=integers([1, 2], [-1, 2])),
    "stride too large": nested(strides=integers([2, 1], [BIG, 1])),
    "negative stride": nested(strides=integers([2, 1], [-2, 1])),
    "fewer strides": nested(strides=integers([2, 1])),
    "buffer with gaps": nested(buffer=ZEROS(12)[::2]),
    "buffer of two dimensions": nested(buffer=ZEROS(2, 3)),
    "offsets that descend": jagged(offsets=integers(0, 4, 2)),
    "offsets behind the end": jagged(offsets=integers(0, 2, 7)),
    "offsets before the start": jagged(offsets=integers(-1, 2, 6)),
    "no offsets": jagged(offsets=integers()),
    "lengths behind the end": jagged(lengths=integers(2, 5)),
    "negative lengths": jagged(lengths=integers(2, -1)),
    "one length": jagged(lengths=integers(2)),
    "least length": jagged(min_seqlen=3),
    "greatest length": jagged(max_seqlen=3),
    "dimension": jagged(dim=3),
    "dimension 0": jagged(dim=0),
    "integers of another type": quantized(dtype="qint8"),
    "integers of another shape": quantized(shape="[3,2]"),
    "dtype that is not quantized": quantized(dtype="uint8"),
    "zero point": quantized(zero_point=256),
    "large zero point": quantized(zero_point=1 << 70),
    "scale": quantized(scale=1),
    "axis": channels(axis=2),
    "negative axis": channels(axis=-1),
    "scales of another axis": channels(axis=0),
    "one zero point": channels(zero_points=integers(0)),
    "a zero point": channels(zero_points=integers(0, 0, -1)),
    "zero points of another type": channels(zero_points=ZEROS(3)),
    "packed bytes": channels(dtype="quint4x2", axis=0, data=ZEROS(3, dtype=torch.uint8)),
    "meta too large": meta(f"[{BIG},{BIG}]", "[1,1]"),
    "meta strides too large": meta("[2,2]", f"[{BIG},{BIG}]"),
    "meta strides": meta("[2,3]", "[3]"),
    "negative meta strides": meta("[2,3]", "[-3,1]"),
    "quantized meta": meta("[2,3]", "[3,1]", "qint8"),
    "spaces": ("torch.meta", '{"dtype": "float32","shape":[],"strides":[]}', None),
    "plain Parameter": ("torch.Parameter", '{"requires_grad":true}', ZEROS(2)),
    "gradient of integers": ("torch.Parameter", '{"requires_grad":true}', ZEROS(2, dtype=torch.int64).to_sparse()),
    "gradient twice": ("torch.requires_grad", None, ZEROS(2).to_sparse().requires_grad_()),
    "gradient of a text": ("torch.requires_grad", None, "x"),
    "short state": ("torch.Generator", "cpu", ZEROS(5055, dtype=torch.uint8)),
    "state of another type": ("torch.Generator", "cpu", ZEROS(5056)),
    "state of zeros": ("torch.Generator", "cpu", ZEROS(5056, dtype=torch.uint8)),
    "device": ("torch.device", "cpu:00", None),
    "size": ("torch.Size", None, [-1]),
    "size of texts": ("torch.Size", None, ["1"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_parts_that_do_not_fit_each_other_are_refused(name):
    kind, param, inner = WRONG[name]
    with pytest.raises((errors.IntegrityError, errors.FormatError)):
        tensor_objects.MAKERS[kind](param, inner)


UNKNOWN = [
    ("torch.dtype", "float33"),
    ("torch.dtype", "load"),
    ("torch.device", "frog"),
    ("torch.layout", "float32"),
    ("torch.layout", "os"),
    ("torch.memory_format", "strided"),
    ("torch.memory_format", None),
    ("torch.dtype", None),
]


@pytest.mark.parametrize(("kind", "param"), UNKNOWN)
def test_a_name_that_torch_does_not_have_is_refused(kind, param):
    with pytest.raises(errors.FormatError):
        tensor_objects.MAKERS[kind](param, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is the device that must not be there")
def test_a_generator_of_a_device_that_is_not_here_is_refused():
    with pytest.raises(errors.FormatError, match="cuda:7"):
        tensor_objects.MAKERS["torch.Generator"]("cuda:7", ZEROS(16, dtype=torch.uint8))


def test_quantized_tensors_of_one_storage_share_it_again():
    with quiet():
        whole = torch.quantize_per_tensor(torch.arange(12.0).reshape(3, 4), 0.5, 1, torch.quint8)
    row, integers_of_it, back = through(
        [whole[1], torch.empty(0, dtype=torch.uint8).set_(whole.untyped_storage()), whole]
    )
    assert_same(whole, back)
    integers_of_it[4:8] = 9
    assert row.int_repr().tolist() == back[1].int_repr().tolist() == [9] * 4


def test_a_sparse_tensor_shares_its_values():
    values = torch.arange(1.0, 4)
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 2, 4]]), values, (5,), check_invariants=True)
    back, shared = through([sparse, values])
    shared[0] = 70
    assert back.to_dense().tolist() == [70, 0, 2, 0, 3]


def test_an_uncoalesced_tensor_of_one_element_stays_so():
    for flag in (True, False):
        sparse = torch.sparse_coo_tensor([[1]], [2.0], (3,), check_invariants=True, is_coalesced=flag)
        assert through(sparse).is_coalesced() is flag


def test_what_is_made_without_a_warning_can_be_used_in_training():
    with quiet():
        sparse = torch.eye(3).to_sparse_csr().requires_grad_()
        parameter = torch.nn.Parameter(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = through([sparse, parameter])
    (back[0] @ torch.ones(3, 1)).sum().backward()
    assert back[0].grad is not None
    (back[1] * 2).values().sum().backward()
    assert back[1].grad is not None


def test_lazy_views_and_buffers_are_plain():
    values = torch.ones(2, dtype=torch.complex64)
    assert all(map(tensor_objects.is_plain, (values.conj(), values.conj().imag, torch.nn.Parameter(values))))


class Mine(torch.Tensor):
    pass


class MineFlat(TwoTensor):
    pass


class MyParameter(torch.nn.Parameter):
    pass


def invalid():
    sparse = torch.eye(3).to_sparse()
    sparse._indices()[0, 0] = 7
    return sparse


def inside_grad():
    seen = []
    torch.func.grad(lambda x: seen.append(x) or x.sum())(torch.ones(2))
    return seen[0]


def fake():
    with FakeTensorMode():
        return torch.ones(2)


NOT_KEPT = {
    "subclass": lambda: torch.ones(2).as_subclass(Mine),
    "subclass of nobody": lambda: MineFlat(torch.ones(2), torch.ones(2)),
    "subclass of Parameter": lambda: MyParameter(torch.ones(2)),
    "mkldnn": lambda: torch.ones(2, 2).to_mkldnn(),
    "wrong indices": invalid,
    "inside torch.func": inside_grad,
    "fake": fake,
    "sparse meta": lambda: torch.empty(2, 2, layout=torch.sparse_coo, device="meta"),
    "zero": lambda: torch._efficientzerotensor(2),
    "zero point": lambda: torch._empty_affine_quantized([2], scale=1.0, zero_point=999, dtype=torch.quint8),
}


@pytest.mark.parametrize("name", NOT_KEPT)
def test_what_could_not_come_back_is_not_kept(name):
    with quiet():
        tensor = NOT_KEPT[name]()
    assert not tensor_objects.is_plain(tensor)
    with pytest.raises(CannotReduce):
        tensor_objects.reduce_tensor(tensor)


def test_a_tensor_that_other_processes_hold_too_is_told_apart():
    # Made up, for a real one needs a process group; it is known by the module of its class.
    kind = types.new_class(
        "DTensor", (torch.Tensor,), exec_body=lambda space: space.update(__module__="torch.distributed.tensor")
    )
    with pytest.raises(IsDistributed):
        tensor_objects.reduce_tensor(torch.ones(2).as_subclass(kind))


@pytest.mark.parametrize(
    "name",
    [
        "os:path",
        "builtins:dict",
        "torch:Tensor",
        "torch:nn.Parameter",
        "torch.nested._internal.nested_tensor:NestedTensor",
        f"{__name__}:MineFlat",
        "not.imported:Class",
        "",
    ],
)
def test_parts_are_given_to_classes_of_torch_alone(name):
    tree = apart(TwoTensor(torch.ones(2), torch.ones(2)))
    assert tree[1:3] == ("torch.subclass", "torch.testing._internal.two_tensor:TwoTensor")
    with pytest.raises(ClassUnknown):
        together((*tree[:2], name, tree[3]))


def test_a_parameter_of_a_class_that_is_not_here_is_not_here_either():
    missing = Opaque("torch.subclass", "not.imported:Class", {})
    with pytest.raises(ClassUnknown, match=r"not\.imported:Class"):
        tensor_objects.MAKERS["torch.Parameter"]('{"requires_grad":true}', missing)
    tree = apart(TwoTensor(torch.ones(2), torch.ones(2)))
    with pytest.raises(ClassUnknown, match=r"not\.imported:Class"):
        tensor_objects.MAKERS["torch.subclass"](tree[2], {**tree[3], "tensors": {"a": missing}})


def test_a_class_that_refuses_its_parts_is_a_damaged_state():
    tree = apart(TwoTensor(torch.ones(2), torch.ones(2)))
    with pytest.raises(errors.IntegrityError, match="refuses its parts"):
        together((*tree[:3], {**tree[3], "tensors": {"a": torch.ones(2)}}))


def test_values_come_back_on_the_cpu_whatever_the_default_device():
    sparse = torch.eye(3).to_sparse()
    with quiet():
        whole = torch.quantize_per_tensor(torch.ones(3), 0.5, 1, torch.qint8)
    with torch.device("meta"):
        back = through([sparse, whole])
    assert [tensor.device.type for tensor in back] == ["cpu", "cpu"]


def test_zeros_without_memory_are_refused_by_path():
    with pytest.raises(errors.UnsupportedType, match="a/0"):
        flatten({"a": [torch._efficientzerotensor((3,))], "b": torch.ones(2)})


def test_an_array_that_contains_itself_is_a_cycle():
    array = np.empty(1, object)
    array[0] = array
    with pytest.raises(errors.StateCycle):
        flatten({"a": array})
