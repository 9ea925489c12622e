"""The page at `/api/`: what can be done with a picture."""

import io
import subprocess
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from tests.end_to_end.calls import bodies
from tests.end_to_end.studio import BYTES, NASTY

pytestmark = pytest.mark.browser


def test_again_takes_another_seed_and_vary_the_next_one(studio, emulator):
    studio.open().unfold()
    studio.option("Seed").fill("7")
    studio.option("Steps").fill("3")
    studio.paint("a red apple")
    studio.button("Vary seed").click()
    expect(studio.page.locator("#facts")).to_contain_text("seed 8 · sd · 64")
    studio.button("Again").click()
    expect(studio.cards).to_have_count(3)
    expect(studio.busy).to_have_count(0)

    first, varied, again = bodies(emulator)
    assert (first["seed"], varied["seed"]) == (7, 8)
    assert again["seed"] not in {7, 8}
    assert first["steps"] == varied["steps"] == again["steps"] == 3


def test_edit_puts_words_options_and_seed_back_into_the_form(studio, emulator):
    studio.open().unfold()
    studio.option("Steps").fill("3")
    studio.paint("a red apple")
    studio.button("Back to the defaults").click()
    studio.paint("something else")
    studio.page.get_by_role("button", name="a red apple, painted").click()
    studio.button("Edit").click()
    studio.button("Paint").click()
    expect(studio.cards).to_have_count(3)
    expect(studio.busy).to_have_count(0)

    first, other, edited = bodies(emulator)
    assert first == edited
    assert other["prompt"] == "something else"
    assert "steps" not in other


def test_the_picture_can_be_downloaded_under_a_descriptive_name(studio, emulator):
    studio.open().paint("Ein Café, in Zürich!")
    with studio.page.expect_download() as downloading:
        studio.page.get_by_role("link", name="Download").click()

    seed = bodies(emulator)[0]["seed"]
    download = downloading.value
    assert download.suggested_filename == f"ein-café-in-zürich-{seed}.png"
    with Image.open(download.path()) as picture:
        assert picture.format == "PNG"


def test_the_copied_link_names_every_option_and_makes_the_picture_again(studio, clipboard):
    studio.open().unfold()
    studio.option("Model").select_option("sd")
    studio.option("Width").fill("128")
    studio.option("Negative prompt").fill("a worm & more")
    studio.option("Format").select_option("webp")
    studio.paint(NASTY)
    studio.button("Copy link").click()
    expect(studio.button("Copied")).to_be_visible()

    link = urlsplit(clipboard())
    query = parse_qs(link.query)
    assert unquote(link.path.rpartition("/")[2]) == NASTY
    assert query.pop("seed")[0].isdigit()
    assert query == {
        "width": ["128"],
        "negative_prompt": ["a worm & more"],
        "format": ["webp"],
        "model": ["sd"],
    }
    content = requests.get(link.geturl(), timeout=30).content
    assert content == bytes(studio.page.evaluate(BYTES))
    assert Image.open(io.BytesIO(content)).size == (128, 64)


def test_the_copied_curl_command_is_one_command_whatever_was_typed(studio, clipboard, tmp_path):
    studio.open().paint(NASTY)
    studio.button("Copy as curl").click()
    subprocess.run(["/bin/sh", "-c", clipboard()], cwd=tmp_path, check=True, capture_output=True)

    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == bytes(studio.page.evaluate(BYTES))


def test_where_the_clipboard_is_refused_the_text_is_shown_selected(studio):
    studio.page.add_init_script("delete Navigator.prototype.clipboard")
    studio.open().paint("a red apple")
    studio.button("Copy link").click()

    shown = studio.page.get_by_role("dialog", name="Copy this")
    expect(shown).to_be_visible()
    selected = studio.page.evaluate("getSelection().toString()")
    assert selected == studio.page.get_by_role("link", name="Open").get_attribute("href")
    studio.page.keyboard.press("Escape")
    expect(shown).to_be_hidden()


def test_a_surprise_is_a_sentence_in_the_box_that_nobody_has_painted_yet(studio, emulator):
    studio.open().button("Surprise me").click()
    expect(studio.prompt).not_to_have_value("")
    sentence = studio.prompt.input_value()
    assert bodies(emulator) == []

    expect(studio.prompt).to_be_focused()
    studio.page.keyboard.press("Enter")
    expect(studio.picture).to_be_visible()
    assert bodies(emulator)[0]["prompt"] == sentence
