"""What is kept of the last states makes flattening cheap and never shows in what comes out."""

import gc
import itertools
import threading
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casckpt import errors
from casckpt.state import flatten as module
from casckpt.state.flatten import flatten, forget
from tests.strategies import leaves, states


def facts(flat):
    """All that is stored of a flat state, types included."""
    parts = []
    for part in (flat.root, *flat.components):
        columns = [(blob.path, blob.element, blob.nbytes, bytes(blob.read(0, blob.nbytes))) for blob in part.blobs]
        parts.append((part.name, repr(part.node), repr(part.values), columns))
        assert part.schema.node is part.node
        assert (part.schema.paths, part.schema.elements, part.schema.sizes) == (
            tuple(column[0] for column in columns),
            tuple(column[1] for column in columns),
            tuple(column[2] for column in columns),
        )
    return parts, flat.links


def fresh(state):
    forget()
    return facts(flatten(state))


def metadata(value, metadata):
    ordered = OrderedDict(value)
    ordered._metadata = metadata
    return ordered


def tied(*spans):
    base = torch.arange(12.0)
    return {f"k{number}": base[low:high] for number, (low, high) in enumerate(spans)}


x = torch.arange(6.0)
z = torch.complex(torch.arange(3.0), torch.ones(3))
LOOKALIKES = {
    "int": {1: x},
    "bool": {True: x},
    "float": {1.0: x},
    "text": {"1": x},
    "tuple": {(1,): x},
    "tuple of bool": {(True,): x},
    "bytes": {b"1": x},
    "other name": {"2": x},
    "two": {"1": x, "2": x.clone()},
    "two in another order": {"2": x, "1": x.clone()},
    "two that are one": {"1": x, "2": x},
    "ordered": OrderedDict({"1": x}),
    "metadata": metadata({"1": x}, 1),
    "metadata of a list": metadata({"1": x}, [x]),
    "list": [x],
    "tuple root": (x,),
    "leaf": x,
    "component": {"1": [x]},
    "component, tuple": {"1": (x,)},
    "component, packed": {"1": [1] * 65},
    "component, packed longer": {"1": [1] * 66},
    "component, packed bools": {"1": [True] * 65},
    "component, packed floats": {"1": [1.0] * 65},
    "packed below": {"1": [[1] * 65]},
    "int list": [1, 2],
    "bool list": [True, False],
    "array": {"1": x.numpy()},
    "array in F order": {"1": np.asfortranarray(np.ones((2, 3)))},
    "array in C order": {"1": np.ones((2, 3))},
    "array in no order": {"1": np.ones((4, 3))[::2]},
    "array of another order of bytes": {"1": np.ones((2, 3), ">f8")},
    "array backwards": {"1": np.arange(6.0)[::-1]},
    "double": {"1": x.double()},
    "as ints": {"1": x.view(torch.int32)},
    "shape": {"1": x.reshape(2, 3)},
    "strides": {"1": x.reshape(2, 3).t().contiguous().t()},
    "gaps": {"1": x[::2]},
    "half": {"1": x[:3]},
    "expanded": {"1": x[:1].expand(6)},
    "unfolded": {"1": x.as_strided((3, 2), (1, 1))},
    "gradient": {"1": x.clone().requires_grad_()},
    "parameter": {"1": torch.nn.Parameter(x)},
    "frozen parameter": {"1": torch.nn.Parameter(x, requires_grad=False)},
    "complex": {"1": z},
    "conjugate": {"1": z.conj()},
    "negative": {"1": z.conj().imag},
    "two conjugates that are one": {"1": z.conj(), "2": z.conj()},
    "two conjugates": {"1": z.conj(), "2": z.clone().conj()},
    "empty": {"1": x[:0]},
    "short text": {"1": "a" * 1024},
    "long text": {"1": "a" * 1025},
    "longer text": {"1": "a" * 1026},
    "long bytes": {"1": b"a" * 1025},
    "long bytearray": {"1": bytearray(b"a" * 1025)},
    "neighbours": tied((0, 4), (4, 8), (8, 12)),
    "overlap": tied((0, 5), (4, 8), (8, 12)),
    "overlap at the end": tied((0, 4), (4, 9), (8, 12)),
    "overlap, shifted": tied((0, 5), (3, 7), (8, 12)),
    "all overlap": tied((0, 5), (4, 9), (8, 12)),
    "across components": {"1": [x], "2": [x]},
    "not across components": {"1": [x], "2": [x.clone()]},
    "columns": {"1": x.reshape(3, 2)[:, 0], "2": x.reshape(3, 2)[:, 1]},
    "columns and a row": {"1": x.reshape(3, 2)[:, 0], "2": x.reshape(3, 2)[:, 1], "3": x[:2]},
}


def test_a_state_is_never_taken_for_one_that_looks_like_it():
    alone = {name: fresh(state) for name, state in LOOKALIKES.items()}
    names = list(LOOKALIKES)
    for one, other in itertools.product(names, names):
        flatten(LOOKALIKES[one])
        assert facts(flatten(LOOKALIKES[other])) == alone[other], (one, other)
    forget()


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(states() | st.lists(leaves(), min_size=1, max_size=4), min_size=2, max_size=5), st.data())
def test_what_was_flattened_before_changes_nothing(some, data):
    order = data.draw(st.lists(st.sampled_from(range(len(some))), min_size=4, max_size=10))
    alone = [fresh(state) for state in some]
    forget()
    for number in order:
        assert facts(flatten(some[number])) == alone[number]


def like(value):
    """A model's state whose memory lies elsewhere each time, with a value of its own."""
    weight = torch.full((3, 5), float(value))
    return {"model": {"a": weight, "b": weight[1:], "c": torch.full((7,), value)}, "step": value, "text": "x" * 2000}


def test_states_that_look_alike_share_their_schemas_and_nothing_else():
    first, second = flatten(like(1)), flatten(like(2))
    assert first.components[0].schema is second.components[0].schema
    assert first.root.schema is second.root.schema and first.root.values == [1] and second.root.values == [2]
    assert facts(first) == fresh(like(1)) and facts(second) == fresh(like(2))


def test_another_look_has_another_schema():
    first = flatten({"a": torch.ones(3)})
    for state in ({"a": torch.ones(4)}, {"b": torch.ones(3)}, {"a": torch.ones(3, dtype=torch.int32)}):
        assert flatten(state).root.schema is not first.root.schema


def test_few_looks_are_kept_and_the_last_ones_stay():
    forget()
    first = flatten({"a": torch.ones(3)}).root.schema
    for size in range(10):
        flatten({"b": torch.ones(size)})
        assert flatten({"a": torch.ones(3)}).root.schema is first
    for size in range(10):
        flatten({"b": torch.ones(size)})
    assert flatten({"a": torch.ones(3)}).root.schema is not first
    assert len(module._kept) <= module._KEPT_MAX


def test_the_look_of_a_huge_state_is_not_kept(monkeypatch):
    monkeypatch.setattr(module, "_KEPT_LEAVES_MAX", 5)
    forget()
    flatten({"a": torch.ones(3)})
    flatten([torch.ones(3) for _ in range(6)])
    assert sum(len(outline.forms) for outline in module._kept) <= 5


def test_a_kept_look_keeps_no_memory_and_no_schema_keeps_a_key():
    array, base = np.zeros(8), np.zeros(8)
    refs = [weakref.ref(base), weakref.ref(array)]
    gc.disable()
    try:
        flatten({"a": array, "m": {"t": torch.from_numpy(base)}, "x": [array[::2], b"y" * 2000]})
        assert module._kept
        del array, base
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()
    kept = weakref.ref(flatten({"once": torch.ones(1)}).root.schema)
    forget()
    gc.collect()
    assert kept() is None


def test_a_refused_state_is_refused_again_and_leaves_the_others_alone():
    expected = fresh(like(1))
    for _ in range(2):
        for bad in (object(), np.array([object()]), torch.zeros(1).as_subclass(type("Mine", (torch.Tensor,), {}))):
            state = like(1)
            state["model"]["c"] = bad
            with pytest.raises(errors.UnsupportedType, match="model/c"):
                flatten(state)
            assert facts(flatten(like(1))) == expected


def test_threads_flatten_at_once():
    expected = {value: fresh({**like(value), str(value % 3): value}) for value in range(6)}
    wrong = []

    def work(value):
        for _ in range(100):
            if facts(flatten({**like(value), str(value % 3): value})) != expected[value]:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
