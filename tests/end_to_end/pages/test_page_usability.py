"""The page at `/api/`: keyboards, phones, browsers without scripts, and reduced motion."""

from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import expect

from tests.end_to_end.calls import bodies, held, wait_for_request
from tests.end_to_end.studio import BrowserSession, Studio

pytestmark = pytest.mark.browser


def test_the_page_works_with_the_keyboard_alone(gateway_url, emulator, page):
    studio = Studio(page, gateway_url).open()
    press = page.keyboard.press
    expect(studio.prompt).to_be_focused()
    page.keyboard.type("a red")
    press("Shift+Enter")
    page.keyboard.type("apple")
    press("Enter")
    expect(studio.picture).to_be_visible()
    assert bodies(emulator)[0]["prompt"] == "a red apple"

    studio.button("Vary seed").focus()
    press("Enter")
    expect(studio.cards).to_have_count(2)
    expect(studio.busy).to_have_count(0)
    page.locator("#cards .open").first.focus()
    press("ArrowRight")
    press("Enter")
    expect(page.locator("[aria-current=true]")).to_be_focused()
    press("/")
    expect(studio.prompt).to_be_focused()


def test_escape_cancels_and_the_focus_is_not_lost(studio, emulator):
    studio.open()
    with held(emulator, times=1):
        studio.ask("a red apple")
        wait_for_request(emulator)  # which would arrive in the next test otherwise
        studio.button("Cancel").focus()
        studio.page.keyboard.press("Escape")

    expect(studio.button("Try again")).to_be_focused()


def test_without_scripts_the_form_leads_to_the_picture(browser, gateway_url, emulator):
    session = BrowserSession(browser, java_script_enabled=False)
    page = session.page
    page.goto(f"{gateway_url}/")
    page.get_by_role("textbox", name="Prompt").fill("a red apple & more")
    with page.expect_navigation():
        page.get_by_role("button", name="Paint").click()

    assert unquote(urlsplit(page.url).path).endswith("/inference/a red apple & more")
    assert [request["prompt"] for request in bodies(emulator)] == ["a red apple & more"]
    page.go_back()
    with page.expect_navigation():
        page.get_by_role("link", name="Surprise me").click()
    assert len(bodies(emulator)) == 2
    session.context.close()


def test_a_phones_width_is_enough(browser, chalice_local):
    session = BrowserSession(browser, viewport={"width": 390, "height": 844}, has_touch=True)
    studio = Studio(session.page, chalice_local).open().unfold()
    studio.paint("x" * 300)
    expect(studio.button("Copy as curl")).to_be_visible()

    assert session.page.evaluate("document.documentElement.scrollWidth") == 390
    session.context.close()
    assert session.errors == []


def test_nothing_moves_where_reduced_motion_is_preferred(browser, chalice_local, emulator):
    session = BrowserSession(browser, reduced_motion="reduce")
    studio = Studio(session.page, chalice_local).open()
    with held(emulator):
        studio.ask("a red apple")
        expect(studio.button("Cancel")).to_be_visible()
        moving = "document.getAnimations().length"
        assert session.page.evaluate(moving) == 0
        session.page.emulate_media(reduced_motion="no-preference")
        assert session.page.evaluate(moving) > 0
        studio.button("Cancel").click()
    session.context.close()
