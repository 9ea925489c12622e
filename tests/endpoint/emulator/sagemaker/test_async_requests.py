from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.endpoint.emulator.doubles import (
    BUCKET,
    PNG,
    create_endpoint,
)
from tests.endpoint.emulator.sagemaker.doubles import key, submit, wait_for


def test_extension_and_filename_determine_the_output(runtime, s3, async_endpoint):
    answer = submit(
        runtime, async_endpoint, S3OutputPathExtension="jobs/17", Filename="picture.png"
    )
    assert answer["OutputLocation"] == f"s3://{BUCKET}/out/jobs/17/picture.png"
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


@pytest.mark.parametrize(
    ("rule", "output", "failure"),
    [
        ({"output": "{path}/{extension}{file}"}, "out//jobs/17/a.png", "failed/"),
        ({"output": "{path}/{id}.out", "failure": "{path}//{id}"}, "out//", "failed//"),
        ({"output": f"s3://{BUCKET}/x/{{id}}"}, "x/", "failed/"),
        ({}, "out/jobs/17/a.png", "failed/"),
    ],
)
def test_results_can_be_written_elsewhere(
    runtime, s3, async_endpoint, container, switches, rule, output, failure
):
    switches.set_locations(async_endpoint, **rule)
    asked = {"S3OutputPathExtension": "jobs/17", "Filename": "a.png"}
    done = submit(runtime, async_endpoint, **asked)
    assert wait_for(s3, done["OutputLocation"])["Body"].read() == PNG
    container.behave = lambda _body: (500, b"no")
    failed = submit(runtime, async_endpoint, **asked)

    assert key(done["OutputLocation"]).startswith(output)
    assert key(failed["FailureLocation"]).startswith(failure)
    assert wait_for(s3, failed["FailureLocation"])["Body"].read()


@pytest.mark.parametrize("rule", [{"output": "{unknown}"}, {"failure": "/x"}, {"other": "x"}])
def test_a_rule_that_makes_no_address_is_refused(async_endpoint, switches, rule):
    with pytest.raises(ValueError, match=r"template|not an S3|other"):
        switches.set_locations(async_endpoint, **rule)


def test_a_real_time_endpoint_refuses_asynchronous_invocations(runtime, endpoint):
    with pytest.raises(runtime.exceptions.ValidationError, match="not configured"):
        submit(runtime, endpoint)


def test_an_endpoint_that_does_not_exist_is_a_validation_error(runtime):
    with pytest.raises(ClientError, match="Endpoint nowhere of account 123456789012 not found"):
        submit(runtime, "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"InputLocation": f"s3://{BUCKET}/in", "Body": b"x"}, "exactly one"),
        ({"Body": b""}, "exactly one"),
        ({"Body": b"x" * 128_001}, "128000"),
        ({"InputLocation": "file:///etc/passwd"}, "Invalid InputLocation"),
        ({"RequestTTLSeconds": 21_601}, "between 60 and 21600"),
        ({"InvocationTimeoutSeconds": 3601}, "between 1 and 3600"),
        ({"Filename": "a.b.c"}, "Filename"),
        ({"Filename": "x" * 33}, "Filename"),
        ({"S3OutputPathExtension": "s3://elsewhere"}, "S3OutputPathExtension"),
    ],
)
def test_invalid_requests_are_refused(runtime, async_endpoint, options, message):
    with pytest.raises(runtime.exceptions.ValidationError, match=message):
        submit(runtime, async_endpoint, **options)


def test_the_longest_inline_body_is_accepted(runtime, s3, async_endpoint):
    answer = submit(runtime, async_endpoint, Body=b"x" * 128_000)
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_without_a_failure_path_there_is_no_failure_location(
    clients, runtime, s3, container, switches
):
    name = create_endpoint(clients, {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/plain"}})
    switches.set_container(name, container.url)
    answer = submit(runtime, name)
    assert "FailureLocation" not in answer
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG
