from __future__ import annotations

import threading
import time

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.async_queue import AsyncQueue
from endpoint.emulator.sagemaker.async_requests import read
from endpoint.emulator.sagemaker.control_plane import find_endpoint
from endpoint.emulator.sagemaker.request_log import Entry
from endpoint.emulator.sagemaker.s3_locations import Rule
from tests.endpoint.emulator.doubles import (
    PNG,
    REGION,
    wait_until,
)
from tests.endpoint.emulator.sagemaker.doubles import Gate, exists, scale, submit, wait_for


def test_requests_are_processed_one_at_a_time_in_order(
    runtime, s3, async_endpoint, container, switches
):
    gate = Gate()
    container.behave = gate
    answers = [submit(runtime, async_endpoint, Body=str(number).encode()) for number in range(5)]
    wait_until(lambda: gate.bodies == [b"0"] and switches.waiting(async_endpoint) == 4)
    gate.open.set()
    for answer in answers:
        wait_for(s3, answer["OutputLocation"])
    assert gate.bodies == [b"0", b"1", b"2", b"3", b"4"]


def test_the_next_request_does_not_wait_until_the_previous_response_is_stored(
    async_endpoint,
):
    begun: list[str] = []
    stored = threading.Event()

    def work(request):
        begun.append(request.inference_id)
        return lambda: stored.wait(60) and None

    queue = AsyncQueue(Clock(), work, expire=work, held=lambda _: False)
    queue.start()
    for name in ("first", "second"):
        queue.put(queued(async_endpoint, name))
    wait_until(lambda: begun == ["first", "second"])
    stored.set()
    queue.close()


def queued(endpoint, name):
    present = find_endpoint(endpoint, REGION)
    assert present is not None
    environ = EnvironBuilder(
        data=b"{}", headers={"X-Amzn-SageMaker-Inference-Id": name}
    ).get_environ()
    entry = Entry.of("InvokeEndpointAsync", endpoint, {}, b"{}")
    return read(present, Request(environ), 0.0, entry, Rule())


def test_two_instances_work_on_two_requests(
    clients,
    runtime,
    async_endpoint,
    container,
    switches,
):
    gate = Gate()
    container.behave = gate
    scale(clients, async_endpoint, 2)
    for _ in range(3):
        submit(runtime, async_endpoint)
    wait_until(lambda: len(gate.bodies) == 2 and switches.waiting(async_endpoint) == 1)
    gate.open.set()
    wait_until(lambda: len(gate.bodies) == 3)


def test_at_zero_instances_requests_wait_for_the_first(
    clients,
    runtime,
    s3,
    async_endpoint,
    container,
    switches,
):
    scale(clients, async_endpoint, 0)
    answer = submit(runtime, async_endpoint)
    time.sleep(0.3)
    assert switches.waiting(async_endpoint) == 1
    assert container.got == []
    scale(clients, async_endpoint, 1)
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_a_cold_endpoint_keeps_its_queue_until_it_is_warm(runtime, s3, async_endpoint, switches):
    with switches.fault(async_endpoint, "cold"):
        answer = submit(runtime, async_endpoint)
        time.sleep(0.3)
        assert switches.waiting(async_endpoint) == 1
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_a_request_expires_in_the_queue(
    clients,
    runtime,
    s3,
    async_endpoint,
    container,
    switches,
):
    scale(clients, async_endpoint, 0)
    answer = submit(runtime, async_endpoint, RequestTTLSeconds=60)
    later = submit(runtime, async_endpoint, RequestTTLSeconds=3600)
    switches.set_clock(skip=61)
    assert b"expired after 60 seconds" in wait_for(s3, answer["FailureLocation"])["Body"].read()
    assert switches.waiting(async_endpoint) == 1
    assert not exists(s3, later["FailureLocation"])
    assert container.got == []


def test_deleting_an_endpoint_drops_its_queue_and_its_results_in_progress(
    clients,
    runtime,
    s3,
    async_endpoint,
    container,
    switches,
):
    gate = Gate()
    container.behave = gate
    answers = [submit(runtime, async_endpoint) for _ in range(2)]
    wait_until(lambda: len(gate.bodies) == 1)
    sagemaker = clients.get("sagemaker", REGION)
    sagemaker.delete_endpoint(EndpointName=async_endpoint)
    # The same name again is another endpoint.
    sagemaker.create_endpoint(EndpointName=async_endpoint, EndpointConfigName=async_endpoint)
    wait_until(lambda: switches.waiting(async_endpoint) == 0)
    gate.open.set()
    last = submit(runtime, async_endpoint)
    wait_for(s3, last["OutputLocation"])
    assert len(gate.bodies) == 2
    for answer in answers:
        assert not exists(s3, answer["OutputLocation"])
        assert not exists(s3, answer["FailureLocation"])
