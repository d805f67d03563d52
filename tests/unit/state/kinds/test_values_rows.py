import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies_values import ROWS, STRATEGIES, assert_same, quiet, through


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_table_comes_back_exactly(row):
    @settings(max_examples=50, deadline=None)
    @given(data=st.data())
    def run(data):
        with quiet():
            value = data.draw(STRATEGIES[row])
        found = through(value)
        with quiet():
            assert_same(value, found)

    run()
