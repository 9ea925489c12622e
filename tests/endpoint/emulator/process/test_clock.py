from __future__ import annotations

import threading

import pytest

from endpoint.emulator.process.clock import Clock


def test_a_fast_clock_lets_an_hour_pass_in_an_instant():
    clock = Clock(speed=1e6)
    before = clock.now()
    clock.sleep(3600)
    assert clock.now() - before >= 3600


def test_a_skip_ends_a_sleep():
    clock = Clock()
    sleeper = threading.Thread(target=clock.sleep, args=(3600,))
    sleeper.start()
    clock.skip(3600)
    sleeper.join(60)
    assert not sleeper.is_alive()


def test_a_new_speed_applies_to_a_sleep_in_progress():
    clock = Clock()
    sleeper = threading.Thread(target=clock.sleep, args=(3600,))
    sleeper.start()
    clock.run_at(1e6)
    sleeper.join(60)
    assert not sleeper.is_alive()


def test_elapsed_time_does_not_change_with_the_speed():
    clock = Clock()
    clock.skip(100)
    clock.run_at(0.001)
    assert 100 <= clock.now() < 101


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_speed_of_zero_is_refused(speed):
    with pytest.raises(ValueError, match="above 0"):
        Clock(speed)


def test_real_seconds_shrink_with_the_speed():
    assert Clock(speed=60).real(60) == 1
