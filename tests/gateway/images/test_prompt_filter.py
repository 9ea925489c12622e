"""The prompt filter: what it must let pass, and what it must not."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.images.prompt_filter import PromptFilter, prompt_filter, readings_of
from tests.gateway.doubles import GuardedClient, error_of, guarded

# Traps for most part: towns, birds, ships, other alphabets, spelled-out letters, sizes and prices.
INNOCENT = Path(__file__).with_name("innocent_prompts.txt").read_text("utf-8").splitlines()
SENTENCES = Path(__file__).parents[3] / "gateway" / "chalicelib" / "sentences.json"

WORDS = {
    "nude": "sexual",
    "naked": "sexual",
    "porn": "sexual",
    "sex": "sexual",
    "penis": "sexual",
    "vagina": "sexual",
    "hentai": "sexual",
    "boobs": "sexual",
    "masturbating": "sexual",
    "blowjob": "sexual",
    "suicide": "gore",
    "decapitated": "gore",
    "beheading": "gore",
    "lolicon": "minors",
}
LEET = str.maketrans("aeiost", "431057")
SIGNS = str.maketrans("aeis", "@€!$")
CYRILLIC = str.maketrans("aecopxyikmhtb", "аесорхуікмнтв")
GREEK = str.maketrans("aeiokpuvxnt", "αειοκρυνχητ")
SMALL_CAPITALS = str.maketrans("abcdegijklmnoptuvwz", "ᴀʙᴄᴅᴇɢɪᴊᴋʟᴍɴᴏᴘᴛᴜᴠᴡᴢ")


def shifted(start):
    """Return a disguise that moves a word into another block of Latin letters."""
    return lambda word: "".join(chr(start + ord(each) - ord("a")) for each in word)


REGIONAL = {ord("a") + n: 0x1F1E6 + n for n in range(26)}
COPTIC = str.maketrans("oecnitykmxp", "ⲟⲉⲥⲛⲓⲧⲩⲕⲙⲭⲣ")
STRUCK = str.maketrans("abceilrtuz", "ⱥƀȼɇɨƚɍŧʉƶ")

DISGUISES = {
    "flags": lambda w: w.translate(REGIONAL),
    "negative circles": shifted(0x1F150),
    "negative squares": shifted(0x1F170),
    "Coptic": lambda w: w.translate(COPTIC),
    "struck letters": lambda w: w.translate(STRUCK),
    "as it is": str,
    "upper case": str.upper,
    "alternating": lambda w: "".join(c.upper() if n % 2 else c for n, c in enumerate(w)),
    "exclaimed": lambda w: f"{w}!!!",
    "quoted": lambda w: f'"{w}"',
    "hashtag": lambda w: f"#{w}",
    "spaced": " ".join,
    "widely spaced": "   ".join,
    "dotted": ".".join,
    "dashed": "-".join,
    "underlined": "_".join,
    "starred": "*".join,
    "spaced by no-break spaces": "\u00a0".join,
    "spaced by dots and spaces": ". ".join,
    "spaced by commas": ", ".join,
    "slashed": "/".join,
    "with hearts": "\u2665".join,
    "stretched": lambda w: "".join(c * 3 for c in w),
    "stretched far": lambda w: w[0] + w[1] * 40 + w[2:],
    "digits": lambda w: w.translate(LEET),
    "signs": lambda w: w.translate(SIGNS),
    "digits, spaced": lambda w: " ".join(w.translate(LEET)),
    "digits, dotted": lambda w: ".".join(w.translate(LEET)),
    "zero width": "\u200b".join,
    "joiners": "\u2060".join,
    "soft hyphens": "\u00ad".join,
    "turned round inside": lambda w: f"\u202d{w}\u202c",
    "accents": lambda w: "".join(c + "\u0301" for c in w),
    "struck through": lambda w: "".join(c + "\u0336" for c in w),
    "heaped marks": lambda w: "".join(c + "\u0300\u0321\u0489" for c in w),
    "full width": shifted(0xFF41),
    "bold": shifted(0x1D41A),
    "double struck": shifted(0x1D552),
    "circled": shifted(0x24D0),
    "small capitals": lambda w: w.translate(SMALL_CAPITALS),
    "Cyrillic": lambda w: w.translate(CYRILLIC),
    "Greek": lambda w: w.translate(GREEK),
    "split by a dash": lambda w: f"{w[:2]}-{w[2:]}",
    "split by a dot": lambda w: f"{w[:2]}.{w[2:]}",
}
# By hand, as people really type them.
HANDWRITTEN = {
    "p0rn": "sexual",
    "pr0n": "sexual",
    "p*rn": "sexual",
    "n*de woman": "sexual",
    "s*x on the beach party": "sexual",
    "f#ck": "sexual",
    "5ex": "sexual",
    "53x": "sexual",
    "$3x": "sexual",
    "s.3.x": "sexual",
    "a n u d e woman": "sexual",
    "a  N  U  D  E  w o m a n": "sexual",
    "n-u-d-e": "sexual",
    "|\u200bnud3|": "sexual",
    "pornstar": "sexual",
    "softporn style": "sexual",
    "#nsfwart": "sexual",
    "NSFW": "sexual",
    "bl0wj0b": "sexual",
    "boooobs": "sexual",
    "b00bs": "sexual",
    "t1tties": "sexual",
    "pu$$y": "sexual",
    "pen1s": "sexual",
    "p3n!s": "sexual",
    "vag1na": "sexual",
    "c.u.m.m.i.n.g": "sexual",
    "fuuuuck": "sexual",
    "motherfucker": "sexual",
    "Nude descending a staircase, then a nude woman": "sexual",
    "pussy willow and pussy": "sexual",
    "the sex pistols having sex": "sexual",
    "s u 1 c 1 d e": "gore",
    "sui-cide": "gore",
    "self-harm": "gore",
    "self  harm": "gore",
    "k1ll y0urself": "gore",
    "slit wrists": "gore",
    "severed heads on pikes": "gore",
    "d3capitated body": "gore",
    "g.o.r.e": "gore",
    "gore-tex jacket full of gore": "gore",
    "l0li": "minors",
    "l\u043eli\u0441on": "minors",
    "a naked child": "minors",
    "ch1ld, n4ked": "minors",
    "sexy teen": "minors",
    "t e e n in l i n g e r i e": "minors",
    "schoolgirl, seductive, lingerie": "minors",
    "little girls in a bikini": "minors",
    "13 year old girl, topless": "minors",
    "nude k1ds": "minors",
    "p3dophile": "minors",
}
EVASIONS = [
    (disguise(word), category)
    for word, category in WORDS.items()
    for disguise in DISGUISES.values()
]


@pytest.fixture(scope="module")
def words():
    return PromptFilter()


def test_500_innocent_prompts_pass(words):
    stopped = {prompt: words.check(prompt) for prompt in INNOCENT if words.check(prompt)}

    assert len(set(INNOCENT)) == 500
    assert stopped == {}


def test_no_random_sentence_is_stopped(words):
    sentences = json.loads(SENTENCES.read_text("utf-8"))

    assert [each for each in sentences if words.check(each)] == []


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_word_is_found(words, name):
    for word, category in WORDS.items():
        for prompt in ("{}", "a photo of {} in a garden, 35 mm"):
            match = words.check(prompt.format(DISGUISES[name](word)))
            assert match is not None, (name, word, prompt)
            assert match.category == category


def test_there_are_more_than_150_evasions():
    assert len({prompt for prompt, _ in EVASIONS} | set(HANDWRITTEN)) > 500


@pytest.mark.parametrize("prompt", HANDWRITTEN)
def test_what_people_really_type_is_found(words, prompt):
    match = words.check(prompt)

    assert match is not None
    assert match.category == HANDWRITTEN[prompt]


def test_an_owner_adds_words_and_allows_others():
    own = prompt_filter(("Voldemort", "-sex and violence", "big brother"))

    assert own.check("v0ldemort in a hat").category == "house_rules"
    assert own.check("Big  Brother watches").category == "house_rules"
    assert own.check("a lecture on sex and violence") is None
    assert own.check("sex").category == "sexual"


@given(st.text(max_size=1_000))
def test_any_text_can_be_read(text):
    match = prompt_filter(()).check(text)

    assert match is None or match.category in {"minors", "sexual", "gore"}


PIECES = [
    "p",
    "po",
    "a ",
    "s.e",
    "*",
    "a*b b! ",
    "1 n ",
    "(nu)",
    "(a:1.2)",
    "<x>",
    "ﷺ",
    "㎯",
    "_",
    "é",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), min_size=1, max_size=40))
@example(["a*b b! "] + ["1 n "] * 250)
@example(["ﷺ"])
@example(["㎯ "])
@example(["<lora:x>", "(a*b:1.2) ", "1 n "])
def test_the_work_for_a_prompt_is_bounded_by_its_length(pieces):
    prompt = ("".join(pieces) * 1_000)[:1_000]
    readings, rows = readings_of(prompt)

    # Each letter is read at most so often, whatever the prompt is.
    assert sum(map(len, [*readings, *rows])) <= 75 * 1_000
    assert len(readings) + len(rows) <= 75


PARTED = ["(nu)(de) woman", "nu(de:1)", "[na][ked]", "(po)(rn)", "(beh)(eaded)", "((nu))((de))"]
PARTED += ["(n:1.2)(u:1.2)(d:1.2)(e:1.2)", "(n)(u)(d)(e)", "(nu:-1)(de:-1)", "nu<lora:x:1>de"]
PARTED += ["(nu:1.3)(de:0.7)", "(na)++(ked)++", "(nu)1.2(de)1.2", "{nu}{de}", "nu[:-0.5]de"]


@pytest.mark.parametrize("prompt", PARTED)
def test_a_word_that_is_parted_in_the_models_own_syntax_is_found(words, prompt):
    assert words.check(prompt) is not None


@given(st.sampled_from(list(WORDS)), st.data())
def test_a_word_is_found_wherever_weights_part_it(word, data):
    place = data.draw(st.integers(1, len(word) - 1))
    weight = data.draw(st.sampled_from(["", ":1.2", ":-1", ":.5"]))
    opens, closes = data.draw(st.sampled_from(["()", "[]"]))
    parts = (f"{opens}{part}{weight}{closes}" for part in (word[:place], word[place:]))

    assert prompt_filter(()).check("".join(parts)) is not None


@pytest.mark.parametrize("word", ["*", "!!!", "- ", "猫"])
def test_a_word_without_letters_refuses_nothing(word):
    assert prompt_filter((word,)).check("a lighthouse in a storm") is None


# --- In the gateway -------------------------------------------------------------------------------


def new_client(monkeypatch, mode, **more):
    return GuardedClient(monkeypatch, guarded(keys=(), filter_mode=mode, **more))


ASKED = [
    ("GET", "/inference/a%20nude?seed=1", None),
    ("HEAD", "/inference/a%20nude?seed=1", None),
    ("POST", "/jobs", {"prompt": "a nude", "model": "slow"}),
    ("POST", "/v1/images/generations", {"prompt": "a nude"}),
    ("POST", "/v1/images/generations", {"prompt": "a nude", "n": 2, "response_format": "url"}),
    ("POST", "/v1/images/generations", {"prompt": "a nude", "model": "slow"}),
    ("POST", "/sdapi/v1/txt2img", {"prompt": "a nude"}),
    ("POST", "/sdapi/v1/txt2img", {"prompt": "a nude", "batch_size": 2}),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_a_refused_prompt_is_a_400_that_names_the_reason_before_any_gpu_time(
    monkeypatch, method, path, body
):
    client = new_client(monkeypatch, "refuse")
    response = client.request(method, path, json.dumps(body).encode() if body else b"")

    assert response.status_code == 400
    assert (client.generated, client.queued) == (0, 0)
    if path.startswith("/sdapi"):
        described = json.loads(response.body)
        assert described["error"] == "moderation_blocked"
        assert "explicit sexual content" in described["detail"]
    elif method != "HEAD":
        error = error_of(response)
        assert error["code"] == "moderation_blocked"
        assert error.get("field", error.get("param")) == "prompt"
        assert "explicit sexual content" in error["message"]


def test_a_warning_generates_and_is_reported(monkeypatch):
    client = new_client(monkeypatch, "warn")
    warned = client.get("/inference/a%20nude?seed=1")

    assert (warned.status_code, warned.headers["X-Prompt-Warning"]) == (200, "sexual")
    assert "X-Prompt-Warning" not in client.get("/inference/a%20cat?seed=1").headers
    assert client.generated == 2


def test_without_the_filter_nothing_is_checked(monkeypatch):
    response = new_client(monkeypatch, "off").get("/inference/a%20nude?seed=1")

    assert response.status_code == 200
    assert "X-Prompt-Warning" not in response.headers


def test_a_negative_prompt_is_not_filtered(monkeypatch):
    client = new_client(monkeypatch, "refuse")

    assert client.get("/inference/a%20cat?negative_prompt=nude,%20nsfw").status_code == 200


def test_no_name_in_the_bundled_models_vocabulary_is_stopped(words):
    weights = Path(__file__).parents[3] / "model_package" / "demo" / "weights"
    vocabulary = json.loads((weights / "easel.json").read_text("utf-8"))["vocabulary"]
    names = [name for entries in vocabulary.values() for entry in entries
             for name in ([entry] if isinstance(entry, str) else entry)]  # fmt: skip

    assert [each for each in names if words.check(each)] == []
