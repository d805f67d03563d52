import random

import numpy as np
import torch

from casckpt.state import memory, sharing, tensors
from casckpt.state.flatten import flatten
from casckpt.state.leaves import View


def groups(tensors_):
    """Numbers of the tensors of each group that shares memory."""
    forms = tensors.forms(tensors_)
    _, addresses = tensors.hold(tensors_)
    clusters = sharing.Ranges(forms).clusters(addresses)
    found = []
    for cluster in clusters:
        views = [View(index, 0, str(index), forms[index].node(0), forms[index], at) for index, at in cluster]
        found += [sorted(view.index for view in group) for group in sharing.groups(views)]
    alone = set(range(len(tensors_))) - {index for group in found for index in group}
    return sorted([*found, *([index] for index in alone)])


def test_groups_are_the_connected_components_of_shared_bytes():
    rng = random.Random(7)
    for _ in range(60):
        base = torch.zeros(60, dtype=torch.uint8)
        made = []
        for _ in range(rng.randint(1, 9)):
            shape = [rng.randint(1, 3) for _ in range(rng.randint(0, 2))]
            strides = [rng.choice([0, 1, 2, 3, 7]) for _ in shape]
            made.append(base.as_strided(shape, strides, rng.randint(0, 30)))
        touched = []
        for tensor in made:
            base.zero_()
            tensor.fill_(1)
            touched.append(set(base.nonzero().flatten().tolist()))
        expected = {number: {number} for number in range(len(made))}
        for one in range(len(made)):
            for other in range(one):
                if touched[one] & touched[other] and expected[one] is not expected[other]:
                    expected[one] |= expected[other]
                    for number in expected[one]:
                        expected[number] = expected[one]
        assert groups(made) == sorted(
            {tuple(sorted(group)) for group in expected.values()}
            and [list(g) for g in {tuple(sorted(group)) for group in expected.values()}]
        )


def test_neighbours_in_one_storage_are_apart():
    base = torch.zeros(10)
    assert groups([base[:5], base[5:], base[4:5]]) == [[0, 2], [1]]


def test_columns_are_apart_and_a_row_joins_them():
    matrix = torch.zeros(8, 30)
    columns = list(matrix.unbind(1))
    assert len(groups(columns)) == 30
    assert len(groups([*columns, matrix[3, 4:7]])) == 28


def test_too_many_pairs_are_joined_rather_than_compared(monkeypatch):
    monkeypatch.setattr(sharing, "_PAIRS_MAX", 10)
    matrix = torch.zeros(8, 12)
    far = torch.zeros(8)
    joined = groups([*matrix.unbind(1), far])
    assert [12] in joined and len(joined) < 12
    state = dict(enumerate(matrix.unbind(1)))
    assert sum(len(part.blobs) for part in (flatten(state).root,)) < 12


def test_a_pair_too_hard_to_decide_counts_as_shared(monkeypatch):
    def too_hard(*_args, **_options):
        raise np.exceptions.TooHardError

    monkeypatch.setattr(np, "shares_memory", too_hard)
    matrix = torch.zeros(4, 2)
    assert groups([matrix[:, 0], matrix[:, 1]]) == [[0, 1]]


def test_conjugates_share_with_their_like_only():
    z = torch.zeros(3, dtype=torch.complex64)
    assert groups([z, z.conj(), z.conj(), z[1:].conj()]) == [[0], [1, 2], [3]]


def test_gathering_any_piece_equals_the_whole():
    scattered = np.arange(2 * 3 * 4 * 5).reshape(5, 4, 3, 2).T[:, ::2, 1:]
    whole = scattered.reshape(-1)
    for first in range(whole.size):
        for last in range(first, whole.size + 1):
            piece = np.empty(last - first, scattered.dtype)
            memory.gather(scattered, first, last, piece)
            assert np.array_equal(piece, whole[first:last])


def test_reading_a_piece_of_a_scattered_tensor_makes_only_that_piece():
    huge = torch.empty(1, dtype=torch.uint8).as_strided((1 << 20, 1 << 20), (0, 0))
    numpy_huge = np.broadcast_to(np.arange(3, dtype=np.uint8), (1 << 40, 3))
    flat = flatten({"t": huge, "n": numpy_huge})
    assert [blob.nbytes for blob in flat.root.blobs] == [3 << 40, 1]
    assert bytes(flat.root.blobs[0].read((3 << 39) + 1, (3 << 39) + 5)) == b"\1\2\0\1"


def test_device_memory_is_read_through_the_same_views():
    # No accelerator here: the two ways to read one are driven with CPU tensors, which they treat the same.
    base = torch.arange(40, dtype=torch.int16).reshape(5, 8)
    source = tensors.device_range(base.untyped_storage(), base[1:].data_ptr(), 48)
    assert bytes(source.read(3, 30)) == base[1:4].numpy().tobytes()[3:30]
    gathered = tensors.gathering(base[:, ::3].unsqueeze(0).expand(4, 5, 3), (1, 5, 3))
    assert bytes(gathered.read(1, 17)) == base[:, ::3].numpy().tobytes()[1:17]
    assert bytes(gathered.read(4, 4)) == b""


def test_twenty_thousand_tensors_need_no_pairwise_work(monkeypatch):
    monkeypatch.setattr(sharing, "_touch", lambda *_: 1 / 0)
    base = torch.zeros(20_000, 2)
    assert len(groups(base.unbind(0))) == 20_000
