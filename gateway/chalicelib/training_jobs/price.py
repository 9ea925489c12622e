"""What a training job takes and costs, before it starts.

    seconds = start + (steps + sample pictures x 20) x seconds per step x weight of a step

A sample picture is about 30 inference steps with guidance, 60 passes of the UNet without gradients;
a training step is about 3 passes. The seconds per step in the settings are for one picture of the
model's own size; none of them is a promise, so the range is wide and the limit is twice the
expectation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .fields import InvalidField
from .job import Job

LONGEST_RUN = 3_600  # seconds; longer ones are for the operator
LONGEST_RUN_OF_OPERATOR = 24 * 3_600
_SHORTEST_LIMIT = 900  # seconds
_WAIT_FOR_SPOT = 3_600  # seconds that spot capacity and interruptions can take besides
_STEPS_PER_SAMPLE = 20
# Measured with the bundled model: the teacher's pass, and the pictures of the class.
_PRESERVING = {"none": 1.0, "output": 2.1, "pictures": 1.7}
_FASTEST = 0.5  # of the expected seconds of work


@dataclass(frozen=True)
class Range:
    """The least, expected and largest value."""

    low: float
    expected: float
    most: float


@dataclass(frozen=True)
class Estimate:
    """What a job takes and costs.

    Attributes:
        steps: of the optimizer.
        seconds: until the adapter is written, from the start of the instance; `most` is the limit.
        usd: likewise; `most` is what the time limit allows at the full price.
        max_runtime: seconds after which SageMaker stops the job.
        max_wait: seconds with waiting for spot instances; None on demand.
        usd_per_hour: what an hour is expected to cost, with the discount of spot instances.
    """

    steps: int
    seconds: Range
    usd: Range
    max_runtime: int
    max_wait: int | None
    usd_per_hour: float


def steps_of(job: Job, pictures: int) -> int:
    """Return the steps of a job: its own, or 100 for each picture, from 400 to 2,000."""
    return job.steps or min(max(100 * pictures, 400), 2_000)


def estimate(
    job: Job,
    *,
    pictures: int,
    seconds_per_step: float,
    start_seconds: float,
    resolution: int,
    usd_per_hour: float,
    spot_share: float | None,
    longest: int = LONGEST_RUN,
) -> Estimate:
    """Return what a job takes and costs.

    Args:
        job: a valid job.
        pictures: how many there are.
        seconds_per_step: of the model on the instance type, one picture of the model's size.
        start_seconds: until the first step: instance, image, weights, encoding.
        resolution: the model's own, in pixels.
        usd_per_hour: the instance's price on demand.
        spot_share: the expected share of that price on a spot instance; None on demand.
        longest: the highest limit of seconds that is allowed.

    Raises:
        InvalidField: named `steps`, if the job is expected to take longer than `longest`.
    """
    steps = steps_of(job, pictures)
    side = job.resolution or resolution
    each = seconds_per_step * (side / resolution) ** 2 * _PRESERVING[job.preserve]
    sheets = math.ceil(steps / job.sample_every) + 1 if job.sample_prompts else 0
    work = steps * job.batch_size * job.accumulation * each
    # A sample has the model's own size, and nothing to preserve.
    work += sheets * len(job.sample_prompts) * _STEPS_PER_SAMPLE * seconds_per_step
    expected = start_seconds + work
    if expected > longest:
        raise InvalidField(
            "steps",
            f"{steps:,} of them would take about {math.ceil(expected / 60)} minutes, and "
            f"{longest // 60} are allowed; lower steps, batch_size or resolution",
        )
    limit = min(max(math.ceil(2 * expected), _SHORTEST_LIMIT), longest)
    seconds = Range(start_seconds + work * _FASTEST, expected, float(limit))
    hourly = usd_per_hour * (1.0 if spot_share is None else spot_share)
    usd = Range(
        seconds.low / 3_600 * hourly,
        seconds.expected / 3_600 * hourly,
        seconds.most / 3_600 * usd_per_hour,
    )
    max_wait = None if spot_share is None else limit + _WAIT_FOR_SPOT
    return Estimate(steps, seconds, usd, limit, max_wait, hourly)
