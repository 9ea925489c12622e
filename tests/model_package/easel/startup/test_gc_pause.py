import gc

import pytest

from easel.startup import gc_pause


def test_the_collector_rests_in_a_block_and_in_blocks_inside_it():
    with gc_pause.paused():
        with gc_pause.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_block_that_fails_lets_the_collector_run_again():
    with pytest.raises(ZeroDivisionError), gc_pause.paused():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with gc_pause.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_frozen_is_not_collected_and_what_comes_later_is():
    try:
        gc_pause.freeze()
        assert gc.get_freeze_count() > 0
        cycle = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
