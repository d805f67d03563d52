import gc

import pytest

from casckpt.state.collector import paused


def fail_inside_two_blocks():
    with paused():
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ZeroDivisionError


def test_the_collector_runs_again_after_the_outermost_block_even_if_it_fails():
    with pytest.raises(ZeroDivisionError):
        fail_inside_two_blocks()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
