"""axe-core on every page and every state of it, in light and in dark.

https://github.com/dequelabs/axe-core
"""

import pytest
from playwright.sync_api import expect

from tests.end_to_end.account import ASYNC_ENDPOINT
from tests.end_to_end.calls import held
from tests.end_to_end.studio import BrowserSession, Studio, error, violations
from tests.end_to_end.teaching import Teaching, picture

pytestmark = pytest.mark.browser


@pytest.fixture(params=["light", "dark"])
def look(request, browser):
    """A page that prefers light, or dark."""
    session = BrowserSession(browser, color_scheme=request.param, reduced_motion="reduce")
    yield session.page
    session.context.close()


@pytest.fixture
def studio(look, chalice_local):
    return Studio(look, chalice_local).open()


def test_an_empty_studio_with_its_options_open(studio):
    studio.unfold()

    assert violations(studio.page) == []


def test_a_picture_under_way_and_one_that_is_there(studio, emulator):
    with held(emulator):
        studio.ask("a red apple")
        expect(studio.button("Cancel")).to_be_visible()
        assert violations(studio.page) == []
        studio.button("Cancel").click()
    assert violations(studio.page) == []
    studio.paint("a green apple")
    assert violations(studio.page) == []


def test_an_error_and_a_field_that_is_wrong(studio):
    studio.unfold().option("LoRA").fill("!")
    studio.ask("a red apple")
    expect(studio.page.locator("#lora-wrong")).to_be_visible()
    assert violations(studio.page) == []

    studio.option("LoRA").fill("")
    studio.answer("inference/*", 503, error("endpoint_busy", "Busy.", retry_after=60))
    studio.ask("a red apple")
    expect(studio.page.get_by_role("button", name="Try again in")).to_be_visible()
    assert violations(studio.page) == []


def test_the_dialogs(studio):
    studio.answer("inference/*", 401, error("unauthorized", "A key is needed."))
    studio.ask("a red apple")
    expect(studio.page.get_by_role("dialog")).to_be_visible()
    assert violations(studio.page) == []

    studio.button("Not now").click()
    studio.button("Remove all").click()
    assert violations(studio.page) == []


def test_the_page_of_a_problem(look, chalice_local):
    look.goto(f"{chalice_local}/inference/a?steps=0")
    expect(look.get_by_role("heading", name="That cannot be painted")).to_be_visible()

    assert violations(look) == []


def test_the_reference_page_which_the_studio_leads_to(studio):
    studio.page.get_by_role("link", name="API").click()
    expect(studio.page.get_by_role("heading", level=1)).to_be_visible()

    assert violations(studio.page) == []


def test_the_page_that_waits(look, impatient_local, emulator, prompt):
    with held(emulator, times=1, endpoint=ASYNC_ENDPOINT):
        look.goto(f"{impatient_local}/inference/{prompt}?model=sdxl")
        expect(look.get_by_role("heading", name=prompt)).to_be_visible()
        assert violations(look) == []


def test_the_page_that_teaches_with_errors_and_with_its_options_open(look, training_local):
    teaching = Teaching(look, training_local).open().choose(picture("a.png"), picture("b.heic"))
    teaching.start.click()
    expect(teaching.wrong("trigger")).to_be_visible()
    teaching.unfold()

    assert violations(look) == []


def test_a_training_job_under_way_and_its_dialog(look, training_local):
    teaching = Teaching(look, training_local).show()
    expect(look.locator("#curve .mean")).to_be_visible()
    assert violations(look) == []

    teaching.button("Cancel").click()
    assert violations(look) == []
