"""The page that shows what was used, behind a gateway that asks for a key."""

import pytest
from playwright.sync_api import expect

from tests.end_to_end.account import ENDPOINT
from tests.end_to_end.pages.test_accessibility import violations
from tests.end_to_end.pages.test_signing_in import sign_in
from tests.end_to_end.studio import BrowserSession, Studio

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_key_sees_what_it_has_used(guarded_local, emulator, browser, look):
    session = BrowserSession(browser, color_scheme=look)
    page = session.page
    studio = Studio(page, guarded_local).open()
    expect(page.get_by_role("link", name="Usage")).to_be_hidden()
    sign_in(studio)
    studio.paint("a red apple")
    assert len(emulator.requests(ENDPOINT)) == 1

    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("heading", name="Usage of your key")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("of GPU time")
    expect(page.get_by_role("table", name="By model").get_by_role("rowheader")).to_contain_text(
        ["sd"]
    )
    assert page.locator("#chart rect").count() == 30
    page.get_by_label("Days").select_option("7")
    expect(page.locator("#chart rect")).to_have_count(7)
    assert page.get_by_role("link", name="CSV").get_attribute("href").endswith("days=7")
    assert violations(page) == []
    session.context.close()


def test_without_a_key_it_asks_for_one(guarded_local, browser):
    session = BrowserSession(browser)
    session.page.goto(f"{guarded_local}/usage")

    expect(session.page.get_by_label("Key")).to_be_visible()
    session.context.close()
