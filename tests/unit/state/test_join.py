"""Joined blobs are the bytes of each, read one after the other."""

import gc

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.state.flat import Blob, FlatComponent
from casckpt.state.flatten import flatten
from casckpt.state.join import join
from casckpt.state.memory import BytesSource
from tests.strategies import states


@settings(max_examples=150, deadline=None, derandomize=True)
@given(states(), st.data())
def test_joined_blobs_are_the_bytes_of_each(state, data):
    flat = flatten(state)
    for part in (flat.root, *flat.components):
        count = len(part.blobs)
        numbers = data.draw(st.lists(st.sampled_from(range(count)), max_size=count + 1)) if count else []
        expected = b"".join(bytes(part.blobs[number].read(0, part.blobs[number].nbytes)) for number in numbers)
        joined = join(part.blobs, numbers)
        assert joined == expected and joined.format == "B" and joined.contiguous


def test_all_kinds_of_memory_are_joined():
    scattered = torch.arange(12.0).reshape(3, 4)[:, ::2]
    state = [torch.ones(3, dtype=torch.bfloat16), np.ones(2, ">i4"), b"x" * 2000, scattered, torch.ones(2, 3).t()]
    blobs = flatten(state).root.blobs
    numbers = [4, 0, 2, 3, 1]
    assert join(blobs, numbers) == b"".join(bytes(blobs[n].read(0, blobs[n].nbytes)) for n in numbers)
    assert (
        join(blobs, [0, 1]) == torch.ones(3, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes() + b"\0\0\0\1" * 2
    )


def test_what_is_joined_is_the_memory_at_that_moment():
    tensor, array = torch.zeros(2), np.zeros(2)
    blobs = flatten([tensor, array]).root.blobs
    tensor[0], array[1] = 1.0, 2.0
    before = join(blobs, [0, 1])
    tensor[0], array[1] = 3.0, 4.0
    assert np.frombuffer(before[:8], np.float32).tolist() == [1, 0] and np.frombuffer(before[8:]).tolist() == [0, 2]


def test_joining_outlives_the_state_and_replaced_storages():
    parameter = torch.nn.Parameter(torch.full((1 << 14,), 3.0))
    blobs = flatten([parameter, torch.full((1 << 14,), 4.0)]).root.blobs
    parameter.data = torch.zeros(1)
    gc.collect()
    rubbish = [torch.full((1 << 14,), 9.0) for _ in range(4)]
    joined = join(blobs, [0, 1])
    del blobs, rubbish
    assert np.frombuffer(joined, np.float32).tolist() == [3.0] * (1 << 14) + [4.0] * (1 << 14)


def test_blobs_of_other_makers_are_joined_too():
    blobs = tuple(Blob(path, "bytes", 3, BytesSource(path.encode() * 3)) for path in "ab")
    component = FlatComponent("", None, [], blobs)
    assert join(component.blobs, [1, 0]) == b"bbbaaa" and join(component.blobs, []) == b""
    assert (component.schema.paths, component.schema.sizes) == (("a", "b"), (3, 3))
    assert FlatComponent("", None, [], ()).schema.sizes == ()


def test_private_is_what_nobody_else_can_write_to():
    scattered = torch.arange(12.0).reshape(3, 4)[:, ::2]
    z = torch.zeros(2, dtype=torch.complex64)

    state = [
        torch.ones(3),
        np.ones(2),
        scattered,
        scattered.numpy(),
        z.conj(),
        b"x" * 2000,
        bytearray(2000),
        "x" * 2000,
        [1] * 65,
    ]
    flat = flatten(state)
    private = {blob.path: blob.private for blob in flat.root.blobs}
    assert private == {"0": False, "1": False, "2": True, "4": True, "5": True, "6": False, "7": True, "8": True}

    class Silent:
        def read(self, start, stop):
            return memoryview(bytes(stop - start))

    assert Blob("a", "bytes", 1, Silent()).private is False


def test_a_source_is_the_same_object_however_often_its_blob_is_asked_for():
    blobs = flatten([torch.ones(3), torch.zeros(2)]).root.blobs
    assert blobs[0].source is blobs[0].source is next(iter(blobs)).source is blobs[-2].source
    assert blobs[0].source is not blobs[1].source and [blob.path for blob in blobs[0:2]] == ["0", "1"]
