"""Adapters in a prompt, as people write them for the web UI."""

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.access_settings import Protection
from chalicelib.batches.prompt_tags import apply_tags, read_tags
from chalicelib.generation import GenerationRequest, InvalidField, Name
from easel.lora.file import find_files
from tests.gateway.doubles import GuardedClient, error_of, refusal

FILES = st.text(
    st.characters(exclude_characters="/\\<>:=\0", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=60,
).filter(lambda name: name == name.strip() and not name.startswith("."))


@pytest.mark.parametrize(
    ("prompt", "rest", "lora"),
    [
        ("a cat", "a cat", ""),
        ("a <lora:ink>", "a ", "ink:1"),
        ("<lora:ink:0.8>a cat<lora:pixel:-5>", "a cat", "ink:0.8,pixel:-5"),
        ("<lyco:ink:0.8>", "", "ink:0.8"),
        ("<LoRA: ink : 1.5 >", "", "ink:1.5"),
        ("<lora:ink.v2:1>", "", "ink.v2:1"),
        ("<lora:ink.safetensors:1>", "", "ink:1"),
        ("<lora:styles/ink:1>", "", "ink:1"),
        ("<lora:styles\\ink.SafeTensors:1>", "", "ink:1"),
        ("<lora:ink:0.5:0.5>", "", "ink:0.5"),
        ("<lora:ink:te=0.5>", "", "ink:0.5"),
        ("<lora:ink:te=0.5:unet=0.5>", "", "ink:0.5"),
        ("<lora:Ink & wash v1.0:12>", "", f"{Name.of('Ink & wash v1.0')}:12"),
        ("<lora:a,b>", "", f"{Name.of('a,b')}:1"),
        ("1 < 2 > 0, a<b, <3, <i>x</i>", "1 < 2 > 0, a<b, <3, <i>x</i>", ""),
    ],
)
def test_each_tag_is_read_by_itself(prompt, rest, lora):
    assert read_tags(prompt) == (rest, lora)
    if lora:
        GenerationRequest(prompt="a", lora=lora)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("<hypernet:anime:1>", "prompt: <hypernet:...> in it is not supported"),
        ("a <lora:ink> <embedding:bad>", "<embedding:...> in it is not supported"),
        ("<lora::1>", "<lora::1> in it names no adapter"),
        ("<lora:ink:>", "<lora:ink:> in it must have a number from -20 to 20"),
        ("<lora:ink:much>", "must have a number"),
        ("<lora:ink:nan>", "must have a number"),
        ("<lora:ink:1,pixel:2>", "must have a number"),
        ("<lora:ink:21>", "must have a number from -20 to 20"),
        ("<lora:ink:1:0>", "<lora:ink:1:0> in it has two weights"),
        ("<lora:ink:unet=0.5>", "has two weights"),
        ("<lora:ink:1:lbw=OUTALL>", "has more than a name and a weight"),
        ("<lora:ink:1:1:1>", "has more than a name and a weight"),
        ("<lora:ink> <lyco:ink:0.5>", "<lyco:ink:0.5> in it names an adapter for the second time"),
        ("<lora:a><lora:b><lora:c><lora:d><lora:e>", "has more than 4 <lora:...> in it"),
        ("a cat <lora:ink:0.5", "has no end"),
        ("a cat <lora:>", "has no end, no name"),
        (f"<lora:{'x' * 299}>", "names no adapter"),
        (f"<lora:{'x' * 999}>", "more than 300 characters"),
    ],
)
def test_a_tag_that_cannot_be_read_is_refused_by_its_own_words(prompt, reason):
    with pytest.raises(InvalidField) as error:
        read_tags(prompt)
    assert error.value.field == "prompt"
    assert str(error.value).startswith("prompt: ")
    assert reason in str(error.value)
    assert len(str(error.value)) < 200


@given(stem=FILES, weight=st.floats(-20, 20).map(lambda weight: f"{weight:.3f}"))
def test_any_files_name_finds_its_adapter(tmp_path_factory, stem, weight):
    folder = tmp_path_factory.mktemp("loras")
    try:
        (folder / f"{stem}.safetensors").touch()
    except OSError:  # longer than the file system allows
        return
    ((name, _),) = find_files([folder])
    rest, lora = read_tags(f"a cat <lora:{stem}:{weight}>, night")
    assert rest == "a cat , night"
    assert lora == f"{name}:{weight}"
    try:
        GenerationRequest(prompt=rest, lora=lora)
    except InvalidField as error:
        raise AssertionError(stem) from error


@given(st.text(st.sampled_from("<>:=,/ laoryc1.-é"), max_size=400))
def test_no_prompt_ends_in_another_error(prompt):
    try:
        _, lora = read_tags(prompt)
    except InvalidField:
        return
    assert GenerationRequest(prompt="a", lora=lora).lora.count(":") == lora.count(":")


@pytest.mark.parametrize("part", ["<lora:", "<lora:a>", "<a", "<a:b", "<" * 9, "<lora:a:1=" + "="])
def test_a_long_prompt_takes_little_time(part):
    started = time.process_time()
    for prompt in (part * 20_000, part * 10_000 + ">"):
        with pytest.raises(InvalidField):
            read_tags(prompt + "<lora:")
    assert time.process_time() - started < 1


@pytest.fixture(params=["path", "form", "job", "openai", "openai url"])
def send(request, monkeypatch):
    """Send a prompt by one of the ways of the APIs that are not the web UI's."""
    client = GuardedClient(monkeypatch, Protection())

    def post(path, **fields):
        return client.post(path, {"seed": 7, **fields})

    def by_url(prompt):
        response = post("/v1/images/generations", prompt=prompt, response_format="url")
        if response.status_code != 200:
            return response
        return client.get(json.loads(response.body)["data"][0]["url"].partition("localhost")[2])

    def by_form(prompt):
        response = client.get(f"/inference?prompt={quote(prompt, safe='')}&seed=7")
        location = response.headers.get("Location")
        return client.get(location) if location else response

    def way(prompt):
        ways = {
            "path": lambda: client.get(f"/inference/{quote(prompt, safe='')}?seed=7"),
            "form": lambda: by_form(prompt),
            "job": lambda: post("/jobs", prompt=prompt, model="slow"),
            "openai": lambda: post("/v1/images/generations", prompt=prompt),
            "openai url": lambda: by_url(prompt),
        }
        response = ways[request.param]()
        if response.status_code not in {200, 202}:
            return response.status_code, error_of(response)
        if request.param == "job":
            return response.status_code, json.loads(response.body)["request"]
        return response.status_code, json.loads(client.runtime.asked[-1]["Body"])

    return way


def test_tags_are_read_by_every_api(send):
    status, asked = send("a cat <lora:pixel:0.5>, sitting <lyco:my style:-2>")

    assert status in {200, 202}
    assert (asked["prompt"], asked["seed"]) == ("a cat , sitting", 7)
    assert asked["lora"] == f"{Name.of('my style')}:-2,pixel:0.5"


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat <lora:pixel:much>",
        "a cat <lora:pixel:0.5",
        "a cat <lora::1>",
        "a cat <hypernet:x:1>",
        "<lora:pixel:1>",
        "a cat <lora:pixel:1> <lora:pixel:2>",
    ],
)
def test_a_tag_that_cannot_be_read_is_refused_by_every_api(send, prompt):
    status, error = send(prompt)

    assert status == 400
    assert error.get("field", error.get("param")) == "prompt"


@pytest.mark.parametrize("prompt", ["a <3 b", "<b:x> a", "1 < 2: 3 > 2", "a <script:y> cat"])
def test_what_is_no_tag_of_adapters_stays_text(send, prompt):
    status, asked = send(prompt)

    assert status in {200, 202}
    assert asked["prompt"] == prompt
    assert "lora" not in asked or asked["lora"] == ""


def test_tags_are_added_to_the_field():
    request = GenerationRequest(prompt="a cat <lora:b:2>", lora="a:1")

    assert apply_tags(request) == GenerationRequest(prompt="a cat", lora="a:1,b:2")
    with pytest.raises(InvalidField, match="^prompt: its tags and lora must not have a name tw"):
        apply_tags(GenerationRequest(prompt="a cat <lora:a:2>", lora="a:1"))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=80))
def test_a_prompt_without_tags_is_left_as_it_is(text):
    try:
        request = GenerationRequest(prompt=text)
    except InvalidField:
        return
    assert "<" in text or apply_tags(request) is request


@pytest.mark.parametrize("path", ["/inference/{}?seed=7", "/v1/images/generations"])
@pytest.mark.parametrize("lora", ["", "pixel:1"])
def test_an_adapter_that_the_model_refuses_is_a_fault_of_the_field_that_named_it(
    monkeypatch, path, lora
):
    client = GuardedClient(monkeypatch, Protection())
    said = {"code": "invalid_request", "message": "lora: unknown adapter ink", "field": "lora"}
    client.runtime.outcome = refusal(
        "ModelError", OriginalStatusCode=400, OriginalMessage=json.dumps({"error": said})
    )

    prompt = "a cat <lora:ink>"
    if "{}" in path:
        extra = f"&lora={lora}" if lora else ""
        response = client.get(path.format(quote(prompt, safe="")) + extra)
    else:
        response = client.post(path, {"prompt": prompt, **({"lora": lora} if lora else {})})

    error = error_of(response)
    field = "lora" if lora else "prompt"
    assert response.status_code == 400
    assert (error.get("field") or error["param"]) == field
    assert error["message"] == f"{field}: unknown adapter ink"
