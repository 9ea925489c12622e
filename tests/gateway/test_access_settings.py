"""What the environment says of keys, links, limits, words and other sites."""

import json

import pytest

from chalicelib.settings import BadSetting, Settings

MODELS = '{"sd": {"endpoint": "easel-sd"}}'
DIGEST = "0" * 64
SECRET = "s" * 32


def read(**variables):
    return Settings.from_environment({"EASEL_MODELS": MODELS, **variables}).protection


def test_what_is_not_said_is_an_open_door_without_limits():
    protection = read()

    assert (protection.keys, protection.secrets, protection.origins) == ((), (), ())
    assert (protection.per_minute, protection.filter_mode) == (None, "off")


def test_a_key_can_have_a_limit_and_an_expiry():
    entry = {"name": "ada", "sha256": DIGEST, "per_minute": 5, "expires": "1970-01-02T00:00:00Z"}
    (key,) = read(EASEL_API_KEYS=json.dumps([entry]), EASEL_SECRET=SECRET).keys

    assert (key.name, key.digest, key.per_minute, key.expires) == ("ada", bytes(32), 5, 86_400)


@pytest.mark.parametrize("text", ["1970-01-02", "1970-01-02T00:00", "1970-01-02T01:00+01:00"])
def test_an_end_is_in_utc_unless_it_says_otherwise(text):
    entry = {"name": "ada", "sha256": DIGEST, "expires": text}

    assert read(EASEL_API_KEYS=json.dumps([entry]), EASEL_SECRET=SECRET).keys[0].expires == 86_400


def test_keys_need_a_secret_for_sessions_and_links():
    entry = {"name": "ada", "sha256": DIGEST}

    with pytest.raises(BadSetting, match="EASEL_SECRET is not set"):
        read(EASEL_API_KEYS=json.dumps([entry]))


def test_a_second_secret_is_for_reading_what_the_one_before_signed():
    assert read(EASEL_SECRET=f"{SECRET}, {'t' * 40}").secrets == (SECRET.encode(), b"t" * 40)


def test_the_rest_is_read_as_it_is_written():
    protection = read(
        EASEL_LINKS="s3://bucket/links/",
        EASEL_PICTURES_PER_MINUTE="20",
        EASEL_PROMPT_FILTER="refuse",
        EASEL_PROMPT_FILTER_WORDS="foo bar, -baz",
        EASEL_CORS_ORIGINS="https://a.example, http://localhost:5173",
    )

    assert protection.accounts == ("bucket", "links/")
    assert (protection.per_minute, protection.filter_mode) == (20, "refuse")
    assert protection.filter_words == ("foo bar", "-baz")
    assert protection.origins == ("https://a.example", "http://localhost:5173")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EASEL_API_KEYS", "secret"),
        ("EASEL_API_KEYS", "{}"),
        ("EASEL_API_KEYS", "[7]"),
        ("EASEL_API_KEYS", '[{"name": "ada"}]'),
        ("EASEL_API_KEYS", '[{"name": "ada", "sha256": "easel-key"}]'),
        ("EASEL_API_KEYS", f'[{{"name": "a\\nb", "sha256": "{DIGEST}"}}]'),
        ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", "perminute": 5}}]'),
        ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", "per_minute": 0}}]'),
        ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", "per_minute": true}}]'),
        ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", "expires": "soon"}}]'),
        ("EASEL_API_KEYS", json.dumps([{"name": "a", "sha256": DIGEST}] * 2)),
        ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", "expires": ""}}]'),
        ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", "expires": 0}}]'),
        *(
            ("EASEL_API_KEYS", f'[{{"name": "a", "sha256": "{DIGEST}", {field}}}]')
            for field in (
                '"usd_per_month": 0',
                '"usd_per_month": "5"',
                '"usd_per_month": true',
                '"usd_per_month": NaN',
                '"usd_per_month": Infinity',
                '"usd_per_month": 1000001',
                '"owner": "yes"',
                '"owner": 1',
            )
        ),
        ("EASEL_API_KEYS", f'[{{"name": 7, "sha256": "{DIGEST}"}}]'),
        ("EASEL_API_KEYS", "[" * 100_000),
        ("EASEL_SECRET", "short"),
        ("EASEL_SECRET", f"{SECRET},short"),
        ("EASEL_LINKS", "bucket/links"),
        ("EASEL_PROMPT_FILTER_WORDS", "*"),
        ("EASEL_PROMPT_FILTER_WORDS", "foo, !!!"),
        ("EASEL_PROMPT_FILTER_WORDS", "-"),
        ("EASEL_PICTURES_PER_MINUTE", "0"),
        ("EASEL_PICTURES_PER_MINUTE", "many"),
        ("EASEL_PROMPT_FILTER", "on"),
        ("EASEL_PROMPT_FILTER_WORDS", "zorblax, -!!!"),
        ("EASEL_PROMPT_FILTER_WORDS", "\u65e5\u672c"),
        ("EASEL_CORS_ORIGINS", "https://a.example//"),
        ("EASEL_CORS_ORIGINS", "/"),
        ("EASEL_CORS_ORIGINS", "https://a.example/path"),
        ("EASEL_CORS_ORIGINS", "a.example"),
        ("EASEL_CORS_ORIGINS", "*, https://a.example"),
        ("EASEL_CORS_ORIGINS", "https://a.example\r\nX: y"),
    ],
)
def test_what_cannot_be_read_is_named(variable, value):
    with pytest.raises(BadSetting, match=f"^{variable} cannot be read"):
        read(**{"EASEL_SECRET": SECRET, variable: value})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[7]", "a key is an object"),
        ([{"name": "a", "sha256": DIGEST, "expires": "2027-13-01"}], "is no date"),
    ],
)
def test_the_reason_is_in_words_of_the_operator(value, reason):
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(BadSetting, match=reason):
        read(EASEL_SECRET=SECRET, EASEL_API_KEYS=text)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.Example", "https://a.example"),
        ("https://a.example:443/", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("*", "*"),
    ],
)
def test_an_origin_is_spelled_as_browsers_send_it(typed, sent):
    assert read(EASEL_CORS_ORIGINS=typed).origins == (sent,)


def test_no_message_repeats_a_secret():
    with pytest.raises(BadSetting) as described:
        read(EASEL_SECRET="hush-hush")

    assert "hush" not in str(described.value)
