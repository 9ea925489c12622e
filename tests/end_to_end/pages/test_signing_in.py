"""The page where keys are needed, with real keys and links, behind both gateways."""

from urllib.parse import unquote

import pytest
import requests
from playwright.sync_api import expect

from tests.end_to_end.access import AUTHORIZED, KEY, create_link
from tests.end_to_end.account import ENDPOINT
from tests.end_to_end.studio import BrowserSession, Studio, give_key, sign_in

pytestmark = pytest.mark.browser


def test_a_key_signs_in_once_and_paints_from_then_on(guarded_url, emulator, page):
    studio = Studio(page, guarded_url).open()
    studio.ask("a red apple")
    dialog = page.get_by_role("dialog", name="This easel asks for a key")
    expect(dialog).to_be_visible()
    give_key(studio, "wrong")
    expect(dialog.get_by_role("alert")).to_contain_text("Unknown or expired key")
    assert emulator.requests(ENDPOINT) == []

    give_key(studio, KEY)
    expect(studio.picture).to_be_visible()
    page.reload()
    studio.paint("a green apple")
    page.goto(f"{guarded_url}/inference/a blue apple?seed=7")
    assert page.locator("img").count() == 1


def test_a_pictures_own_address_asks_for_the_key_and_then_shows_it(guarded_url, browser):
    session = BrowserSession(browser)
    page = session.page
    address = f"{guarded_url}/inference/a violet apple?seed=7"
    page.goto(f"{address}&link=expired")
    expect(page.get_by_role("heading", name="This easel asks for a key")).to_be_visible()
    page.get_by_label("Key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Unknown or expired key.")
    page.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")

    expect(page.locator("img")).to_have_count(1)
    assert unquote(page.url) == address
    page.goto(f"{guarded_url}/")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    session.context.close()


def test_after_signing_out_the_key_is_asked_for_again(guarded_url, page):
    studio = Studio(page, guarded_url).open()
    sign_in(studio)
    studio.paint("a red apple")
    studio.button("Sign out").click()
    studio.announced("Signed out.")
    studio.ask("a green apple")

    expect(page.get_by_role("dialog", name="This easel asks for a key")).to_be_visible()
    studio.button("Not now").click()
    expect(studio.button("Try again")).to_be_visible()


def test_a_friends_link_paints_until_it_is_used_up(guarded_url, browser):
    friend = BrowserSession(browser)
    friend.page.goto(f"{guarded_url}/?link={create_link(guarded_url, pictures=1)}")
    studio = Studio(friend.page, guarded_url)
    assert friend.page.url == studio.url
    studio.paint("a red apple").ask("a green apple")

    expect(friend.page.locator("#wrong")).to_contain_text("link")
    expect(friend.page.get_by_role("button", name="a green apple, failed")).to_be_visible()
    friend.context.close()
    assert friend.errors == []


def test_the_copied_command_paints_with_a_key_in_the_shell(guarded_url, page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    studio = Studio(page, guarded_url).open()
    sign_in(studio)
    studio.paint("a red apple").button("Copy as curl").click()
    expect(studio.button("Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")

    assert command.startswith('curl --location --header "Authorization: Bearer $EASEL_KEY" ')
    address = command.rpartition(" ")[2].strip("'")
    assert requests.get(address, timeout=30).status_code == 401
    assert requests.get(address, headers=AUTHORIZED, timeout=30).content.startswith(b"\x89PNG")
