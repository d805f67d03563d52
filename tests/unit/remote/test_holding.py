from hypothesis import given
from hypothesis import strategies as st

from casckpt.remote.holding import without

# Few distinct bytes, zeros among them, so that ids share beginnings and ends.
ids = st.lists(st.lists(st.sampled_from([0, 0, 1, 255]), min_size=32, max_size=32).map(bytes), max_size=12)


@given(ids, ids)
def test_what_is_not_among_others_is_left_in_its_order(own: list[bytes], others: list[bytes]) -> None:
    mixed = own + others[: len(others) // 2]
    left = [one for one in mixed if one not in others]
    assert without(b"".join(mixed), b"".join(others)) == b"".join(left)
