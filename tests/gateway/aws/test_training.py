"""SageMaker's training jobs: what its errors become."""

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from chalicelib.aws.training import Refused, Trainings
from chalicelib.errors import TrainingBusy, TrainingForbidden
from tests.gateway.doubles import Breaks, FailingClient, Provided, TrainingJobs, refusal

REQUEST = {"TrainingJobName": "easel-main-a"}
SECRET = "arn:aws:iam::123456789012:role/secret"


def failing(code, message=SECRET):
    return Trainings(Provided(FailingClient(refusal(code, message))))


@pytest.fixture
def trainings():
    return Trainings(Provided(TrainingJobs(Breaks())))


def test_a_job_that_was_started_before_is_not_an_error(trainings):
    trainings.start(REQUEST)
    trainings.start(REQUEST)

    assert trainings.describe("easel-main-a")["TrainingJobStatus"] == "InProgress"


def test_a_job_that_does_not_exist_is_none(trainings):
    assert trainings.describe("other") is None
    assert failing("ResourceNotFound").describe("other") is None


def test_stopping_a_job_that_has_ended_succeeds(trainings):
    trainings.start(REQUEST)
    trainings.stop("easel-main-a")
    trainings.stop("easel-main-a")

    assert trainings.describe("easel-main-a")["TrainingJobStatus"] == "Stopping"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ResourceLimitExceeded", TrainingBusy),
        ("ThrottlingException", TrainingBusy),
        ("ServiceUnavailable", TrainingBusy),
        ("AccessDeniedException", TrainingForbidden),
        ("ValidationException", TrainingForbidden),
        ("ExpiredTokenException", TrainingForbidden),
    ],
)
def test_a_refusal_is_certain_and_hides_the_account(code, error):
    with pytest.raises(Refused) as raised:
        failing(code).start(REQUEST)

    assert isinstance(raised.value.reason, error)
    assert SECRET not in raised.value.reason.message
    with pytest.raises(error):
        failing(code).describe("easel-main-a")


def test_the_reason_of_a_refusal_is_in_the_log(log):
    with pytest.raises(Refused):
        failing("AccessDeniedException").start(REQUEST)

    assert SECRET in log()[0]


@pytest.mark.parametrize(
    "error", [ReadTimeoutError(endpoint_url="u"), EndpointConnectionError(endpoint_url="u")]
)
def test_without_an_answer_it_may_have_been_started(error):
    silent = Trainings(Provided(FailingClient(error)))
    for call in (lambda: silent.start(REQUEST), lambda: silent.stop("x")):
        with pytest.raises(TrainingBusy):
            call()
