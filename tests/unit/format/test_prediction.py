"""Predictions are those of the format, for any words, and are added and taken from memory at any address."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format import prediction
from casckpt.format.prediction import add_prediction, take_prediction
from tests.support import plane_decoder

EDGES = [0, 1, -1, 2, 127, 128, -128, -129]


def words(width: int) -> st.SearchStrategy[list[int]]:
    top = 1 << 8 * width
    near = st.sampled_from([(edge + shift) % top for edge in EDGES for shift in (0, top // 2)])
    return st.lists(near | st.integers(0, top - 1), min_size=1, max_size=20)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@settings(max_examples=60)
@given(data=st.data(), weight=st.integers(0, 15))
def test_words_are_predicted_as_the_format_says(width: int, data: st.DataObject, weight: int) -> None:
    first = data.draw(words(width))
    second = [data.draw(words(width))[0] for _ in first]
    rows = [first, second] if weight else [first]
    bases = tuple(np.array(row, f"<u{width}").tobytes() for row in rows)
    expected = [plane_decoder.predicted(pair, weight, width) % (1 << 8 * width) for pair in zip(*rows, strict=True)]
    found = np.zeros(len(first), f"<u{width}")
    add_prediction(found, bases, weight)
    assert found.tolist() == expected
    left = np.empty_like(found)
    take_prediction(found, bases, weight, left)
    assert not left.any()


@pytest.mark.parametrize("weight", [0, 8, 5])
@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_blocks_of_any_length_and_address_give_the_same(
    count: int, weight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(count)
    bases = tuple(noise.bytes(4 * count) for _ in range(2 if weight else 1))
    whole = np.frombuffer(noise.bytes(4 * count), "<u4").copy()
    odd = np.frombuffer(b"x" + whole.tobytes(), np.uint8).copy()[1:].view("<u4")
    add_prediction(whole, bases, weight)
    monkeypatch.setattr(prediction, "_BLOCK_BYTES", 400)
    add_prediction(odd, bases, weight)
    assert odd.tolist() == whole.tolist()
    take_prediction(odd, bases, weight, odd)
    add_prediction(odd, bases, weight)
    assert odd.tolist() == whole.tolist()
