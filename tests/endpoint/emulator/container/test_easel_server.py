"""Easel's own model server behind the emulated SageMaker."""

from __future__ import annotations

import json

import pytest

from endpoint.emulator.container import easel_server
from endpoint.emulator.process.processes import ChildEnded
from endpoint.emulator.sagemaker.faults import Fault
from tests.endpoint.emulator.doubles import BUCKET, create_endpoint, wait_until
from tests.endpoint.emulator.sagemaker.doubles import exists, submit, wait_for
from tests.model_package.server.served import serving

PICTURE = b"\x89PNG" + b"a cat" * 100_000


@pytest.fixture
def queue(clients, switches):
    """An asynchronous endpoint that sends its container two requests at a time."""
    name = create_endpoint(
        clients,
        {
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/out/",
                "S3FailurePath": f"s3://{BUCKET}/failed",
            },
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
        },
    )
    yield name
    switches.set_faults(name)
    switches.set_container(name, None)


def accepted(server):
    queue = server.health()["queue"]
    return queue["waiting"] + queue["painting"]


def test_a_killed_container_loses_nothing_of_the_queue_and_leaves_no_half_picture(
    runtime, s3, switches, queue, tmp_path
):
    body = json.dumps({"prompt": "a cat", "times": 100_000, "wait": "go"}).encode()
    with serving(tmp_path) as first:
        switches.set_container(queue, first.ready().url)
        answers = [submit(runtime, queue, Body=body) for _ in range(6)]
        wait_until(lambda: accepted(first) == 2)
        # SageMaker sends nothing to a container whose /ping fails.
        switches.set_faults(queue, Fault("cold"))
        first.process.kill()
        first.process.wait()
        wait_until(lambda: sum(exists(s3, each["FailureLocation"]) for each in answers) == 2)
        with serving(tmp_path) as second:
            switches.set_container(queue, second.ready().url)
            second.open("go")
            switches.set_faults(queue)
            lost = [each for each in answers if exists(s3, each["FailureLocation"])]
            kept = [each for each in answers if each not in lost]
            pictures = [wait_for(s3, each["OutputLocation"])["Body"].read() for each in kept]

    assert pictures == [PICTURE] * 4
    assert not any(exists(s3, each["OutputLocation"]) for each in lost)


def test_a_script_that_cannot_be_loaded_ends_the_start(tmp_path):
    (tmp_path / "inference.py").write_text("raise OSError('no such library')")
    with (
        pytest.raises(ChildEnded, match="exit code 1"),
        easel_server.serving(tmp_path, tmp_path, {}),
    ):
        pass
