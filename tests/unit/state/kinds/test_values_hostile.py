"""Makers given what nobody stored: they refuse it or make a value that can be used."""

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt import errors
from casckpt.state.kinds.reduced import ClassUnknown
from tests.strategies_values import MAKERS, ROWS, STRATEGIES, apart, quiet, together

EXAMPLES = 60
INTS = [0, 1, -1, 2, 3, 4, 5, 7, 255, 256, 624, 625, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 2**128, True]
OTHERS = [
    None,
    "",
    "x",
    b"",
    b"\0" * 8,
    [],
    {},
    (),
    0.5,
    float("nan"),
    [1, 2],
    np.arange(3),
    torch.arange(3),
    np.int8(1),
]
DTYPES = [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64, torch.complex64]


def mutated(draw, value):
    """A value with one thing in it changed."""
    if type(value) in (list, tuple, dict) and len(value) and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        if type(value) is dict:
            if draw(st.integers(0, 9)) == 0:
                return {name: child for name, child in value.items() if name != key}
            return {**value, key: mutated(draw, value[key])}
        if value[:1] == ("reduced",):
            key = draw(st.sampled_from([1, 2, 2, 3, 3, 3]))
            if key == 1:
                return ("reduced", draw(st.sampled_from(sorted(MAKERS))), *value[2:])
            if key == 2:  # whoever calls makers sees to it that it is a text or None
                param = None if value[2] is None or draw(st.integers(0, 5)) == 0 else mutated_text(draw, value[2])
                return (*value[:2], param, value[3])
        return type(value)([*value[:key], mutated(draw, value[key]), *value[key + 1 :]])
    if isinstance(value, str) and draw(st.booleans()):
        return mutated_text(draw, value)
    if isinstance(value, torch.Tensor) and draw(st.integers(0, 5)):
        return mutated_tensor(draw, value)
    if type(value) is np.ndarray and draw(st.integers(0, 5)):
        return mutated_array(draw, value)
    return copy.deepcopy(draw(st.sampled_from([*INTS, *OTHERS])))


def mutated_text(draw, text):
    digits = [index for index, letter in enumerate(text) if letter.isdigit()]
    if digits and draw(st.booleans()):
        at = draw(st.sampled_from(digits))
        return text[:at] + str(draw(st.sampled_from(INTS))) + text[at + 1 :]
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(["", "0", ",", "]", '"', "-", "é", "[" * 3000])) + text[at + 1 :]


def mutated_tensor(draw, tensor):
    kind = draw(st.sampled_from(["value", "value", "value", "dtype", "shape", "cut", "gradient", "strides"]))
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    if kind == "dtype":
        return tensor.to(draw(st.sampled_from(DTYPES)))
    if kind == "shape":
        return tensor.reshape(-1) if tensor.dim() != 1 else tensor.reshape(1, -1)
    if kind == "cut":
        return tensor[: max(len(tensor) - 1, 0)] if tensor.dim() else tensor.reshape(1)
    if kind == "gradient":
        return tensor.float().requires_grad_()
    if kind == "strides":
        return tensor.transpose(0, -1) if tensor.dim() > 1 else tensor.expand(2, *tensor.shape)
    if tensor.numel():
        most = torch.iinfo(tensor.dtype) if not tensor.is_floating_point() and not tensor.is_complex() else None
        number = draw(st.sampled_from([n for n in INTS if abs(n) < 2**99 if most is None or most.min <= n <= most.max]))
        tensor.view(-1)[draw(st.integers(0, tensor.numel() - 1))] = float(number) if most is None else number
    return tensor


def mutated_array(draw, array):
    kind = draw(st.sampled_from(["bytes", "dtype", "shape", "cut"]))
    if kind == "dtype":
        return np.zeros(array.shape, draw(st.sampled_from(["<f4", "<u2", "|V7", ">u8", "?", "<U2"])))
    if kind == "shape":
        return array.reshape(-1) if array.ndim != 1 else array.reshape(1, -1)
    if kind == "cut":
        return array[:-1] if array.ndim else array.reshape(1)
    array = array.copy()
    if array.nbytes and array.dtype.kind in "iu":
        array.reshape(-1)[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([0, 1, 100, -1])) & 0x7F
    return array


def use(value):
    """Do with a value what would crash if it were wrong inside."""
    if isinstance(value, torch.Tensor):
        use_tensor(value)
    elif isinstance(value, np.random.Generator):
        use(value.bit_generator)
        value.normal(size=3)
    elif isinstance(value, np.random.RandomState):
        value.randn(700)
    elif isinstance(value, np.random.BitGenerator):
        value.random_raw(700)
        value.jumped() if hasattr(value, "jumped") else None
    elif isinstance(value, np.random.SeedSequence):
        value.generate_state(9)
    elif isinstance(value, random.Random):
        value.random(), value.getrandbits(10_000), value.gauss(0, 1)
    elif isinstance(value, torch.Generator):
        torch.randn(700, generator=value)
    elif isinstance(value, np.ndarray) and max(value.shape, default=0) < 1000 > value.size:
        np.ma.getdata(value).tolist(), value.copy()


def use_tensor(value):
    if isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
        return
    value = value.detach()
    # Torch has no conversion for some of what it holds; what it must not do is crash.
    with contextlib.suppress(RuntimeError, NotImplementedError):
        if value.layout is torch.jagged:
            value.unbind()
            value.to_padded_tensor(0.0)
        elif value.is_nested:
            [member.clone() for member in value.unbind()]
        elif value.is_quantized:
            value.dequantize()
        elif not value.is_meta and value.numel() < 10_000:
            value.to_dense()


@pytest.mark.parametrize("row", ROWS)
def test_what_nobody_stored_is_refused_or_can_be_used(row):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(data=st.data())
    def run(data):
        with quiet():
            tree = apart(data.draw(STRATEGIES[row]))
            for _ in range(data.draw(st.integers(1, 2))):
                tree = mutated(data.draw, tree)
        try:
            value = together(tree)
        except (errors.FormatError, errors.IntegrityError, ClassUnknown):
            return
        with quiet():
            use(value)

    run()
