"""The page at `/api/`: errors, and the keys that it asks for."""

import pytest
from playwright.sync_api import expect

from tests.end_to_end.calls import bodies
from tests.end_to_end.studio import error

pytestmark = pytest.mark.browser


def test_an_error_is_shown_in_words_with_a_button_that_counts_down(studio, emulator):
    studio.open()
    said = error("endpoint_busy", "The model is still starting.", retry_after=2)
    studio.answer("inference/*", 503, said, **{"Retry-After": "2"})
    studio.ask("a red apple")

    expect(studio.page.locator("#wrong")).to_have_text("The model is still starting.")
    expect(studio.page.get_by_role("button", name="Try again in")).to_be_disabled()
    studio.announced("No picture. The model is still starting.")
    studio.page.unroute(f"{studio.url}inference/*")
    studio.button("Try again").click()
    expect(studio.picture).to_be_visible()


def test_what_api_gateway_itself_says_is_put_into_words(studio):
    studio.open()
    studio.answer("inference/*", 504, {"message": "Endpoint request timed out"})
    studio.ask("a red apple")

    expect(studio.page.locator("#wrong")).to_have_text("The easel took too long.")
    expect(studio.button("Try again")).to_be_enabled()


def test_a_wrong_field_is_marked_and_led_to(studio, emulator):
    studio.open().unfold()
    studio.option("LoRA").fill("no such thing!")
    studio.unfold().ask("a red apple")

    lora = studio.option("LoRA")
    expect(lora).to_be_focused()
    expect(lora).to_have_attribute("aria-invalid", "true")
    expect(studio.page.locator("#lora-wrong")).to_contain_text("lora: must be at most 4")
    assert bodies(emulator) == []
    lora.fill("")
    studio.paint("a red apple")
    expect(studio.page.locator("[aria-invalid]")).to_have_count(0)


def test_a_number_out_of_bounds_never_leaves_the_page(studio, emulator):
    studio.open().unfold()
    studio.option("Steps").fill("101")
    studio.unfold().ask("a red apple")

    expect(studio.option("Steps")).to_be_visible()
    expect(studio.cards).to_have_count(0)
    assert bodies(emulator) == []


def test_being_offline_is_reported_as_such(studio):
    studio.open().page.context.set_offline(True)
    studio.ask("a red apple")

    expect(studio.page.locator("#wrong")).to_have_text("This device is offline.")


def test_a_key_is_asked_for_and_the_picture_painted_once_it_is_given(studio):
    studio.open()
    studio.answer("inference/*", 401, error("unauthorized", "A key is needed."))
    studio.answer("session", 401, error("unauthorized", "This is no key of ours."))
    studio.ask("a red apple")
    dialog = studio.page.get_by_role("dialog", name="This easel asks for a key")
    dialog.get_by_label("Key").fill("wrong")
    studio.page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("This is no key of ours.")

    studio.page.unroute(f"{studio.url}session")
    studio.page.unroute(f"{studio.url}inference/*")
    studio.answer("session", 204)
    dialog.get_by_label("Key").fill("right")
    with studio.page.expect_request("**/session") as asking:
        studio.page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(studio.picture).to_be_visible()
    assert asking.value.post_data_json == {"key": "right"}


def test_where_a_key_is_the_rule_one_can_sign_in_and_out_and_curl_sends_it(
    studio, chalice_local, clipboard
):
    studio.answer("session", 204)
    studio.offer(chalice_local, access="key").open()
    studio.button("Sign in").click()
    studio.page.get_by_label("Key", exact=True).fill("a key")
    studio.page.keyboard.press("Enter")
    expect(studio.button("Sign out")).to_be_visible()  # the request that signs in is over
    with studio.page.expect_request("**/session") as asking:
        studio.button("Sign out").click()
    assert asking.value.method == "DELETE"
    expect(studio.button("Sign in")).to_be_visible()

    studio.paint("a red apple").button("Copy as curl").click()
    expect(studio.button("Copied")).to_be_visible()
    assert '--header "Authorization: Bearer $EASEL_KEY"' in clipboard()
