"""Pictures of an asynchronous endpoint: ready in time, requested by many, or failed."""

import io
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from PIL import Image

from chalicelib.generation import GenerationRequest
from endpoint.emulator.process.clients import Clients
from tests.end_to_end.account import ASYNC_ENDPOINT, BUCKET, MOST_WAITING, REGION
from tests.end_to_end.calls import async_url, get, is_picture, picture_url

# --- A warm endpoint ------------------------------------------------------------------------------


def test_a_picture_that_is_ready_in_time_comes_back_in_the_same_response(
    gateway_url, emulator, prompt
):
    response = get(async_url(gateway_url, prompt))

    assert response.history == []
    assert is_picture(response.content)
    assert response.headers["X-Model"] == "sdxl"
    assert "immutable" in response.headers["Cache-Control"]
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_come_back_as_such(gateway_url, prompt, format):
    response = get(async_url(gateway_url, prompt, format=format))

    assert response.headers["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.content)).format == format.upper()


def test_asking_again_finds_the_picture_without_the_gpu(gateway_url, emulator, prompt):
    first, again = get(async_url(gateway_url, prompt)), get(async_url(gateway_url, prompt))

    assert first.content == again.content
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_an_asynchronous_endpoint_replaces_a_real_time_one_that_is_missing(
    gateway_url, emulator, prompt
):
    response = get(picture_url(gateway_url, prompt, model="both", seed=7))

    assert is_picture(response.content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_picture_too_large_for_lambda_comes_by_a_link_into_the_store(
    gateway_url, emulator, prompt
):
    response = get(async_url(gateway_url, f"noise {prompt}", width=1_536, height=1_536))

    (hop,) = response.history
    assert hop.status_code == 303
    assert BUCKET in response.url
    assert response.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (1_536, 1_536)
    assert len(response.content) > 6_000_000


def test_a_real_time_picture_too_large_for_lambda_says_what_to_ask_for_instead(
    gateway_url, emulator, prompt
):
    response = get(picture_url(gateway_url, f"noise {prompt}", width=1_536, height=1_536))

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "picture_too_large"
    assert "format=webp" in response.json()["error"]["message"]


def test_a_posted_job_is_the_same_job_as_the_urls(gateway_url, emulator, prompt):
    body = {"prompt": prompt, "seed": 7, "model": "sdxl"}
    receipt = requests.post(f"{gateway_url}/jobs", json=body, timeout=30)
    response = get(async_url(gateway_url, prompt))

    assert receipt.status_code in {200, 202}
    assert receipt.json()["request"] == GenerationRequest(**body, format="png").to_dict()
    assert is_picture(response.content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.parametrize(
    "rule",
    [
        {"output": "{path}/{extension}{file}", "failure": "{path}/{id}"},
        {"output": "{folder}/{id}.out"},
        {"output": f"s3://{BUCKET}/jobs/elsewhere/{{id}}", "failure": "{folder}/{id}.out"},
    ],
)
def test_a_picture_is_found_wherever_sagemaker_writes_it(gateway_url, emulator, prompt, rule):
    emulator.set_locations(ASYNC_ENDPOINT, **rule)
    try:
        response = get(async_url(gateway_url, prompt))
        again = get(async_url(gateway_url, prompt))
        with emulator.fault(ASYNC_ENDPOINT, "failing"):
            failed = get(async_url(gateway_url, f"{prompt} too"))
    finally:
        emulator.set_locations(ASYNC_ENDPOINT)

    assert is_picture(response.content)
    assert again.content == response.content
    assert failed.json()["error"]["code"] == "job_failed"
    assert emulator.runs(ASYNC_ENDPOINT) == 2


def test_a_place_that_the_gateway_cannot_read_is_reported_at_once(gateway_url, emulator, prompt):
    emulator.set_locations(ASYNC_ENDPOINT, output=f"s3://{BUCKET}/other/{{id}}")
    try:
        responses = [get(async_url(gateway_url, prompt)) for _ in range(2)]
    finally:
        emulator.set_locations(ASYNC_ENDPOINT)

    assert {response.status_code for response in responses} == {502}
    assert {response.json()["error"]["code"] for response in responses} == {"endpoint_failed"}
    assert emulator.runs(ASYNC_ENDPOINT) == 1


# --- Many clients --------------------------------------------------------------------------------


def test_fifty_simultaneous_requests_for_one_picture_are_one_run(chalice_local, emulator, prompt):
    with ThreadPoolExecutor(50) as clients:
        pending = [
            clients.submit(get, async_url(chalice_local, prompt), {"Prefer": "respond-async"})
            for _ in range(50)
        ]
        responses = [future.result() for future in pending]

    assert {response.status_code for response in responses} <= {200, 202}
    assert is_picture(get(async_url(chalice_local, prompt)).content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_requests_over_the_limit_of_waiting_ones_receive_a_503(impatient_local, emulator, colder):
    with ThreadPoolExecutor(MOST_WAITING + 6) as clients:
        pending = [
            clients.submit(
                get, async_url(impatient_local, secrets.token_hex(8)), allow_redirects=False
            )
            for _ in range(MOST_WAITING + 6)
        ]
        statuses = sorted(each.result().status_code for each in pending)

    assert statuses.count(503) == 6
    assert statuses.count(303) == MOST_WAITING
    # Nobody would fetch the pictures of those who were sent away, so none is begun.
    assert len(emulator.requests(ASYNC_ENDPOINT)) == MOST_WAITING


# --- Trouble --------------------------------------------------------------------------------------


def test_a_failure_of_the_model_is_reported_and_the_next_request_tries_again(
    gateway_url, emulator, prompt
):
    with emulator.fault(ASYNC_ENDPOINT, "failing"):
        failed = get(async_url(gateway_url, prompt))

    assert failed.status_code == 502
    assert failed.json()["error"]["code"] == "job_failed"
    assert is_picture(get(async_url(gateway_url, prompt)).content)


def test_what_the_model_refuses_is_a_400_with_its_reason(gateway_url, emulator, prompt):
    body = '{"error": {"code": "moderation_blocked", "message": "Not fit to show."}}'
    with emulator.fault(ASYNC_ENDPOINT, "failing", status=422, body=body):
        refused = get(async_url(gateway_url, prompt))

    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "Not fit to show."


def test_a_queue_that_accepts_nothing_is_reported_and_the_next_request_works(
    gateway_url, emulator, prompt
):
    with emulator.fault(ASYNC_ENDPOINT, "throttled"):
        assert get(async_url(gateway_url, prompt)).json()["error"]["code"] == "endpoint_busy"

    assert is_picture(get(async_url(gateway_url, prompt)).content)


def test_half_a_picture_in_the_store_is_not_passed_on(aws, gateway_url, emulator, prompt):
    with emulator.fault(ASYNC_ENDPOINT, "rubbish", rubbish="truncated"):
        response = get(async_url(gateway_url, prompt))

    assert response.status_code == 502
    assert response.json()["error"]["code"] == "bad_picture"


@pytest.mark.parametrize("identifier", ["sdxl-" + "0" * 32, "nonsense", "sd-" + "0" * 32])
def test_an_unknown_job_is_a_404(gateway_url, identifier):
    for path in ("", "/image"):
        response = get(f"{gateway_url}/jobs/{identifier}{path}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "job_unknown"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"not json", None),
        (b"[" * 100_000, None),
        (b"[]", None),
        (b'{"prompt": "a", "steps": 0}', "steps"),
        (b'{"prompt": "a", "model": "sd"}', "model"),
        (b'{"steps": 3}', "prompt"),
    ],
)
def test_a_bad_body_is_a_400_before_any_gpu_time(gateway_url, emulator, body, field):
    response = requests.post(f"{gateway_url}/jobs", data=body, timeout=30)

    assert response.status_code == 400
    assert response.json()["error"].get("field") == field
    assert emulator.requests() == []


def test_a_store_that_is_gone_is_reported(aws, gateway_url, emulator, prompt):
    s3 = Clients(lambda: aws.url).get("s3", REGION)
    for stored in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=stored["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    response = get(async_url(gateway_url, prompt))
    s3.create_bucket(Bucket=BUCKET)

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "store_unavailable"
