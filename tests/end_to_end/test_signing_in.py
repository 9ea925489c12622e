"""The page where keys are needed, with real keys and links, behind both doors."""

import hashlib
import json
import os
from contextlib import contextmanager

import pytest
import requests
from playwright.sync_api import expect

from endpoint.emulator import packaged_gateway
from endpoint.emulator.processes import Child, free_port
from tests.end_to_end.conftest import BUCKET, ENDPOINT, Person
from tests.end_to_end.test_page import Studio
from tests.packages import ROOT

pytestmark = pytest.mark.browser
KEY = "a key that somebody was given, with many letters"


@pytest.fixture(scope="module")
def keys(gateway_environment):
    entry = {"name": "ada", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    return {
        **gateway_environment,
        "EASEL_API_KEYS": json.dumps([entry]),
        "EASEL_SECRET": "a secret that nobody else knows and that is long",
        "EASEL_LINKS": f"s3://{BUCKET}/links/",
    }


@contextmanager
def local(environment):
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    arguments, module = [str(ROOT / "gateway"), str(port)], "endpoint.emulator.local_gateway"
    with Child("a gateway", module, arguments, environment={**os.environ, **environment}) as child:
        child.wait_until(lambda: is_served(url), 60)
        yield url


def is_served(url):
    try:
        return requests.get(f"{url}/health", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module", params=["chalice_local", "api_gateway"])
def closed_door(request, keys):
    """The public URL of a gateway that asks for a key."""
    if request.param == "chalice_local":
        with local(keys) as url:
            yield url
    else:
        package = request.getfixturevalue("package")
        with packaged_gateway.serve(package, environment=keys) as server:
            yield f"{server.url}/api"


def sign_in(studio):
    studio.button("Sign in").click()
    give_key(studio, KEY)
    expect(studio.button("Sign out")).to_be_visible()
    expect(studio.page.get_by_role("dialog")).to_be_hidden()


def give_key(studio, key):
    studio.page.get_by_role("dialog").get_by_label("Key").fill(key)
    studio.page.keyboard.press("Enter")


def test_who_has_a_key_signs_in_once_and_paints_from_then_on(closed_door, emulator, page):
    studio = Studio(page, closed_door).open()
    studio.ask("a red apple")
    dialog = page.get_by_role("dialog", name="This easel asks for a key")
    expect(dialog).to_be_visible()
    give_key(studio, "wrong")
    expect(dialog.get_by_role("alert")).to_contain_text("not known here")
    assert emulator.requests(ENDPOINT) == []

    give_key(studio, KEY)
    expect(studio.picture).to_be_visible()
    page.reload()
    studio.paint("a green apple")
    page.goto(f"{closed_door}/inference/a blue apple?seed=7")
    assert page.locator("img").count() == 1


def test_who_signs_out_is_asked_again(closed_door, page):
    studio = Studio(page, closed_door).open()
    sign_in(studio)
    studio.paint("a red apple")
    studio.button("Sign out").click()
    studio.told("Signed out.")
    studio.ask("a green apple")

    expect(page.get_by_role("dialog", name="This easel asks for a key")).to_be_visible()
    studio.button("Not now").click()
    expect(studio.button("Try again")).to_be_visible()


def test_a_friends_link_paints_until_it_is_used_up(closed_door, browser):
    made = requests.post(
        f"{closed_door}/links", json={"pictures": 1}, headers={"x-api-key": KEY}, timeout=30
    )
    friend = Person(browser)
    # On AWS there is HTTPS alone; the emulated API Gateway says so, and speaks HTTP.
    friend.page.goto(made.json()["url"].replace("https:", "http:"))
    studio = Studio(friend.page, closed_door)
    assert friend.page.url == studio.url
    studio.paint("a red apple").ask("a green apple")

    expect(friend.page.locator("#wrong")).to_contain_text("link")
    expect(friend.page.get_by_role("button", name="a green apple, failed")).to_be_visible()
    friend.context.close()
    assert friend.troubles == []


def test_the_copied_command_paints_with_a_key_in_the_shell(closed_door, page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    studio = Studio(page, closed_door).open()
    sign_in(studio)
    studio.paint("a red apple").button("Copy as curl").click()
    expect(studio.button("Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")

    assert command.startswith('curl --location --header "Authorization: Bearer $EASEL_KEY" ')
    link = command.rpartition(" ")[2].strip("'")
    assert requests.get(link, timeout=30).status_code == 401
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert requests.get(link, headers=bearer, timeout=30).content.startswith(b"\x89PNG")
