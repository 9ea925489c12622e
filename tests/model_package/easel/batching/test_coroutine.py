import threading

import pytest

from easel.batching.coroutine import Closed, Coroutine


def adding(suspend):
    total = 0
    while (number := suspend(total)) is not None:
        total += number
    return total


def test_it_passes_values_both_ways_and_returns():
    run = Coroutine(adding)

    assert [run.advance(), run.advance(2), run.advance(3)] == [0, 2, 5]
    assert not run.ended
    assert run.advance(None) is None
    assert run.ended
    assert run.result() == 5


def test_an_error_is_raised_where_it_is_suspended():
    def function(suspend):
        try:
            suspend("first")
        except KeyError:
            return suspend("caught")
        return None

    run = Coroutine(function)
    run.advance()
    assert run.advance(error=KeyError("x")) == "caught"
    run.advance("the end")
    assert run.result() == "the end"


def test_its_own_error_is_raised_by_its_result():
    def function(suspend):
        suspend(1)
        raise ZeroDivisionError

    run = Coroutine(function)
    run.advance()
    run.advance()
    with pytest.raises(ZeroDivisionError):
        run.result()


def test_closing_it_runs_its_finally_blocks_and_ends_its_thread():
    seen = []

    def function(suspend):
        try:
            suspend(threading.current_thread())
        except Exception:  # noqa: BLE001 - as a careless library might
            seen.append("exception")
        finally:
            seen.append("finally")

    run = Coroutine(function)
    thread = run.advance()
    run.close()

    assert seen == ["finally"]
    assert run.ended
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(Closed):
        run.result()


def test_one_that_never_began_can_be_closed():
    run = Coroutine(adding)
    run.close()

    assert run.ended
