"""The page at `/api/teach`: from pictures to an adapter, and what can go wrong on the way."""

import re
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import expect

from tests.end_to_end.account import BUCKET
from tests.end_to_end.studio import error
from tests.end_to_end.teaching import JOB, Teaching, picture, text

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def teaching(page, training_local):
    return Teaching(page, training_local)


def test_pictures_become_an_adapter_that_can_be_used_and_deleted(teaching, training_local):
    page = teaching.page
    teaching.page.goto(teaching.url)
    page.get_by_role("link", name="Teach it").click()
    expect(page.locator("#ask")).to_be_visible()
    teaching.choose(picture(f"{NASTY}.png"), picture("b.jpg", kind="JPEG"), text("b.txt", NASTY))
    expect(page.get_by_label("Caption of b.jpg")).to_have_value(NASTY)
    page.get_by_label(f"Caption of {NASTY}.png").fill("a red zibbly")
    teaching.fill("fox").option("What it is (optional)").fill("a star")
    expect(page.locator("#price")).to_contain_text("About ")
    expect(page.locator("#price-of")).to_contain_text("400 steps")

    teaching.start.click()
    expect(teaching.state).to_be_visible()
    page.reload()

    expect(teaching.state).to_have_text("It has learned it.")
    expect(page.locator("#sample")).to_be_visible()
    expect(page.locator("#samples > li")).to_have_count(2)
    expect(page.locator("#curve .mean")).to_be_visible()
    expect(page.locator("#jobs [aria-current]")).to_contain_text("It has learned it")
    identifier = urlsplit(page.url).fragment
    assert requests.get(f"{training_local}/train/{identifier}", timeout=30).json()["pictures"] == 2

    page.get_by_role("link", name="Use it").click()
    expect(teaching.prompt).to_have_value("zibbly, a star")
    expect(teaching.option("LoRA")).to_have_value("fox")
    page.go_back()
    teaching.button("Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(teaching.state).to_have_text("It was deleted.")
    expect(page.get_by_role("link", name="Use it")).to_be_hidden()


def test_a_job_is_cancelled_after_a_question_and_can_be_resumed(teaching):
    teaching.open().choose(picture("a.png")).fill("slow")
    teaching.start.click()
    expect(teaching.state).to_have_text("It is learning.")
    teaching.button("Cancel").click()
    teaching.button("Let it learn").click()
    expect(teaching.state).to_have_text("It is learning.")
    teaching.button("Cancel").click()
    teaching.button("Cancel the training").click()

    expect(teaching.state).to_have_text("Cancelled.")
    expect(teaching.button("Resume")).to_be_visible()
    expect(teaching.button("Cancel")).to_be_hidden()


def test_a_failed_job_says_why_as_text(teaching):
    reason = f"{NASTY} cannot be decoded."
    teaching.show(state="failed", name=NASTY[:20], error=reason, seconds_left=None)

    expect(teaching.state).to_have_text("It did not learn it.")
    expect(teaching.wrong("job")).to_have_text(reason)


def test_files_that_cannot_be_used_are_named_and_large_ones_made_smaller(teaching, training_local):
    options = requests.get(f"{training_local}/options", timeout=30).json()
    options["training"]["pictures"].update(most=2, most_pixels=4_000)
    teaching.answer("options", body=options)
    sent = []
    teaching.page.on("request", lambda request: sent.append(request))
    teaching.open().choose(
        {"name": "a.heic", "mimeType": "image/heic", "buffer": b"heic"},
        {"name": "b.pdf", "mimeType": "application/pdf", "buffer": b"pdf"},
        {"name": "c.png", "mimeType": "image/png", "buffer": b"no picture"},
        picture("d.png", size=(64, 64)),
        picture("e.png", size=(50, 50)),
        picture("f.png"),
    )

    expect(teaching.wrong("dataset")).to_have_text(
        re.compile(
            r"a\.heic: HEIC.*b\.pdf: is no PNG.*c\.png: cannot.*f\.png: .*one too", re.DOTALL
        )
    )
    teaching.fill("smaller")
    teaching.answer("train", 400, error("invalid_request", "name: is wrong", field="name"))
    teaching.page.get_by_role("button", name="Remove e.png").click()
    expect(teaching.page.locator("#pictures > li")).to_have_count(1)
    # A smaller one is a JPEG picture.
    assert teaching.page.evaluate("pictures.map(({ blob }) => blob.type)") == ["image/jpeg"]
    expect(teaching.wrong("name")).to_have_text("name: is wrong")
    assert not any(request.url.endswith("/datasets") for request in sent)


def test_what_is_wrong_is_next_to_its_field(teaching):
    teaching.open().start.click()
    expect(teaching.wrong("dataset")).to_have_text("Choose pictures first.")
    teaching.choose(picture("a.png")).start.click()
    expect(teaching.wrong("trigger")).to_be_visible()
    expect(teaching.option("Trigger")).to_be_focused()
    teaching.fill("no name!").start.click()
    expect(teaching.wrong("name")).to_contain_text("A name has letters")

    teaching.fill("taken")
    running = "Job abcdefghijkl of this key is training; one can run at a time."
    teaching.answer(
        "train",
        409,
        error("training_running", running),
        Location=f"{urlsplit(teaching.url).path}train/abcdefghijkl",
    )
    teaching.start.click()
    expect(teaching.wrong("start")).to_have_text(running)
    link = teaching.page.get_by_role("link", name="See that one")
    assert link.get_attribute("href") == "teach#abcdefghijkl"


def test_a_picture_that_the_bucket_refuses_ends_the_upload(teaching):
    teaching.open().choose(picture("a.png")).fill("refused")
    headers = {"Access-Control-Allow-Origin": "*"}
    teaching.page.route(
        re.compile(rf"/{BUCKET}/?$"),
        lambda route: route.fulfill(status=403, body="<Error/>", headers=headers),
    )
    teaching.start.click()

    expect(teaching.wrong("start")).to_contain_text("could not be uploaded")
    expect(teaching.start).to_be_enabled()
    # A price that was asked for before the start can come after it.
    teaching.page.evaluate("askPrice(new AbortController().signal)")
    expect(teaching.wrong("start")).to_contain_text("could not be uploaded")


def test_nothing_is_asked_in_a_tab_that_nobody_sees(teaching):
    page, asked = teaching.page, []
    page.clock.install()
    page.on("request", lambda request: request.url.endswith(JOB["id"]) and asked.append(request))
    teaching.show()
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, writable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    before = len(asked)
    page.clock.run_for(120_000)
    assert len(asked) == before

    with page.expect_request(re.compile(JOB["id"])):
        page.evaluate("document.hidden = false")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.clock.run_for(1_000)


def test_the_home_page_leads_there_only_where_the_caller_can_train(studio, training_local):
    studio.open()
    link = studio.page.get_by_role("link", name="Teach it")
    expect(link).to_be_hidden()

    offered = requests.get(f"{training_local}/options", timeout=30).json()["training"]
    studio.offer(studio.url.rstrip("/"), training=offered, access="key").open()
    expect(link).to_be_hidden()
    studio.page.evaluate("localStorage.setItem('easel-signed-in', 'yes')")
    studio.open()
    expect(link).to_be_visible()
    studio.page.evaluate("localStorage.clear()")
