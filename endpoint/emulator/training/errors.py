"""How a training job ends, other than well."""

from __future__ import annotations

# https://github.com/aws/sagemaker-python-sdk/issues?q=CapacityError shows these words.
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity due to"
    " InsufficientInstanceCapacity error. Please retry using a different ML instance type or after"
    " some time."
)
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."


class JobFailed(Exception):
    """The job fails; the message is its FailureReason."""


class JobStopped(Exception):
    """The job stops; the message is its secondary status."""


class Interrupted(Exception):
    """The spot instance is gone."""
