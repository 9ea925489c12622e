import json

import pytest

from endpoint.core.training_jobs.state import FINAL, STATES, Record, sentence, state_of

RECORD = Record(
    id="abcdef012345", owner="operator", model="sdxl", name="water", dataset="0" * 12,
    instance_type="ml.g5.xlarge", spot=True, usd_per_hour=0.5, usd_most=1.0, steps=1_000,
    pictures=10, max_runtime=1_800, max_wait=5_400, created=1.0,
)  # fmt: skip
NO_REASON = "The job failed without a reason; its log is in CloudWatch."


def changed(**values):
    return Record.from_json(RECORD.to_json()[:-1] + b"," + json.dumps(values).encode()[1:])


def test_a_record_is_read_back_and_unknown_fields_are_left_out():
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert changed(colour="red") == RECORD


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"[" * 10_000])
def test_what_is_no_record_is_refused(content):
    with pytest.raises(ValueError, match="is not a record"):
        Record.from_json(content)


@pytest.mark.parametrize(
    ("status", "secondary", "state"),
    [
        ("InProgress", "Pending", "queued"),
        ("InProgress", "Starting", "starting"),
        ("InProgress", "Downloading", "downloading"),
        ("InProgress", "Training", "training"),
        ("InProgress", "Interrupted", "interrupted"),
        ("InProgress", "Uploading", "uploading"),
        ("InProgress", "SomethingNew", "starting"),
        ("Completed", "Completed", "completed"),
        ("Failed", "Failed", "failed"),
        ("Stopping", "Stopping", "stopping"),
        ("Stopped", "Stopped", "stopped"),
        ("Stopped", "MaxRuntimeExceeded", "failed"),
        ("Stopped", "MaxWaitTimeExceeded", "failed"),
    ],
)
def test_each_status_of_sagemaker_is_a_state(status, secondary, state):
    described = {"TrainingJobStatus": status, "SecondaryStatus": secondary}

    assert state_of(RECORD, described).name == state
    assert state in STATES


def test_a_published_job_is_final_whatever_sagemaker_says():
    state = state_of(changed(published=5.0), None)

    assert (state.name, state.is_final) == ("published", True)
    assert set(FINAL) < set(STATES)


def test_a_job_without_a_description_waits_or_was_cancelled():
    assert state_of(RECORD, None).name == "queued"
    assert state_of(changed(cancelled=True), None).name == "stopped"


def test_a_limit_says_what_to_do():
    described = {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}

    assert "30 minutes; resume it" in state_of(RECORD, described).error


def test_what_is_billed_is_passed_on():
    described = {"TrainingJobStatus": "Completed", "BillableTimeInSeconds": 90}

    assert state_of(RECORD, described).billed_seconds == 90


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("AlgorithmError: The GPU's memory is full; lower rank., exit code: 1",
         "The GPU's memory is full; lower rank."),
        ("AlgorithmError: Exit Code: 1", NO_REASON),
        ("", NO_REASON),
        ("InternalServerError: We encountered an internal error",
         "InternalServerError: We encountered an internal error."),
        ("CapacityError: Unable to provision",
         "AWS has no free ml.g5.xlarge at present; resume the job later."),
    ],
)  # fmt: skip
def test_a_reason_becomes_a_sentence(reason, text):
    assert sentence(reason, "ml.g5.xlarge") == text
