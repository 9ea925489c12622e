"""The page at `/api/` of a model that knows only certain words, and of one that knows others."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.end_to_end.calls import bodies
from tests.end_to_end.conftest import serve_locally
from tests.end_to_end.studio import BrowserSession, Studio

pytestmark = pytest.mark.browser

ABOUT = "A small zoo, kept by `one <b>keeper</b>`."
ZOO = {
    "about": ABOUT,
    "examples": ["a panda in the snow", "a keeper"],
    "vocabulary": {
        "things": ["a panda", ["a tiger", "big cat"], "a house", "an apple", "a hot dog", "wolf"],
        "characters": ["a keeper"],
        "colours": ["red", ["grey", "gray"], "xanthic"],
        "backgrounds": ["in the snow", ["at night", "under the moon"]],
        "words": ["photo", "riding", "beautiful"],
    },
}


@pytest.fixture(scope="module")
def zoo_url(gateway_environment):
    """The address of a gateway whose first model, and no other, describes itself."""
    described = {"EASEL_DESCRIPTIONS": json.dumps({"sd": ZOO})}
    with serve_locally({**gateway_environment, **described}) as url:
        yield url


@pytest.fixture
def zoo(page, zoo_url):
    return Studio(page, zoo_url).open()


@pytest.fixture(scope="module")
def zoo_page(browser, zoo_url):
    """The same page, for what only its functions are asked for."""
    session = BrowserSession(browser)
    yield Studio(session.page, zoo_url).open().page
    session.context.close()
    assert session.errors == []


def suggestions(studio):
    return studio.page.get_by_role("option").filter(visible=True)


def unknown(studio):
    return studio.page.get_by_role("group", name="Unknown words")


def test_the_model_says_what_it_is_and_what_it_can_draw(zoo):
    about = zoo.page.get_by_role("region", name="About this model")
    expect(about).to_contain_text("A small zoo, kept by one <b>keeper</b>.")
    expect(about.locator("code")).to_have_text("one <b>keeper</b>")
    expect(zoo.prompt).to_have_attribute("placeholder", "a panda in the snow")
    zoo.page.get_by_text("What it can draw").click()

    expect(about).to_contain_text("7 things")
    expect(zoo.page.locator("#things")).to_have_text(
        "apple, hot dog, house, keeper, panda, tiger, wolf"
    )
    expect(zoo.page.locator("#colours button")).to_have_text(["red", "grey", "xanthic"])
    zoo.prompt.fill("a panda")
    zoo.button("in the snow").click()
    expect(zoo.prompt).to_have_value("a panda in the snow")
    expect(zoo.prompt).to_be_focused()


def test_its_examples_are_the_ideas(zoo, emulator):
    ideas = zoo.page.locator("#ideas button")
    expect(ideas).to_have_text(["a panda in the snow", "a keeper"])
    ideas.nth(1).click()
    expect(zoo.prompt).to_have_value("a keeper")
    assert bodies(emulator) == []


def test_none_of_it_is_there_for_a_model_that_says_nothing(zoo, emulator):
    zoo.option("Model").select_option("both")
    expect(zoo.page.get_by_role("region", name="About this model")).to_be_hidden()
    expect(zoo.prompt).to_have_attribute("placeholder", "an astronaut riding a horse on mars")
    expect(zoo.page.locator("#ideas button").first).to_have_text("a red apple")
    assert zoo.prompt.get_attribute("aria-autocomplete") is None
    zoo.prompt.press_sequentially("a pan")
    expect(suggestions(zoo)).to_have_count(0)
    zoo.option("Model").select_option("sdxl")
    zoo.paint("a lighthouse in a storm")

    expect(unknown(zoo)).to_be_hidden()


def test_a_plain_page_has_none_of_it_either(studio):
    studio.open().paint("a lighthouse in a storm")

    expect(studio.page.get_by_role("region", name="About this model")).to_be_hidden()
    expect(unknown(studio)).to_be_hidden()


def test_a_surprise_has_words_that_the_model_knows(zoo):
    zoo.button("Surprise me").click()
    expect(zoo.prompt).not_to_have_value("")
    words = set(zoo.prompt.input_value().split())
    known = "a an and panda tiger house apple hot dog wolf keeper red grey xanthic"
    assert words <= set(f"{known} in the snow at night".split())
    zoo.option("Model").select_option("sdxl")
    expect(zoo.prompt).not_to_have_value("")
    zoo.button("Surprise me").click()
    expect(zoo.prompt).to_have_value(re.compile("^[A-Z].*[.?!]$"))


def test_a_suggestion_is_chosen_with_the_keyboard(zoo, emulator):
    zoo.prompt.press_sequentially("a red p")
    expect(suggestions(zoo)).to_have_count(0)  # a single letter says too little
    zoo.prompt.press_sequentially("a")
    expect(suggestions(zoo)).to_have_text(["panda"])
    zoo.announced("There are suggestions.*")
    zoo.prompt.press("ArrowDown")
    expect(suggestions(zoo)).to_have_attribute("aria-selected", "true")
    active = zoo.prompt.get_attribute("aria-activedescendant")
    expect(zoo.page.locator(f"#{active}")).to_have_text("panda")
    zoo.prompt.press("Enter")
    expect(zoo.prompt).to_have_value("a red panda")
    expect(suggestions(zoo)).to_have_count(0)

    zoo.prompt.press_sequentially(" in th")
    zoo.prompt.press("ArrowUp")
    zoo.prompt.press("Tab")
    expect(zoo.prompt).to_have_value("a red panda in the snow")
    expect(zoo.prompt).to_be_focused()
    assert bodies(emulator) == []
    zoo.prompt.press("Enter")
    expect(zoo.picture).to_be_visible()
    assert bodies(emulator)[0]["prompt"] == "a red panda in the snow"


def test_a_suggestion_is_chosen_with_the_mouse_in_the_middle_of_a_prompt(zoo):
    zoo.prompt.fill("a t in the snow")
    for _ in range(len(" in the snow")):
        zoo.prompt.press("ArrowLeft")
    zoo.prompt.press_sequentially("ig")
    suggestions(zoo).click()
    expect(zoo.prompt).to_have_value("a tiger in the snow")
    expect(zoo.prompt).to_be_focused()


def test_enter_paints_what_was_typed_and_escape_only_closes_the_list(zoo, emulator):
    zoo.prompt.press_sequentially("a pan")
    expect(suggestions(zoo)).to_have_count(1)
    zoo.prompt.press("Escape")
    expect(suggestions(zoo)).to_have_count(0)
    zoo.prompt.press_sequentially("d")
    expect(suggestions(zoo)).to_have_count(1)
    zoo.prompt.press("Enter")
    expect(zoo.picture).to_be_visible()
    expect(suggestions(zoo)).to_have_count(0)
    assert bodies(emulator)[0]["prompt"] == "a pand"


def test_the_list_leaves_the_paint_button_free(zoo, emulator):
    zoo.ask("a pand")
    expect(zoo.picture).to_be_visible()
    assert bodies(emulator)[0]["prompt"] == "a pand"


def test_unknown_words_are_pointed_out_with_the_nearest_that_it_knows(zoo):
    zoo.ask("a lighthouse, <lora:pixel:0.8> (pandas:1.3) in the snow and a storm")
    expect(unknown(zoo)).to_have_text(
        "This model does not know “lighthouse”, “pandas” and “storm”."
        " The nearest that it knows:housepanda"
    )
    zoo.announced("Painted in .*Unknown to this model: lighthouse, pandas, storm")
    zoo.button("house").click()
    zoo.button("panda").click()
    expect(zoo.prompt).to_have_value(
        "a house, <lora:pixel:0.8> (panda:1.3) in the snow and a storm"
    )
    expect(zoo.prompt).to_be_focused()
    zoo.page.reload()
    expect(unknown(zoo)).to_contain_text("lighthouse")


def test_a_replacement_gets_the_article_that_fits(zoo):
    zoo.ask("an applle and a hose").page.keyboard.press("Tab")
    expect(unknown(zoo)).to_be_visible()
    zoo.prompt.fill("something else")
    zoo.button("apple").click()
    expect(zoo.prompt).to_have_value("an apple and a hose")
    zoo.button("house").click()
    expect(zoo.prompt).to_have_value("an apple and a house")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a photo of a red panda in the snow", []),
        ("a HOT DOG, beautiful", []),
        ("a big cat riding a wolf under the moon", []),
        ("big hot", ["big", "hot"]),
        ("a dog", ["dog"]),
        ("my panda is at the house", []),
        ("tigers", ["tigers"]),
        ("Ein Löwe 7 \U0001f981", ["ein", "löwe", "7"]),
        ("constructor toString __proto__", ["constructor", "tostring", "proto"]),
    ],
)
def test_known_and_unknown_words(zoo_page, prompt, words):
    look = "prompt => unknownWords(prompt, lexiconOf(modelNamed('sd')))"

    assert zoo_page.evaluate(look, prompt) == words


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("pandas", "panda"),
        ("wolves", "wolf"),
        ("lighthouse", "house"),
        ("hosue", "house"),
        ("keper", "keeper"),
        ("dog", "hot dog"),
        ("dogs", "hot dog"),
        ("knight", None),
        ("storm", None),
        ("x", None),
        ("constructor", None),
    ],
)
def test_the_nearest_name(zoo_page, word, name):
    look = "word => nearestName(word, lexiconOf(modelNamed('sd')))"

    assert zoo_page.evaluate(look, word) == name


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_is_accessible_in_every_state(browser, zoo_url, colours):
    session = BrowserSession(browser, color_scheme=colours, reduced_motion="reduce")
    studio = Studio(session.page, zoo_url).open()
    studio.page.get_by_text("What it can draw").click()
    studio.paint("a panda").ask("a lighthouse")
    expect(unknown(studio)).to_be_visible()
    studio.prompt.fill("a pan")
    studio.prompt.press("ArrowDown")
    expect(suggestions(studio)).to_have_count(1)

    found = Axe().run(studio.page).response["violations"]
    assert [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found] == []
    assert session.errors == []
    session.context.close()


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, zoo_url):
    session = BrowserSession(browser, viewport={"width": 320, "height": 640}, has_touch=True)
    studio = Studio(session.page, zoo_url).open()
    studio.page.get_by_text("What it can draw").click()
    studio.ask("a lighthouse in an extraordinarilylongwordthatnobodyknowsorwillreadtotheend")
    expect(unknown(studio)).to_be_visible()
    studio.prompt.fill("a pan")

    assert studio.page.evaluate("document.documentElement.scrollWidth") == 320
    session.context.close()
