"""The page that shows what was used, behind a gateway that asks for a key."""

import pytest
from playwright.sync_api import expect

from tests.end_to_end.account import ENDPOINT
from tests.end_to_end.studio import BrowserSession, Studio, sign_in, violations

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


def counted(state, usd):
    """Return the gateway's response to an owner."""
    used = {"pictures": 0, "gpu_seconds": 0, "usd": 0}
    month = {"month": "2026-11", "usd": usd, "cap_usd": 20.0, "state": state}
    lists = {"days": [], "keys": [], "models": [], "links": [], "budgets": []}
    return {
        "from": "2026-11-26",
        "to": "2026-11-26",
        **used,
        **lists,
        "owner": True,
        "month": month,
    }


def test_from_80_percent_of_the_cap_on_the_home_page_warns_the_owner(guarded_local, browser):
    session = BrowserSession(browser)
    page = session.page
    answer = {}
    # The guard of this gateway has counted nothing.
    page.route("**/usage?days=1", lambda route: route.fulfill(json=answer))
    answer |= counted("warned", 17.2)
    studio = Studio(page, guarded_local).open()
    line = page.get_by_role("note")
    expect(line).to_be_hidden()
    sign_in(studio)
    expect(line).to_have_text(
        "2026-11: $17.20 of the monthly cap of $20.00, endpoints, batch and compile jobs by the"
        " hour. At the cap, all endpoints are deleted, and these jobs stopped."
    )
    assert violations(page) == []
    answer |= counted("reached", 20.1)
    page.reload()
    expect(line).to_contain_text("The cap is reached")
    studio.button("Sign out").click()
    expect(line).to_be_hidden()

    answer |= counted("under", 2.0)
    sign_in(studio)
    expect(page.get_by_role("link", name="Usage")).to_be_visible()
    expect(line).to_be_hidden()
    page.unroute("**/usage?days=1")
    with page.expect_response("**/usage?days=1") as own:
        page.reload()
    # Another key than the owner's has no month.
    assert own.value.json()["month"] is None
    expect(line).to_be_hidden()
    assert session.errors == []
    session.context.close()


def test_without_a_key_it_asks_for_one(guarded_local, browser):
    session = BrowserSession(browser)
    session.page.goto(f"{guarded_local}/usage")

    expect(session.page.get_by_label("Key")).to_be_visible()
    session.context.close()
