"""The page at `/api/`: the options."""

import pytest
import requests
from playwright.sync_api import expect

from tests.end_to_end.studio import Studio, error

pytestmark = pytest.mark.browser


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
    described = requests.get(f"{chalice_local}/options", timeout=30).json()["fields"]
    scheduler = {"type": "string", "enum": ["ddim", "euler"], "description": "Which one."}
    fields = {**described, "properties": {**described["properties"], "scheduler": scheduler}}
    studio.offer(chalice_local, fields=fields).open().unfold()
    studio.option("Scheduler").select_option("euler")
    with studio.page.expect_request("**/inference/**") as asking:
        studio.ask("a red apple")

    assert "scheduler=euler" in asking.value.url


def test_what_the_catalogue_says_of_the_chosen_model_is_shown(studio, chalice_local):
    facts = {
        "title": "FLUX.2 klein 4B",
        "licence": "Apache-2.0",
        "duties": "<b>None</b> for pictures.",
        "memory_gb": 18.1,
        "usd_per_1000": 1.44,
        "instance_types": ["ml.g6.2xlarge", "ml.g5.2xlarge"],
    }
    models = [{"name": "sd"}, {"name": "flux2-klein", "defaults": {"steps": 4}, "facts": facts}]
    studio.offer(chalice_local, models=models).open()
    shown = studio.page.locator("#model-facts")
    expect(shown).to_be_hidden()
    studio.page.get_by_label("Model", exact=True).select_option("flux2-klein")

    expect(shown).to_have_text(
        "FLUX.2 klein 4B · Apache-2.0 · 4 steps · 18.1 GB of GPU memory · about 1.44 USD per 1,000"
        " pictures · ml.g6.2xlarge or ml.g5.2xlarge. <b>None</b> for pictures."
    )


def test_the_models_own_defaults_and_adapters_are_shown_where_they_are_known(studio, chalice_local):
    models = [
        {
            "name": "sd",
            "defaults": {"steps": 40, "width": 1024, "height": 512},
            "loras": ["pixel"],
            "limits": {"steps": {"minimum": 4, "maximum": 50}},
        },
        {"name": "gone"},
    ]
    studio.offer(chalice_local, models=models).open().unfold()

    assert studio.option("Steps").get_attribute("placeholder") == "40"
    assert studio.option("Steps").get_attribute("max") == "50"
    expect(studio.page.get_by_text("This one has pixel.")).to_be_visible()
    studio.option("Model").select_option("gone")
    assert studio.option("Steps").get_attribute("placeholder") == "the model's own default"
    assert studio.option("Steps").get_attribute("max") == "100"


def test_without_its_options_the_page_paints_and_says_what_is_missing(page, chalice_local):
    studio = Studio(page, chalice_local)
    studio.answer("options", 500, error("internal_error", "Something went wrong."))
    page.goto(studio.url)

    expect(page.get_by_text("The options are not there yet.")).to_be_visible()
    studio.paint("a red apple")


def test_what_a_models_backend_cannot_do_is_not_offered(studio, chalice_local):
    missing = ["negative_prompt", "seed", "lora"]
    models = [
        {"name": "theirs", "backend": "another", "unsupported": missing, "formats": ["jpeg"]},
        {"name": "own"},
    ]
    studio.offer(chalice_local, models=models).open().unfold()
    for name in ("Seed", "Negative prompt", "LoRA"):
        expect(studio.option(name)).to_be_hidden()
    expect(studio.option("Steps")).to_be_visible()
    assert studio.option("Format").locator("option").all_inner_texts() == ["jpeg"]
    studio.option("Model").select_option("own")
    expect(studio.option("Seed")).to_be_visible()
    expect(studio.option("Format")).to_have_value("png")
    studio.option("Seed").fill("7")
    studio.option("Model").select_option("theirs")
    with studio.page.expect_request("**/inference/**") as asking:
        studio.ask("a red apple")

    assert "seed" not in asking.value.url
    assert "format" not in asking.value.url
    expect(studio.page.locator("#facts")).not_to_contain_text("seed")
    for button in ("Vary seed", "Copy link"):
        expect(studio.button(button)).to_be_hidden()
