"""The page at `/api/`: asynchronous models."""

import pytest
from playwright.sync_api import expect

from tests.end_to_end.account import ASYNC_ENDPOINT
from tests.end_to_end.calls import held
from tests.end_to_end.studio import PAINTED, Studio, error

pytestmark = pytest.mark.browser


def is_pending_job(response):
    """Return whether a response describes a job that the page stores and polls."""
    return "/jobs/" in response.url and response.status == 202


@pytest.fixture(params=["listed", "not listed"])
def queued(request, page, impatient_local):
    """The page with `sdxl` chosen, whether or not it knows that model to have a queue."""
    studio = Studio(page, impatient_local)
    if request.param == "not listed":
        studio.offer(impatient_local, models=[{"name": "sd"}, {"name": "sdxl"}])
    studio.open().option("Model").select_option("sdxl")
    return studio


def test_an_asynchronous_picture_is_waited_for_while_others_are_painted(queued, emulator, prompt):
    with held(emulator, times=1, endpoint=ASYNC_ENDPOINT):
        queued.ask(prompt)
        queued.option("Model").select_option("sd")
        queued.ask("a quick cat")
        expect(queued.picture).to_be_visible()
        expect(queued.busy).to_have_count(1)
    expect(queued.busy).to_have_count(0)

    queued.page.get_by_role("button", name=f"{prompt}, painted").click()
    assert queued.picture.evaluate(PAINTED) == 64
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_reload_in_the_middle_goes_on_waiting(queued, emulator, prompt):
    with held(emulator, times=1, endpoint=ASYNC_ENDPOINT):
        with queued.page.expect_response(is_pending_job):
            queued.ask(prompt)
        expect(queued.page.get_by_text("waiting in the queue")).to_be_visible()
        queued.page.reload()
        expect(queued.busy).to_have_count(1)
    expect(queued.picture).to_be_visible()

    expect(queued.page.locator("#words")).to_have_text(prompt)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_waiting_survives_errors_of_the_gateway(queued, emulator, prompt):
    with held(emulator, times=1, endpoint=ASYNC_ENDPOINT):
        with queued.page.expect_response(is_pending_job):
            queued.ask(prompt)
        busy = error("store_unavailable", "S3 did not answer.", retry_after=1)
        queued.answer("jobs/*", 503, busy, **{"Retry-After": "1"})
        with queued.page.expect_response(lambda answer: answer.status == 503):
            pass
        queued.page.unroute(f"{queued.url}jobs/*")
    expect(queued.picture).to_be_visible()


def test_an_asynchronous_picture_that_fails_is_reported_and_tried_again(queued, emulator, prompt):
    with emulator.fault(ASYNC_ENDPOINT, "failing", times=1):
        queued.ask(prompt)
        retry = queued.page.get_by_role("button", name="Try again")
        expect(retry).to_be_enabled()
    retry.click()

    expect(queued.picture).to_be_visible()


def test_a_cancelled_asynchronous_picture_is_not_waited_for_after_a_reload(
    queued, emulator, prompt
):
    with held(emulator, times=1, endpoint=ASYNC_ENDPOINT):
        with queued.page.expect_response(is_pending_job):
            queued.ask(prompt)
        expect(queued.page.get_by_text("waiting in the queue")).to_be_visible()
        queued.button("Cancel").click()
        queued.announced("Cancelled.")
        queued.page.reload()
        expect(queued.page.get_by_text("Your picture will stand here.")).to_be_visible()

    assert queued.cards.count() == 0


def test_a_slow_address_shows_how_long_it_takes_and_then_the_picture(
    impatient_url, emulator, page, prompt
):
    with held(emulator, times=1, endpoint=ASYNC_ENDPOINT):
        response = page.goto(f"{impatient_url}/inference/{prompt}?model=sdxl&seed=7")
        assert response.status == 202
        expect(page.get_by_role("heading", name=prompt)).to_be_visible()

    expect(page.locator("#picture")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Painted with seed 7.")
    assert page.locator("#picture").evaluate(PAINTED) == 64
