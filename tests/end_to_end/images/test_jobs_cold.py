"""Pictures that take longer than a request can wait, with each kind of client as it is."""

import asyncio
import shutil
import subprocess
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing

import aiohttp
import pytest

from endpoint.emulator.apigateway import packaged_gateway
from endpoint.provision.gateway.gateway_project import GatewaySettings
from tests.end_to_end.account import ASYNC_ENDPOINT
from tests.end_to_end.calls import async_url, get, is_picture, picture_url


def test_requests_ends_with_the_picture(impatient_url, emulator, prompt, colder):
    response = get(async_url(impatient_url, prompt))

    assert {hop.status_code for hop in response.history} == {303}
    assert is_picture(response.content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_pages_and_fast_pictures_are_served_while_as_many_wait_as_can(
    package, impatient_environment, emulator, prompt, colder
):
    # What `deploy` writes in a new account, whose ten functions the emulator has, too.
    settings = GatewaySettings(()).environment()
    waiting = {name: settings[name] for name in settings if "WAITING" in name}
    variables = {**impatient_environment, **waiting}
    with (
        packaged_gateway.serve(package, environment=variables) as server,
        ThreadPoolExecutor(10) as visitors,
    ):
        url = f"{server.url}/api"
        pending = [
            visitors.submit(get, async_url(url, f"{prompt} {number}"), allow_redirects=False)
            for number in range(10)
        ]
        wait(pending, return_when=FIRST_COMPLETED)
        pages = [get(f"{url}/{path}").status_code for path in ("", "health", "options")]
        fast = get(picture_url(url, prompt, model="sd", seed=7))
        refused = [each.result() for each in pending if each.done()]

    assert pages == [200, 200, 200]
    assert is_picture(fast.content)
    # On a slow machine, some have waited long enough to be sent on.
    assert 503 in {response.status_code for response in refused} <= {303, 503}
    assert refused[0].json()["error"]["code"] == "too_many_waiting"


def test_aiohttp_ends_with_the_picture(impatient_url, emulator, prompt, cold):
    async def fetch():
        async with (
            aiohttp.ClientSession() as session,
            session.get(async_url(impatient_url, prompt)) as response,
        ):
            return await response.read()

    # The browser of other tests has an event loop in this thread.
    with ThreadPoolExecutor(1) as thread:
        assert is_picture(thread.submit(asyncio.run, fetch()).result())
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_curl_ends_with_the_picture(impatient_url, emulator, prompt, cold, tmp_path):
    curl = shutil.which("curl")
    assert curl, "curl is needed"
    file = tmp_path / "picture.png"
    subprocess.run(
        [curl, "-sSL", "-o", str(file), async_url(impatient_url, prompt)], check=True, timeout=60
    )

    assert is_picture(file.read_bytes())
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.browser
def test_a_browser_shows_a_page_that_waits_and_then_the_picture(
    impatient_url, emulator, page, prompt, colder
):
    response = page.goto(async_url(impatient_url, prompt))
    assert response.status == 202
    assert page.get_by_role("heading").inner_text() == prompt
    page.locator("#picture").wait_for(state="visible", timeout=60_000)
    assert page.locator("#picture").evaluate("image => image.naturalWidth") == 64
    assert page.get_by_role("status").inner_text() == "Painted with seed 7."

    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.browser
def test_an_image_element_shows_the_picture(impatient_url, emulator, browser, prompt, cold):
    with closing(browser.new_page(bypass_csp=True)) as page:
        page.goto(f"{impatient_url}/health")  # stands for any page, which would allow pictures
        page.set_content(f'<img alt="" src="{async_url(impatient_url, prompt)}">')
        page.wait_for_function("document.images[0].naturalWidth == 64", timeout=60_000)

    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_program_that_will_not_wait_gets_a_receipt_and_finds_its_picture(
    impatient_url, emulator, prompt, cold
):
    receipt = get(async_url(impatient_url, prompt), {"Prefer": "respond-async"})
    job = receipt.json()

    assert receipt.status_code == 202
    assert int(receipt.headers["Retry-After"]) > 0
    assert job["state"] == "waiting"
    assert job["request"]["prompt"] == prompt
    origin = impatient_url.removesuffix("/api")
    assert receipt.headers["Location"] == job["url"]
    while (status := get(origin + job["url"])).json()["state"] == "waiting":
        assert status.status_code == 202
        time.sleep(0.5)
    assert status.json()["state"] == "done"
    assert is_picture(get(origin + status.json()["image"]).content)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_client_that_has_followed_enough_redirects_learns_where_the_picture_will_be(
    impatient_url, emulator, prompt, colder
):
    job = get(async_url(impatient_url, prompt), {"Prefer": "respond-async"}).json()
    response = get(f"{impatient_url}/jobs/{job['id']}/image?hop=18", {"User-Agent": "some client"})

    assert response.status_code == 503
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "still_painting"
    assert job["image"] in response.json()["error"]["message"]


def test_the_requested_wait_is_honoured(impatient_url, emulator, prompt, cold):
    response = get(async_url(impatient_url, prompt), {"Prefer": "wait=0"})

    assert response.status_code == 202
