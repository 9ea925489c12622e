"""Pictures that take longer than a visit, with clients as they are."""

import asyncio
import io
import secrets
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
import requests
from PIL import Image

from chalicelib.generation import GenerationRequest
from endpoint.emulator.process.clients import Clients
from tests.browser import chromium
from tests.end_to_end.conftest import ASYNC_ENDPOINT, BUCKET, DEADLINE, MOST_WAITING, REGION
from tests.end_to_end.test_pictures import get, picture_url

# Longer than two visits may last. At the deadline that is the default, this is a minute.
COLD = 2.5 * DEADLINE


@pytest.fixture
def wish():
    """A prompt that nobody has asked for yet."""
    return f"a cat with {secrets.token_hex(8)}"


@pytest.fixture
def cold(aws, emulator):
    """The endpoint at zero instances, which wakes up after a while."""
    sagemaker = Clients(lambda: aws.url).get("sagemaker", REGION)
    scale(sagemaker, 0)
    waking = threading.Timer(COLD, scale, (sagemaker, 1))
    waking.start()
    yield
    waking.cancel()
    waking.join()
    scale(sagemaker, 1)


def scale(sagemaker, instances):
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ASYNC_ENDPOINT,
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
        ],
    )


def slow(door, prompt, **parameters):
    return picture_url(door, prompt, model="sdxl", seed=7, **parameters)


def is_picture(content):
    return Image.open(io.BytesIO(content)).format == "PNG"


# --- A warm endpoint ------------------------------------------------------------------------------


def test_a_picture_that_is_ready_in_time_comes_back_in_the_same_response(door, emulator, wish):
    response = get(slow(door, wish))

    assert response.history == []
    assert is_picture(response.content)
    assert response.headers["X-Model"] == "sdxl"
    assert "immutable" in response.headers["Cache-Control"]
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_come_back_as_such(door, wish, format):
    response = get(slow(door, wish, format=format))

    assert response.headers["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.content)).format == format.upper()


def test_asking_again_finds_the_picture_without_the_gpu(door, emulator, wish):
    first, again = get(slow(door, wish)), get(slow(door, wish))

    assert first.content == again.content
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_an_asynchronous_endpoint_stands_in_for_a_real_time_one_that_is_missing(
    door, emulator, wish
):
    response = get(picture_url(door, wish, model="both", seed=7))

    assert is_picture(response.content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_picture_too_large_for_lambda_comes_by_a_link_into_the_store(door, emulator, wish):
    response = get(slow(door, f"noise {wish}", width=1_536, height=1_536))

    (hop,) = response.history
    assert hop.status_code == 303
    assert BUCKET in response.url
    assert response.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (1_536, 1_536)
    assert len(response.content) > 6_000_000


def test_a_real_time_picture_too_large_for_lambda_says_what_to_ask_for_instead(
    door, emulator, wish
):
    response = get(picture_url(door, f"noise {wish}", width=1_536, height=1_536))

    assert response.status_code == 502
    assert response.json()["error"]["code"] == "bad_picture"
    assert "format=webp" in response.json()["error"]["message"]


# --- A cold endpoint, and each kind of client -----------------------------------------------------


def test_requests_ends_with_the_picture(door, emulator, wish, cold):
    response = get(slow(door, wish))

    assert {hop.status_code for hop in response.history} == {303}
    assert is_picture(response.content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_aiohttp_ends_with_the_picture(door, emulator, wish, cold):
    async def fetch():
        async with aiohttp.ClientSession() as session, session.get(slow(door, wish)) as response:
            return await response.read()

    assert is_picture(asyncio.run(fetch()))
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_curl_ends_with_the_picture(door, emulator, wish, cold, tmp_path):
    curl = shutil.which("curl")
    assert curl, "curl is needed"
    file = tmp_path / "picture.png"
    subprocess.run([curl, "-sSL", "-o", str(file), slow(door, wish)], check=True, timeout=60)

    assert is_picture(file.read_bytes())
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.browser
def test_a_browser_shows_a_page_that_waits_and_then_the_picture(door, emulator, wish, cold):
    with chromium() as browser:
        page = browser.new_page()
        troubles = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        response = page.goto(slow(door, wish))
        assert response.status == 202
        assert page.get_by_role("heading").inner_text() == wish
        page.locator("#picture").wait_for(state="visible", timeout=60_000)
        assert page.locator("#picture").evaluate("image => image.naturalWidth") == 64
        assert page.get_by_role("status").inner_text() == "Painted with seed 7."

    assert troubles == []
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.browser
def test_an_image_element_shows_the_picture(door, emulator, wish, cold):
    with chromium() as browser:
        page = browser.new_page(bypass_csp=True)
        page.goto(f"{door}/health")  # stands for any page, which would allow pictures
        page.set_content(f'<img alt="" src="{slow(door, wish)}">')
        page.wait_for_function("document.images[0].naturalWidth == 64", timeout=60_000)

    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_program_that_will_not_wait_gets_a_receipt_and_finds_its_picture(
    door, emulator, wish, cold
):
    receipt = get(slow(door, wish), {"Prefer": "respond-async"})
    job = receipt.json()

    assert receipt.status_code == 202
    assert int(receipt.headers["Retry-After"]) > 0
    assert job["state"] == "waiting"
    assert job["request"]["prompt"] == wish
    origin = door.removesuffix("/api")
    assert receipt.headers["Location"] == job["url"]
    while (told := get(origin + job["url"])).json()["state"] == "waiting":
        assert told.status_code == 202
        time.sleep(0.5)
    assert told.json()["state"] == "done"
    assert is_picture(get(origin + told.json()["image"]).content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_posted_job_is_the_same_job_as_the_urls(door, emulator, wish):
    asked = {"prompt": wish, "seed": 7, "model": "sdxl"}
    receipt = requests.post(f"{door}/jobs", json=asked, timeout=30)
    response = get(slow(door, wish))

    assert receipt.status_code in {200, 202}
    assert receipt.json()["request"] == GenerationRequest(**asked).to_dict()
    assert is_picture(response.content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_client_that_has_followed_enough_redirects_is_told_where_the_picture_will_be(
    door, emulator, wish, cold
):
    job = get(slow(door, wish), {"Prefer": "respond-async"}).json()
    response = get(f"{door}/jobs/{job['id']}/image?hop=18", {"User-Agent": "some client"})

    assert response.status_code == 503
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "still_painting"
    assert job["image"] in response.json()["error"]["message"]


def test_a_wish_for_how_long_to_wait_is_honoured(door, emulator, wish, cold):
    response = get(slow(door, wish), {"Prefer": "wait=0"})

    assert response.status_code == 202


# --- Many visitors --------------------------------------------------------------------------------


def test_fifty_who_ask_for_the_same_picture_at_once_are_one_run(chalice_local, emulator, wish):
    with ThreadPoolExecutor(50) as visitors:
        asked = [
            visitors.submit(get, slow(chalice_local, wish), {"Prefer": "respond-async"})
            for _ in range(50)
        ]
        responses = [each.result() for each in asked]

    assert {response.status_code for response in responses} <= {200, 202}
    assert is_picture(get(slow(chalice_local, wish)).content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_more_who_wait_than_may_are_told_to_come_later(chalice_local, emulator, cold):
    with ThreadPoolExecutor(MOST_WAITING + 6) as visitors:
        asked = [
            visitors.submit(get, slow(chalice_local, secrets.token_hex(8)), allow_redirects=False)
            for _ in range(MOST_WAITING + 6)
        ]
        statuses = sorted(each.result().status_code for each in asked)

    assert statuses.count(503) == 6
    assert statuses.count(303) == MOST_WAITING
    # Nobody would fetch the pictures of those who were sent away, so none is begun.
    assert len(emulator.requests(ASYNC_ENDPOINT)) == MOST_WAITING


# --- Trouble --------------------------------------------------------------------------------------


def test_a_failure_of_the_model_is_told_and_asking_anew_tries_again(door, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "failing"):
        failed = get(slow(door, wish))

    assert failed.status_code == 502
    assert failed.json()["error"]["code"] == "job_failed"
    assert is_picture(get(slow(door, wish)).content)


def test_what_the_model_refuses_is_a_400_with_its_reason(door, emulator, wish):
    body = '{"error": {"code": "moderation_blocked", "message": "Not fit to show."}}'
    with emulator.fault(ASYNC_ENDPOINT, "failing", status=422, body=body):
        refused = get(slow(door, wish))

    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "Not fit to show."


def test_a_queue_that_takes_nothing_is_told_and_forgotten(door, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "throttled"):
        assert get(slow(door, wish)).json()["error"]["code"] == "endpoint_busy"

    assert is_picture(get(slow(door, wish)).content)


def test_half_a_picture_in_the_store_is_not_passed_on(aws, door, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "rubbish", rubbish="truncated"):
        response = get(slow(door, wish))

    assert response.status_code == 502
    assert response.json()["error"]["code"] == "bad_picture"


@pytest.mark.parametrize("identifier", ["sdxl-" + "0" * 32, "nonsense", "sd-" + "0" * 32])
def test_an_unknown_job_is_a_404(door, identifier):
    for path in ("", "/image"):
        response = get(f"{door}/jobs/{identifier}{path}")
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
def test_a_bad_body_is_a_400_before_any_gpu_time(door, emulator, body, field):
    response = requests.post(f"{door}/jobs", data=body, timeout=30)

    assert response.status_code == 400
    assert response.json()["error"].get("field") == field
    assert emulator.requests() == []


def test_a_store_that_is_gone_is_told(aws, door, emulator, wish):
    s3 = Clients(lambda: aws.url).get("s3", REGION)
    for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=each["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    response = get(slow(door, wish))
    s3.create_bucket(Bucket=BUCKET)

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "store_unavailable"
