"""The page at `/api/`: painting and the time it takes."""

import pytest
import requests
from playwright.sync_api import expect

from tests.end_to_end.calls import bodies, held, wait_for_request
from tests.end_to_end.studio import BYTES, PAINTED, Studio

pytestmark = pytest.mark.browser


@pytest.fixture
def motion():
    return "no-preference"


def test_what_is_typed_is_painted_and_its_link_gives_the_same_picture(gateway_url, emulator, page):
    studio = Studio(page, gateway_url).open()
    studio.paint("a <b>red</b> apple & more")

    assert studio.picture.evaluate(PAINTED) == 64
    assert [request["prompt"] for request in bodies(emulator)] == ["a <b>red</b> apple & more"]
    link = page.get_by_role("link", name="Open").get_attribute("href")
    seen = bytes(studio.page.evaluate(BYTES))
    assert requests.get(link, timeout=30).content == seen


def test_the_picture_is_described_by_its_prompt_seed_model_size_and_time(studio, emulator):
    studio.open().paint("a red apple")

    seed = bodies(emulator)[0]["seed"]
    expect(studio.page.locator("#words")).to_have_text("a red apple")
    facts = studio.page.locator("#facts").inner_text()
    assert facts.startswith(f"seed {seed} · sd · 64 \u00d7 64 · painted in ")
    assert studio.picture.get_attribute("alt") == "a red apple"


def test_a_picture_that_was_scaled_up_says_from_which_size_also_after_a_reload(studio):
    def scaled_up(route):
        response = route.fetch()
        headers = {**response.headers, "X-Painted-Size": "176x88"}
        route.fulfill(response=response, headers=headers)

    studio.page.route("**/inference/**", scaled_up)
    studio.open().paint("a red apple")
    for _ in range(2):
        facts = studio.page.locator("#facts")
        expect(facts).to_contain_text("64 \u00d7 64, scaled up from 176 \u00d7 88")
        studio.page.reload()


def test_a_hostile_prompt_is_only_words(studio, emulator):
    hostile = "<img src=x onerror=alert(1)>\"'${alert(1)}"
    studio.open().paint(hostile)
    studio.page.reload()

    expect(studio.page.locator("#words")).to_have_text(hostile)
    assert bodies(emulator)[0]["prompt"] == hostile
    assert studio.page.locator("[src=x]").count() == 0


@pytest.mark.parametrize("blank", [" ", "\n \t", "\u00a0\u3000"])
def test_a_prompt_of_spaces_alone_is_no_prompt(studio, emulator, blank):
    studio.open().ask(blank)

    expect(studio.page.locator("#prompt-wrong")).to_have_text("Describe a picture first.")
    assert bodies(emulator) == []


def test_several_pictures_are_under_way_at_once(studio, emulator):
    studio.open()
    with held(emulator, times=1):
        studio.ask("a slow cat")
        wait_for_request(emulator)
        studio.ask("a quick cat")
        expect(studio.picture).to_be_visible()
        expect(studio.busy).to_have_count(1)
    expect(studio.busy).to_have_count(0)

    # The picture being looked at stays where it is.
    expect(studio.page.locator("#words")).to_have_text("a quick cat")
    studio.page.get_by_role("button", name="a slow cat, painted").click()
    expect(studio.page.locator("#words")).to_have_text("a slow cat")
    assert studio.picture.evaluate(PAINTED) == 64


def test_a_picture_can_be_cancelled_and_tried_again(studio, emulator):
    studio.open()
    with held(emulator, times=1):
        studio.ask("a red apple")
        wait_for_request(emulator)
        studio.button("Cancel").click()
        expect(studio.page.get_by_text("Cancelled. The model may finish it")).to_be_visible()
        expect(studio.busy).to_have_count(0)
    studio.button("Try again").click()
    expect(studio.picture).to_be_visible()

    first, second = bodies(emulator)
    assert first == second


def test_one_of_several_is_cancelled_from_its_card(studio, emulator):
    studio.open()
    with held(emulator):
        studio.ask("one").ask("two")
        studio.button("Cancel one").click()
        expect(studio.page.get_by_role("button", name="one, cancelled")).to_be_visible()
        expect(studio.page.get_by_role("button", name="two, being painted")).to_be_visible()
        studio.button("Cancel two").click()


def test_the_time_spent_is_shown_against_what_the_model_usually_takes(
    studio, emulator, chalice_local
):
    models = [{"name": "sd", "asynchronous": False, "seconds": 9.5}]
    studio.offer(chalice_local, models=models).open()
    with held(emulator):
        studio.ask("a red apple")
        expect(studio.page.get_by_text("of about 9.5 s")).to_be_visible()
        progress = studio.page.get_by_role("progressbar", name="Painting")
        expect(progress).not_to_have_attribute("value", "0")
        assert 0 < float(progress.get_attribute("value") or 0) < 1
        studio.button("Cancel").click()


def test_this_browsers_own_pictures_refine_the_expected_time(studio, emulator, chalice_local):
    models = [{"name": "sd", "seconds": 9.5}, {"name": "gone", "seconds": 4}]
    studio.offer(chalice_local, models=models).open()
    expect(studio.option("Model").locator("option")).to_have_text(
        ["sd (about 9.5 s)", "gone (about 4.0 s)"]
    )
    studio.paint("a red apple")

    expect(studio.option("Model").locator("option").first).not_to_have_text("sd (about 9.5 s)")
