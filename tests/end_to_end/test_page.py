"""The page at `/api/`, in a real Chromium.

Its policy allows no eval, so nothing here waits by Playwright's `wait_for_function`.
"""

import io
import json
import re
import secrets
import subprocess
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from tests.end_to_end.conftest import ASYNC_ENDPOINT, ENDPOINT, Person

pytestmark = pytest.mark.browser
PAINTED = "image => image.decode().then(() => image.naturalWidth)"
BYTES = "staged.blob.arrayBuffer().then(buffer => Array.from(new Uint8Array(buffer)))"


class Studio:
    """What a person does with the page."""

    def __init__(self, page, url):
        self.page = page
        self.url = f"{url}/"
        self.prompt = page.get_by_role("textbox", name="Prompt", exact=True)
        self.picture = page.locator("#picture")
        self.cards = page.locator("#cards > li")
        self.busy = page.locator("#cards .busy")

    def open(self):
        self.page.goto(self.url)
        expect(self.page.locator("#options")).to_be_visible()
        return self

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def ask(self, prompt):
        self.prompt.fill(prompt)
        self.button("Paint").click()
        return self

    def paint(self, prompt):
        self.ask(prompt)
        expect(self.page.locator("#words")).to_have_text(prompt)
        expect(self.busy).to_have_count(0)
        expect(self.picture).to_be_visible()
        self.told(f"Painted in .* s: {re.escape(prompt)}")
        return self

    def told(self, words):
        """Wait for what a screen reader is told last."""
        expect(self.page.get_by_role("status")).to_have_text(re.compile(f"^{words}$"))

    def option(self, name):
        return self.page.get_by_label(name, exact=True)

    def unfold(self):
        self.page.get_by_text("Options").first.click()
        return self

    def answer(self, path, status=200, body="", **headers):
        """Let the gateway answer differently."""
        text = body if isinstance(body, str) else json.dumps(body)
        given = {"Content-Type": "application/json", **headers}
        self.page.route(
            f"{self.url}{path}",
            lambda route: route.fulfill(status=status, body=text, headers=given),
        )

    def offer(self, door, **changes):
        """Let /api/options tell something else: each change replaces a part of it."""
        told = requests.get(f"{door}/options", timeout=30).json()
        self.answer("options", body={**told, **changes})
        return self


@pytest.fixture
def studio(page, chalice_local):
    return Studio(page, chalice_local)


@pytest.fixture
def wish():
    return f"a cat with {secrets.token_hex(8)}"


def looked_for(answer):
    """Whether an answer is that of a job which the page keeps, and looks for."""
    return "/jobs/" in answer.url and answer.status == 202


def asked(emulator, endpoint=ENDPOINT):
    return [json.loads(each["body"]) for each in emulator.requests(endpoint)]


def error(code, message, **more):
    return {"error": {"code": code, "message": message, **more}}


# --- Painting -------------------------------------------------------------------------------------


def test_what_is_typed_is_painted_and_its_link_gives_the_same_picture(door, emulator, page):
    studio = Studio(page, door).open()
    studio.paint("a <b>red</b> apple & more")

    assert studio.picture.evaluate(PAINTED) == 64
    assert [each["prompt"] for each in asked(emulator)] == ["a <b>red</b> apple & more"]
    link = page.get_by_role("link", name="Open").get_attribute("href")
    seen = bytes(studio.page.evaluate(BYTES))
    assert requests.get(link, timeout=30).content == seen


def test_the_picture_is_told_with_its_prompt_seed_model_size_and_time(studio, emulator):
    studio.open().paint("a red apple")

    seed = asked(emulator)[0]["seed"]
    expect(studio.page.locator("#words")).to_have_text("a red apple")
    facts = studio.page.locator("#facts").inner_text()
    assert facts.startswith(f"seed {seed} · sd · 64 \u00d7 64 · painted in ")
    assert studio.picture.get_attribute("alt") == "a red apple"


def test_a_hostile_prompt_is_only_words(studio, emulator):
    hostile = "<img src=x onerror=alert(1)>\"'${alert(1)}"
    studio.open().paint(hostile)
    studio.page.reload()

    expect(studio.page.locator("#words")).to_have_text(hostile)
    assert asked(emulator)[0]["prompt"] == hostile
    assert studio.page.locator("[src=x]").count() == 0


def test_several_pictures_are_under_way_at_once(studio, emulator):
    studio.open()
    with emulator.fault(ENDPOINT, "slow", seconds=2, times=1):
        studio.ask("a slow cat")
        expect(studio.busy).to_have_count(1)
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
    with emulator.fault(ENDPOINT, "slow", seconds=3, times=1):
        studio.ask("a red apple")
        studio.button("Cancel").click()
        expect(studio.page.get_by_text("Cancelled. The model may finish it")).to_be_visible()
        expect(studio.busy).to_have_count(0)
    studio.button("Try again").click()
    expect(studio.picture).to_be_visible()

    first, second = asked(emulator)
    assert first == second


def test_one_of_several_is_cancelled_from_its_card(studio, emulator):
    studio.open()
    with emulator.fault(ENDPOINT, "slow", seconds=3):
        studio.ask("one").ask("two")
        studio.button("Cancel one").click()
        expect(studio.page.get_by_role("button", name="one, cancelled")).to_be_visible()
        expect(studio.page.get_by_role("button", name="two, being painted")).to_be_visible()
        studio.button("Cancel two").click()


# --- The time it takes ----------------------------------------------------------------------------


def test_the_time_spent_is_shown_against_what_the_model_usually_takes(
    studio, emulator, chalice_local
):
    models = [{"name": "sd", "asynchronous": False, "seconds": 9.5}]
    studio.offer(chalice_local, models=models).open()
    with emulator.fault(ENDPOINT, "slow", seconds=3):
        studio.ask("a red apple")
        expect(studio.page.get_by_text("of about 9.5 s")).to_be_visible()
        progress = studio.page.get_by_role("progressbar", name="Painting")
        expect(progress).not_to_have_attribute("value", "0")
        assert 0 < float(progress.get_attribute("value") or 0) < 1
        studio.button("Cancel").click()


def test_this_browsers_own_pictures_tell_better_what_to_expect(studio, emulator, chalice_local):
    models = [{"name": "sd", "seconds": 9.5}, {"name": "gone", "seconds": 4}]
    studio.offer(chalice_local, models=models).open()
    expect(studio.option("Model").locator("option")).to_have_text(
        ["sd (about 9.5 s)", "gone (about 4.0 s)"]
    )
    studio.paint("a red apple")

    expect(studio.option("Model").locator("option").first).not_to_have_text("sd (about 9.5 s)")


# --- Asynchronous models --------------------------------------------------------------------------


@pytest.fixture(params=["told", "not told"])
def queued(request, studio, chalice_local):
    """The page with `sdxl` chosen, whether or not it knows that model to have a queue."""
    if request.param == "not told":
        studio.offer(chalice_local, models=[{"name": "sd"}, {"name": "sdxl"}])
    studio.open().option("Model").select_option("sdxl")
    return studio


def test_an_asynchronous_picture_is_waited_for_while_others_are_painted(queued, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=6, times=1):
        queued.ask(wish)
        queued.option("Model").select_option("sd")
        queued.ask("a quick cat")
        expect(queued.picture).to_be_visible()
        expect(queued.busy).to_have_count(1)
        expect(queued.busy).to_have_count(0, timeout=30_000)

    queued.page.get_by_role("button", name=f"{wish}, painted").click()
    assert queued.picture.evaluate(PAINTED) == 64
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_reload_in_the_middle_goes_on_waiting(queued, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=8, times=1):
        with queued.page.expect_response(looked_for):
            queued.ask(wish)
        expect(queued.page.get_by_text("waiting in the queue")).to_be_visible()
        queued.page.reload()
        expect(queued.busy).to_have_count(1)
        expect(queued.picture).to_be_visible(timeout=30_000)

    expect(queued.page.locator("#words")).to_have_text(wish)
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_waiting_survives_a_gateway_in_trouble(queued, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=6, times=1):
        with queued.page.expect_response(looked_for):
            queued.ask(wish)
        busy = error("store_unavailable", "S3 did not answer.", retry_after=1)
        queued.answer("jobs/*", 503, busy, **{"Retry-After": "1"})
        with queued.page.expect_response(lambda answer: answer.status == 503):
            pass
        queued.page.unroute(f"{queued.url}jobs/*")
        expect(queued.picture).to_be_visible(timeout=30_000)


def test_an_asynchronous_picture_that_fails_is_told_and_tried_again(queued, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "failing", times=1):
        queued.ask(wish)
        retry = queued.page.get_by_role("button", name="Try again")
        expect(retry).to_be_enabled(timeout=30_000)
    retry.click()

    expect(queued.picture).to_be_visible(timeout=30_000)


def test_a_cancelled_asynchronous_picture_is_not_waited_for_after_a_reload(queued, emulator, wish):
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=6, times=1):
        with queued.page.expect_response(looked_for):
            queued.ask(wish)
        expect(queued.page.get_by_text("waiting in the queue")).to_be_visible()
        queued.button("Cancel").click()
        queued.told("Cancelled.")
        queued.page.reload()
        expect(queued.page.get_by_text("Your picture will stand here.")).to_be_visible()

    assert queued.cards.count() == 0


# --- The gallery ----------------------------------------------------------------------------------


def test_the_gallery_survives_a_reload(studio):
    studio.open().paint("a red apple").paint("a green apple")
    studio.page.reload()

    expect(studio.cards).to_have_count(2)
    expect(studio.page.locator("#words")).to_have_text("a green apple")
    assert studio.picture.evaluate(PAINTED) == 64
    studio.page.get_by_role("button", name="a red apple, painted").click()
    expect(studio.page.locator("#words")).to_have_text("a red apple")


def test_pictures_are_removed_one_by_one_or_all_at_once(studio):
    studio.open().paint("one").paint("two").paint("three")
    studio.button("Remove").click()
    studio.told("Removed.")
    studio.page.reload()
    expect(studio.cards).to_have_count(2)

    studio.button("Remove all").click()
    studio.button("Keep them").click()
    expect(studio.cards).to_have_count(2)
    studio.button("Remove all").click()
    studio.page.get_by_role("dialog").get_by_role("button", name="Remove all").click()
    studio.told("All pictures are removed.")
    studio.page.reload()
    expect(studio.page.get_by_text("Your picture will stand here.")).to_be_visible()
    expect(studio.cards).to_have_count(0)


def test_the_oldest_pictures_make_room(studio):
    old = """async () => {
        for (let n = 0; n < 205; n += 1) {
            const blob = await (await fetch("inference/old?seed=1")).blob();
            await gallery.keep({ id: `old-${n}`, request: { prompt: `old ${n}`, seed: n }, made: n,
                                 state: "done", seconds: 1, blob, width: 64, height: 64 });
        }
    }"""
    studio.open()
    studio.page.evaluate(old)
    studio.page.reload()
    studio.paint("a new one")
    studio.page.reload()

    expect(studio.cards).to_have_count(200)
    assert studio.page.get_by_role("button", name="a new one, painted").is_visible()
    assert studio.page.get_by_role("button", name="old 204, painted").count() == 1
    assert studio.page.get_by_role("button", name="old 5, painted").count() == 0


def test_a_full_disk_costs_the_oldest_picture_and_not_the_newest(studio):
    full = """
        const { put, delete: drop } = IDBObjectStore.prototype;
        IDBObjectStore.prototype.put = function (record) {
            if (window.full) throw new DOMException("full", "QuotaExceededError");
            return put.call(this, record);
        };
        IDBObjectStore.prototype.delete = function (id) {
            window.full = false;
            return drop.call(this, id);
        };"""
    studio.page.add_init_script(full)
    studio.open().paint("one").paint("two")
    studio.page.evaluate("window.full = true")
    studio.paint("three")
    studio.page.reload()

    expect(studio.cards).to_have_count(2)
    assert studio.page.get_by_role("button", name="three, painted").is_visible()
    assert studio.page.get_by_role("button", name="one, painted").count() == 0


def test_where_the_browser_keeps_nothing_the_page_says_so_and_paints(studio):
    refuse = "Object.defineProperty(window, 'indexedDB', { get() { throw new Error('no'); } })"
    studio.page.add_init_script(refuse)
    studio.open().paint("a red apple")

    expect(studio.page.get_by_text("This browser keeps nothing for this page")).to_be_visible()
    expect(studio.cards).to_have_count(1)


# --- What can be done with a picture --------------------------------------------------------------


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

    first, varied, again = asked(emulator)
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

    first, other, edited = asked(emulator)
    assert first == edited
    assert other["prompt"] == "something else"
    assert "steps" not in other


def test_the_picture_can_be_downloaded_under_a_telling_name(studio, emulator):
    studio.open().paint("Ein Café, in Zürich!")
    with studio.page.expect_download() as downloading:
        studio.page.get_by_role("link", name="Download").click()

    seed = asked(emulator)[0]["seed"]
    download = downloading.value
    assert download.suggested_filename == f"ein-café-in-zürich-{seed}.png"
    with Image.open(download.path()) as picture:
        assert picture.format == "PNG"


NASTY = 'it\'s "quoted" $(touch stolen) `touch stolen` \\ ; & | * ? # %'


@pytest.fixture
def clipboard(studio):
    studio.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return lambda: studio.page.evaluate("navigator.clipboard.readText()")


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
    assert asked(emulator) == []

    expect(studio.prompt).to_be_focused()
    studio.page.keyboard.press("Enter")
    expect(studio.picture).to_be_visible()
    assert asked(emulator)[0]["prompt"] == sentence


# --- The options ----------------------------------------------------------------------------------


def test_the_options_are_the_contracts_folded_away_at_first(studio, chalice_local):
    studio.open()
    fields = requests.get(f"{chalice_local}/options", timeout=30).json()["fields"]["properties"]
    controls = studio.page.locator("#fields [name]")
    names = controls.evaluate_all("controls => controls.map(each => each.name)")

    assert ["prompt", *names] == [name for name in fields if name != "model"]
    expect(studio.option("Steps")).to_be_hidden()
    studio.unfold()
    expect(studio.option("Steps")).to_be_visible()
    for name in ("seed", "width"):
        control = studio.page.locator(f"#option-{name}")
        assert control.get_attribute("min") == str(fields[name]["minimum"])
        assert control.get_attribute("max") == str(fields[name]["maximum"])


def test_a_field_that_the_page_has_never_heard_of_is_offered_too(studio, chalice_local, emulator):
    told = requests.get(f"{chalice_local}/options", timeout=30).json()["fields"]
    scheduler = {"type": "string", "enum": ["ddim", "euler"], "description": "Which one."}
    fields = {**told, "properties": {**told["properties"], "scheduler": scheduler}}
    studio.offer(chalice_local, fields=fields).open().unfold()
    studio.option("Scheduler").select_option("euler")
    with studio.page.expect_request("**/inference/**") as asking:
        studio.ask("a red apple")

    assert "scheduler=euler" in asking.value.url


def test_the_models_own_defaults_and_adapters_are_shown_where_they_are_known(studio, chalice_local):
    models = [
        {"name": "sd", "defaults": {"steps": 40, "width": 1024, "height": 512}, "loras": ["pixel"]},
        {"name": "gone"},
    ]
    studio.offer(chalice_local, models=models).open().unfold()

    assert studio.option("Steps").get_attribute("placeholder") == "40"
    expect(studio.page.get_by_text("This one has pixel.")).to_be_visible()
    studio.option("Model").select_option("gone")
    assert studio.option("Steps").get_attribute("placeholder") == "the model's own default"


def test_without_its_options_the_page_paints_and_says_what_is_missing(page, chalice_local):
    studio = Studio(page, chalice_local)
    studio.answer("options", 500, error("internal_error", "Something went wrong."))
    page.goto(studio.url)

    expect(page.get_by_text("The options are not there yet.")).to_be_visible()
    studio.paint("a red apple")


# --- Trouble --------------------------------------------------------------------------------------


def test_trouble_is_told_in_words_with_a_button_that_counts_down(studio, emulator):
    studio.open()
    said = error("endpoint_busy", "The model is still starting.", retry_after=2)
    studio.answer("inference/*", 503, said, **{"Retry-After": "2"})
    studio.ask("a red apple")

    expect(studio.page.locator("#wrong")).to_have_text("The model is still starting.")
    expect(studio.page.get_by_role("button", name="Try again in")).to_be_disabled()
    studio.told("No picture. The model is still starting.")
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
    assert asked(emulator) == []
    lora.fill("")
    studio.paint("a red apple")
    expect(studio.page.locator("[aria-invalid]")).to_have_count(0)


def test_a_number_out_of_bounds_never_leaves_the_page(studio, emulator):
    studio.open().unfold()
    studio.option("Steps").fill("101")
    studio.unfold().ask("a red apple")

    expect(studio.option("Steps")).to_be_visible()
    expect(studio.cards).to_have_count(0)
    assert asked(emulator) == []


def test_being_offline_is_told_as_such(studio):
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
    with studio.page.expect_request("**/session") as asking:
        studio.button("Sign out").click()
    assert asking.value.method == "DELETE"
    expect(studio.button("Sign in")).to_be_visible()

    studio.paint("a red apple").button("Copy as curl").click()
    expect(studio.button("Copied")).to_be_visible()
    assert '--header "Authorization: Bearer $EASEL_KEY"' in clipboard()


# --- Every person ---------------------------------------------------------------------------------


def test_the_page_works_with_the_keyboard_alone(door, emulator, page):
    studio = Studio(page, door).open()
    press = page.keyboard.press
    expect(studio.prompt).to_be_focused()
    page.keyboard.type("a red")
    press("Shift+Enter")
    page.keyboard.type("apple")
    press("Enter")
    expect(studio.picture).to_be_visible()
    assert asked(emulator)[0]["prompt"] == "a red apple"

    studio.button("Vary seed").focus()
    press("Enter")
    expect(studio.cards).to_have_count(2)
    expect(studio.busy).to_have_count(0)
    page.locator("#cards .open").first.focus()
    press("ArrowRight")
    press("Enter")
    expect(page.locator("[aria-current=true]")).to_be_focused()
    press("/")
    expect(studio.prompt).to_be_focused()


def test_escape_cancels_and_the_focus_is_not_lost(studio, emulator):
    studio.open()
    with emulator.fault(ENDPOINT, "slow", seconds=3, times=1):
        studio.ask("a red apple")
        studio.button("Cancel").focus()
        studio.page.keyboard.press("Escape")

    expect(studio.button("Try again")).to_be_focused()


def test_without_scripts_the_form_leads_to_the_picture(browser, door, emulator):
    person = Person(browser, java_script_enabled=False)
    page = person.page
    page.goto(f"{door}/")
    page.get_by_role("textbox", name="Prompt").fill("a red apple & more")
    page.get_by_role("button", name="Paint").click()

    assert unquote(urlsplit(page.url).path).endswith("/inference/a red apple & more")
    assert [each["prompt"] for each in asked(emulator)] == ["a red apple & more"]
    page.go_back()
    page.get_by_role("link", name="Surprise me").click()
    assert len(asked(emulator)) == 2
    person.context.close()


def test_a_phones_width_is_enough(browser, chalice_local):
    person = Person(browser, viewport={"width": 390, "height": 844}, has_touch=True)
    studio = Studio(person.page, chalice_local).open().unfold()
    studio.paint("x" * 300)
    expect(studio.button("Copy as curl")).to_be_visible()

    assert person.page.evaluate("document.documentElement.scrollWidth") == 390
    person.context.close()
    assert person.troubles == []


def test_nothing_moves_for_who_wants_no_motion(browser, chalice_local, emulator):
    person = Person(browser, reduced_motion="reduce")
    studio = Studio(person.page, chalice_local).open()
    with emulator.fault(ENDPOINT, "slow", seconds=3):
        studio.ask("a red apple")
        expect(studio.button("Cancel")).to_be_visible()
        moving = "document.getAnimations().length"
        assert person.page.evaluate(moving) == 0
        person.page.emulate_media(reduced_motion="no-preference")
        assert person.page.evaluate(moving) > 0
        studio.button("Cancel").click()
    person.context.close()


def test_a_slow_address_shows_how_long_it_takes_and_then_the_picture(door, emulator, page, wish):
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=6, times=1):
        response = page.goto(f"{door}/inference/{wish}?model=sdxl&seed=7")
        assert response.status == 202
        expect(page.get_by_role("heading", name=wish)).to_be_visible()
        expect(page.locator("#picture")).to_be_visible(timeout=30_000)

    expect(page.get_by_role("status")).to_have_text("Painted with seed 7.")
    assert page.locator("#picture").evaluate(PAINTED) == 64
