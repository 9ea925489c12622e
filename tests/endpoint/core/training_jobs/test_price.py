import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.generation import InvalidField
from endpoint.core.training_jobs.job import Job
from endpoint.core.training_jobs.price import LONGEST_RUN_OF_OPERATOR, estimate, steps_of

SETTINGS = {
    "pictures": 10,
    "seconds_per_step": 1.0,
    "start_seconds": 400,
    "resolution": 1024,
    "usd_per_hour": 1.41,
    "spot_share": 0.4,
}


def job(**fields):
    return Job(name="water", **fields)


def test_a_thousand_steps_of_sdxl():
    made = estimate(job(steps=1_000), **SETTINGS)

    assert made.seconds.expected == 1_400
    assert made.max_runtime == 2_800
    assert made.max_wait == 2_800 + 3_600
    assert made.usd.expected == pytest.approx(1_400 / 3_600 * 1.41 * 0.4)
    assert made.usd.most == pytest.approx(2_800 / 3_600 * 1.41)  # no discount is promised
    assert made.usd_per_hour == pytest.approx(0.564)


def test_on_demand_has_the_full_price_and_does_not_wait():
    made = estimate(job(steps=1_000), **SETTINGS | {"spot_share": None})

    assert made.max_wait is None
    assert made.usd_per_hour == 1.41


def test_a_short_job_still_has_15_minutes():
    assert estimate(job(steps=1), **SETTINGS | {"start_seconds": 10}).max_runtime == 900


def test_no_limit_is_above_an_hour():
    assert estimate(job(steps=2_000), **SETTINGS).max_runtime == 3_600


def test_a_job_that_is_too_long_names_steps():
    with pytest.raises(InvalidField, match="steps: 20,000 of them would take about 340 minutes"):
        estimate(job(steps=20_000), **SETTINGS)
    assert estimate(job(steps=20_000), **SETTINGS, longest=LONGEST_RUN_OF_OPERATOR).steps == 20_000


def test_what_makes_a_step_longer():
    def work(**fields):
        return estimate(job(steps=100, **fields), **SETTINGS).seconds.expected - 400

    assert work() == 100
    assert work(resolution=512) == 25
    assert work(batch_size=2, accumulation=3) == 600
    assert work(preserve="output", class_prompt="a dog") == pytest.approx(210)
    assert work(preserve="pictures") == pytest.approx(170)
    # Sheets of two pictures before the first step, at step 50, and at the end.
    assert work(sample_prompts=["a", "b"], sample_every=50) == 100 + 3 * 2 * 20


@pytest.mark.parametrize(("pictures", "steps"), [(1, 400), (10, 1_000), (300, 2_000)])
def test_steps_follow_from_the_pictures(pictures, steps):
    assert steps_of(job(), pictures) == steps


@given(st.integers(1, 20_000), st.floats(0.01, 10), st.floats(0, 2_000), st.floats(0.2, 1))
def test_a_range_is_in_order_and_below_the_limit(steps, seconds, start, share):
    try:
        made = estimate(
            job(steps=steps),
            **SETTINGS | {"seconds_per_step": seconds, "start_seconds": start, "spot_share": share},
        )
    except InvalidField:
        return

    assert made.seconds.low <= made.seconds.expected <= made.seconds.most <= 3_600
    assert made.usd.low <= made.usd.expected <= made.usd.most
