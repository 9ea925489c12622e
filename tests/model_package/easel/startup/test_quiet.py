import threading
import warnings

import pytest

from easel.startup.quiet import without_warnings


def test_warnings_are_dropped_in_a_block_and_come_back_after_it():
    before = list(warnings.filters)
    with without_warnings():
        warnings.warn("nobody can act on this", stacklevel=1)
        with without_warnings():
            warnings.warn("nor on this", stacklevel=1)
        warnings.warn("nor on this one", stacklevel=1)
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_a_thread_that_leaves_its_block_does_not_end_the_silence_of_another():
    before = list(warnings.filters)
    entered, leave = threading.Event(), threading.Event()

    def other():
        with without_warnings():
            entered.set()
            leave.wait(60)

    # The other enters first, so what it found is the filters without silence.
    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(60)
    with without_warnings():
        leave.set()
        thread.join()
        warnings.warn("still silent", stacklevel=1)
    assert list(warnings.filters) == before


def test_a_block_that_fails_ends_its_silence():
    before = list(warnings.filters)
    with pytest.raises(ZeroDivisionError), without_warnings():
        _ = 1 / 0
    assert list(warnings.filters) == before
