"""A person with a browser."""

import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from playwright.sync_api import expect

from endpoint.emulator.http_server import QuietHandler, serving
from tests.browser import chromium
from tests.end_to_end.conftest import ENDPOINT

pytestmark = pytest.mark.browser
SHOWN = "image => image.complete && image.naturalWidth"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A page in which no error and no refusal of the content security policy goes unnoticed."""
    context = browser.new_context()
    page = context.new_page()
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.troubles.append(said.text))
    yield page
    context.close()


def prompts(emulator):
    return [json.loads(each["body"])["prompt"] for each in emulator.requests(ENDPOINT)]


@pytest.mark.parametrize(
    "typed",
    [
        "an astronaut riding a horse",
        "a café in Zürich",
        "猫 on a mat",
        'say "cheese" + smile',
        "<script>alert(1)</script>",
    ],
)
def test_a_prompt_typed_into_the_address_bar_shows_its_picture(door, emulator, page, typed):
    response = page.goto(f"{door}/inference/{typed.replace('/', '%2F')}")

    assert response.status == 200
    assert page.locator("img").evaluate(SHOWN) == 64
    assert prompts(emulator) == [typed]


def test_the_random_address_ends_at_a_link_that_can_be_shared(door, emulator, page):
    page.goto(f"{door}/inference/")

    address = urlsplit(page.url)
    assert prompts(emulator) == [unquote(address.path.rpartition("/")[2])]
    assert parse_qs(address.query)["seed"]
    assert page.locator("img").evaluate(SHOWN) == 64


def test_the_page_paints_what_is_typed_and_links_to_it(door, emulator, page):
    page.goto(f"{door}/")
    page.get_by_label("Prompt").fill("a <b>red</b> apple & more")
    page.get_by_role("button", name="Paint").click()
    picture = page.locator("#picture")
    picture.wait_for(state="visible")

    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    assert page.get_by_role("link", name="a <b>red</b> apple & more").is_visible()
    assert prompts(emulator) == ["a <b>red</b> apple & more"]
    assert page.troubles == []
    with page.expect_navigation():
        page.locator("#link").click()
    assert page.locator("img").evaluate(SHOWN) == 64


def test_the_page_works_with_the_keyboard_alone(door, emulator, page):
    page.goto(f"{door}/")
    expect(page.get_by_label("Prompt")).to_be_focused()
    page.keyboard.type("a red apple")
    page.keyboard.press("Enter")
    page.locator("#picture").wait_for(state="visible")

    assert prompts(emulator) == ["a red apple"]


def test_the_page_tells_of_trouble_in_words(door, emulator, page):
    page.goto(f"{door}/")
    with emulator.fault(ENDPOINT, "throttled"):
        page.get_by_label("Prompt").fill("a red apple")
        page.get_by_role("button", name="Paint").click()
        page.get_by_text("more to do than it can take").wait_for()

    page.get_by_role("button", name="Paint").click()
    page.locator("#picture").wait_for(state="visible")


def test_a_navigation_that_fails_shows_a_page_with_a_way_back(door, emulator, page):
    with emulator.fault(ENDPOINT, "failing"):
        response = page.goto(f"{door}/inference/a red apple")

    assert response.status == 502
    assert page.get_by_role("heading").inner_text() == "No picture this time"
    assert page.get_by_text("502 Bad Gateway").is_visible()
    page.get_by_role("link", name="Back to the easel").click()
    assert page.get_by_label("Prompt").is_visible()


class Album(QuietHandler):
    """Somebody else's page."""

    def do_GET(self):
        _, _, source = self.path.partition("?")
        page = f'<link rel="icon" href="data:,"><img alt="" src="{source}">'
        self.answer(200, [("Content-Type", "text/html")], page.encode())


def test_an_image_element_of_any_page_shows_the_picture(door, emulator, page):
    with serving(Album) as album:
        page.goto(f"{album.url}/?{door}/inference/a%20red%20apple?seed=7")

    assert page.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert prompts(emulator) == ["a red apple"]
