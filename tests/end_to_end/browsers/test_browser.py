"""Addresses typed into a browser. The page itself has its tests in test_page*.py."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from endpoint.emulator.process.http_server import serving
from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.calls import async_url, prompts
from tests.end_to_end.conftest import SHORT_DEADLINE
from tests.end_to_end.doubles import Album, other_site
from tests.end_to_end.studio import PAINTED

pytestmark = pytest.mark.browser
SHOWN = "image => image.complete && image.naturalWidth"


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
def test_a_prompt_typed_into_the_address_bar_shows_its_picture(gateway_url, emulator, page, typed):
    response = page.goto(f"{gateway_url}/inference/{typed.replace('/', '%2F')}")

    assert response.status == 200
    assert page.locator("img").evaluate(SHOWN) == 64
    assert prompts(emulator) == [typed]


def test_the_random_address_ends_at_a_link_that_can_be_shared(gateway_url, emulator, page):
    page.goto(f"{gateway_url}/inference/")

    address = urlsplit(page.url)
    assert prompts(emulator) == [unquote(address.path.rpartition("/")[2])]
    assert parse_qs(address.query)["seed"]
    assert page.locator("img").evaluate(SHOWN) == 64


def test_reloading_a_picture_that_names_its_seed_paints_nothing(gateway_url, emulator, page):
    page.goto(f"{gateway_url}/inference/a red apple?seed=7")
    page.reload()

    assert page.locator("img").evaluate(SHOWN) == 64
    assert prompts(emulator) == ["a red apple"]


def test_a_navigation_that_fails_shows_a_page_with_a_way_back(gateway_url, emulator, page):
    with emulator.fault(ENDPOINT, "failing"):
        response = page.goto(f"{gateway_url}/inference/a red apple")

    assert response.status == 502
    assert page.get_by_role("heading").inner_text() == "No picture this time"
    assert page.get_by_text("502 Bad Gateway").is_visible()
    page.get_by_role("link", name="Back to the easel").click()
    assert page.get_by_role("textbox", name="Prompt", exact=True).is_visible()


def test_an_image_element_of_any_site_shows_the_picture(chalice_local, emulator, page, prompt):
    """At once, by a redirect to the address with its seed, or by one to S3."""
    path = f"{chalice_local}/inference"
    addresses = [
        f"{path}/a%20red%20apple?seed=7",
        f"{path}?prompt=a%20green%20apple",
        async_url(chalice_local, f"noise {prompt}", width=1_536, height=1_536),
    ]
    with serving(Album) as album:
        page.goto(other_site(album, *addresses))

        sizes = [image.evaluate(PAINTED) for image in page.locator("img").all()]
    assert sizes == [64, 64, 1_536]
    assert sorted(prompts(emulator)) == ["a green apple", "a red apple"]


def test_an_image_element_of_any_site_waits_for_a_slow_picture(
    impatient_local, emulator, page, prompt
):
    slow = emulator.fault(ASYNC_ENDPOINT, "slow", seconds=SHORT_DEADLINE + 1, times=1)
    with serving(Album) as album, slow:
        page.goto(other_site(album, async_url(impatient_local, prompt)))

        assert page.locator("img").evaluate(PAINTED) == 64
    assert emulator.runs(ASYNC_ENDPOINT) == 1
