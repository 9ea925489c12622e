"""The simulation of scaling, against what is known without one."""

from __future__ import annotations

import math

import pytest

from endpoint.aws import scaling
from endpoint.costs.simulation import Outcome, Policies, Simulation, arrivals, installed

DAY = 86_400.0
PAINTING = 10.0


def asynchronous(rate: float, seconds: float, most: int = 1, seed: int = 1) -> Outcome:
    simulation = Simulation(PAINTING, 0, installed(most))
    return simulation.run(arrivals(rate, seconds, seed), seconds)


def real_time(rate: float, seconds: float, instances: int = 1, seed: int = 1) -> Outcome:
    return Simulation(PAINTING, instances).run(arrivals(rate, seconds, seed), seconds)


def test_the_policies_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed(3) == Policies(
        least=0,
        most=3,
        target=2.0,
        scale_in_cooldown=600,
        scale_out_cooldown=300,
        wake_seconds=120,
        wake_step=1,
        wake_cooldown=300,
    )

    monkeypatch.setattr(scaling, "_WAITING_PICTURES", 5.0)
    assert installed(3).target == 5.0


def test_the_same_seed_gives_the_same_outcome_and_another_seed_another() -> None:
    assert asynchronous(0.01, DAY) == asynchronous(0.01, DAY)
    assert asynchronous(0.01, DAY) != asynchronous(0.01, DAY, seed=2)


def test_visitors_come_as_often_as_they_should() -> None:
    count = sum(1 for _ in arrivals(0.5, 20_000, seed=3))

    assert abs(count - 10_000) < 4 * math.sqrt(10_000)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_one_gpu_keeps_its_visitors_as_long_as_theory_says(busy: float) -> None:
    """Pollaczek and Khinchine, for a time of painting that is always the same (M/D/1)."""
    found = real_time(busy / PAINTING, 60 * DAY)
    waited = sum(found.waits) / len(found.waits)

    assert waited == pytest.approx(PAINTING + busy * PAINTING / (2 * (1 - busy)), rel=0.03)


@pytest.mark.parametrize("found", [real_time(0.05, 30 * DAY), asynchronous(0.05, 30 * DAY, 3)])
def test_littles_law_holds(found: Outcome) -> None:
    """How many are there on average is how many come, times how long they stay."""
    come = len(found.waits) / found.seconds

    assert found.in_system == pytest.approx(come * sum(found.waits) / len(found.waits), rel=0.01)


def test_real_time_instances_are_paid_for_all_the_time() -> None:
    assert real_time(1 / DAY, 10 * DAY).instance_seconds == 10 * DAY
    assert real_time(1 / DAY, 10 * DAY, instances=3).instances == 3


def test_nobody_who_asks_pays_nothing() -> None:
    found = Simulation(PAINTING, 0, installed(1)).run(iter(()), DAY)

    assert found.instance_seconds == 0
    assert found.waits == ()


def test_one_picture_costs_its_instance_s_start_and_the_idle_quarter_of_an_hour() -> None:
    found = Simulation(PAINTING, 0, installed(1)).run(iter((1.0,)), DAY)

    # The alarm's two minutes and one to act, the instance's five; then 15 idle ones and one.
    assert found.waits == (179.0 + 300.0 + PAINTING,)
    assert 300 + 15 * 60 <= found.instance_seconds <= 300 + 18 * 60
    assert found.lost == 0


def test_a_second_picture_within_the_quarter_of_an_hour_does_not_wait() -> None:
    found = Simulation(PAINTING, 0, installed(1)).run(iter((1.0, 900.0, 1_500.0)), DAY)

    assert found.waits[1:] == (PAINTING, PAINTING)


def test_a_steady_trickle_keeps_one_instance_and_costs_as_much_as_real_time() -> None:
    found = asynchronous(1 / 60, 10 * DAY)

    assert found.instances == pytest.approx(1, abs=0.01)
    assert found.median < 2 * PAINTING


def test_a_crowd_gets_as_many_instances_as_it_needs_and_no_more_than_there_may_be() -> None:
    found = asynchronous(1.0, DAY, most=20)

    assert 10 < found.instances <= 20
    assert found.median < 60
    assert found.lost == 0


def test_what_one_instance_cannot_paint_is_lost_when_the_queue_is_too_long() -> None:
    found = asynchronous(0.2, DAY)

    assert found.instances <= 1
    assert found.lost > len(found.waits) / 2
    assert found.percentile(95) <= 1_800 + PAINTING


def test_an_instance_is_not_taken_away_in_the_middle_of_a_picture() -> None:
    policies = installed(1)
    slow = Simulation(3_000.0, 0, policies).run(iter((1.0,)), DAY)

    assert slow.waits == (179.0 + 300.0 + 3_000.0,)
    assert slow.instance_seconds >= 300 + 3_000
