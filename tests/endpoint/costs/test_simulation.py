"""The simulation of scaling, compared with queueing theory and with known cases."""

from __future__ import annotations

import math

import pytest

from endpoint.aws import scaling
from endpoint.costs.simulation import Policies, Simulation, arrivals, installed

DAY = 86_400.0
SERVICE_SECONDS = 10.0


def asynchronous(rate, seconds, most=1, seed=1):
    simulation = Simulation(SERVICE_SECONDS, 0, installed(most))
    return simulation.run(arrivals(rate, seconds, seed), seconds)


def real_time(rate, seconds, instances=1, seed=1):
    return Simulation(SERVICE_SECONDS, instances).run(arrivals(rate, seconds, seed), seconds)


def test_the_policies_are_those_that_are_installed(monkeypatch):
    assert installed(3) == Policies(
        least=0,
        most=3,
        target=2.0,
        scale_in_cooldown=600,
        scale_out_cooldown=300,
        wake_seconds=120,
        wake_step=1,
        wake_exactly=True,
        wake_cooldown=300,
    )

    monkeypatch.setattr(scaling, "_WAITING_PICTURES", 5.0)
    assert installed(3).target == 5.0


def test_the_same_seed_gives_the_same_outcome_and_another_seed_another():
    assert asynchronous(0.01, DAY) == asynchronous(0.01, DAY)
    assert asynchronous(0.01, DAY) != asynchronous(0.01, DAY, seed=2)


def test_requests_arrive_at_the_given_rate():
    count = sum(1 for _ in arrivals(0.5, 20_000, seed=3))

    assert abs(count - 10_000) < 4 * math.sqrt(10_000)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_the_waiting_time_of_one_gpu_is_that_of_queueing_theory(busy):
    """Pollaczek-Khinchine for a constant service time (M/D/1)."""
    outcome = real_time(busy / SERVICE_SECONDS, 60 * DAY)
    waited = sum(outcome.waits) / len(outcome.waits)

    assert waited == pytest.approx(
        SERVICE_SECONDS + busy * SERVICE_SECONDS / (2 * (1 - busy)), rel=0.03
    )


@pytest.mark.parametrize(("simulate", "instances"), [(real_time, 1), (asynchronous, 3)])
def test_littles_law_holds(simulate, instances):
    """The average number in the system is the arrival rate times the average time in it."""
    outcome = simulate(0.05, 30 * DAY, instances)
    rate = len(outcome.waits) / outcome.seconds

    assert outcome.in_system == pytest.approx(
        rate * sum(outcome.waits) / len(outcome.waits), rel=0.01
    )


def test_real_time_instances_are_paid_for_all_the_time():
    assert real_time(1 / DAY, 10 * DAY).instance_seconds == 10 * DAY
    assert real_time(1 / DAY, 10 * DAY, instances=3).instances == 3


def test_without_requests_nothing_costs_anything():
    outcome = Simulation(SERVICE_SECONDS, 0, installed(1)).run(iter(()), DAY)

    assert outcome.instance_seconds == 0
    assert outcome.waits == ()


def test_one_picture_costs_its_instance_s_start_and_the_idle_quarter_of_an_hour():
    outcome = Simulation(SERVICE_SECONDS, 0, installed(1)).run(iter((1.0,)), DAY)

    # The alarm's two minutes and one to act, the instance's five; then 15 idle ones and one.
    assert outcome.waits == (179.0 + 300.0 + SERVICE_SECONDS,)
    assert 300 + 15 * 60 <= outcome.instance_seconds <= 300 + 18 * 60
    assert outcome.lost == 0


def test_a_second_picture_within_the_quarter_of_an_hour_does_not_wait():
    outcome = Simulation(SERVICE_SECONDS, 0, installed(1)).run(iter((1.0, 900.0, 1_500.0)), DAY)

    assert outcome.waits[1:] == (SERVICE_SECONDS, SERVICE_SECONDS)


def test_a_steady_trickle_keeps_one_instance_and_costs_as_much_as_real_time():
    outcome = asynchronous(1 / 60, 10 * DAY)

    assert outcome.instances == pytest.approx(1, abs=0.01)
    assert outcome.median < 2 * SERVICE_SECONDS


def test_a_high_rate_gets_as_many_instances_as_it_requires_up_to_the_limit():
    outcome = asynchronous(1.0, DAY, most=20)

    assert 10 < outcome.instances <= 20
    assert outcome.median < 60
    assert outcome.lost == 0


def test_requests_beyond_one_instances_capacity_expire_in_the_queue():
    outcome = asynchronous(0.2, DAY)

    assert outcome.instances <= 1
    assert outcome.lost > len(outcome.waits) / 2
    assert outcome.percentile(95) <= 1_800 + SERVICE_SECONDS


def test_an_instance_is_not_taken_away_in_the_middle_of_a_picture():
    policies = installed(1)
    slow = Simulation(3_000.0, 0, policies).run(iter((1.0,)), DAY)

    assert slow.waits == (179.0 + 300.0 + 3_000.0,)
    assert slow.instance_seconds >= 300 + 3_000
