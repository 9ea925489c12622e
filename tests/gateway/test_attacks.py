"""A corpus of attacks through every route and dialect: nothing comes back as anything but text.

Each attack is sent to each place by one of the three kinds of client, in turn; with --all by each.
"""

import html.parser
import io
import json
import re
from functools import cache
from urllib.parse import quote

import pytest

import app as gateway
from chalicelib import telemetry
from chalicelib.dialects import automatic1111_lists
from chalicelib.web import pages
from tests.conftest import ALL
from tests.gateway.doubles import (
    BROWSER,
    KEY,
    OTHER_KEY,
    SECRET,
    TRAINING,
    GuardedClient,
    guarded,
    key,
)

# After OWASP's XSS filter evasion cheat sheet, and what breaks headers, paths, templates and logs.
MARK = "xss7f3a"
HOSTILE = [
    f"<script>{MARK}()</script>",
    f'"><script>{MARK}()</script>',
    f"'><img src=x onerror={MARK}()>",
    f"</title><svg/onload={MARK}()>",
    f"</style><script>{MARK}()</script>",
    f"</script><script>{MARK}()</script>",
    f'" onmouseover="{MARK}()" x="',
    f"' autofocus onfocus='{MARK}()",
    f"javascript:{MARK}()",
    f"data:text/html,<script>{MARK}()</script>",
    f"<iframe srcdoc='&lt;script&gt;{MARK}()&lt;/script&gt;'>",
    f"<a href='javascript&colon;{MARK}()'>x</a>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={MARK}()>",
    f"<<SCRIPT>{MARK}();//<</SCRIPT>",
    f"<scr\u0000ipt>{MARK}()</scr\u0000ipt>",
    f"\u2028<script>{MARK}()</script>",
    f"\uff1cscript\uff1e{MARK}()\uff1c/script\uff1e",
    f"+ADw-script+AD4-{MARK}()+ADw-/script+AD4-",
    f"${{{MARK}}} $prompt $base $$ {{{{{MARK}}}}}",
    f"<base href=//evil.example>{MARK}",
    f"<meta http-equiv=refresh content='0;url=//evil.example/{MARK}'>",
    f"a\r\nX-{MARK}: yes",
    f"a\nSet-Cookie: {MARK}=1",
    f"a\r\n\r\n<script>{MARK}()</script>",
    f"a%0d%0aX-{MARK}: yes",
    f"a\u560a\u560dX-{MARK}: yes",
    f'"; filename="{MARK}.html',
    f"../../{MARK}",
    f"..%2f..%2f{MARK}",
    f"//evil.example/{MARK}",
    f"\\\\evil.example\\{MARK}",
    f"https://evil.example/{MARK}",
    f'{{"level":"ERROR","message":"{MARK}"}}',
    f"\x1b[2J\x1b]0;{MARK}\x07",
    f"$(touch {MARK}) `touch {MARK}` ; touch {MARK}",
    f"' OR 1=1 -- {MARK}",
    f"%s%n%x {MARK}",
    f"{MARK}" + "A" * 2_000,
]
SDAPI_LISTS = ["options", "sd-models", "loras", "samplers", "schedulers", "progress"]
SDAPI_LISTS += [path.rpartition("/")[2] for path in sorted(automatic1111_lists.EMPTY)]
SDAPI_REFUSED = ["/sdapi/v1/interrupt", "/sdapi/v1/skip", *automatic1111_lists.REFRESHED]
SDAPI_REFUSED += automatic1111_lists.FROM_PICTURES
ROUTES = [
    "/inference/{}",
    "/inference/{}?seed=1&model=slow",
    "/inference/a?seed={}",
    "/inference/a?model={}",
    "/inference/a?lora={}",
    "/inference/a?negative_prompt={}&seed=1",
    "/inference/a?format={}",
    "/inference/a?{}=1",
    "/inference?seed={}",
    "/inference?negative_prompt={}",
    "/inference/default?{}=1",
    "/inference?prompt={}",
    "/inference?prompt={}&seed=1&{}=1",
    "/sentence?seed={}",
    "/sentence?{}=1",
    "/usage?{}=1",
    "/usage?from={}",
    "/usage?format={}",
    "/inference/a?dry_run={}",
    "/sdapi/v1/txt2img/{}",
    *(f"/sdapi/v1/{name}?{{}}=1" for name in SDAPI_LISTS),
    "/teach?{}=1",
    "/jobs/{}",
    "/jobs/{}/image",
    "/jobs/slow-" + "0" * 32 + "/image?hop={}",
    "/v1/images/generations/{}",
    "/v1/models?{}=1",
    "/v1/models/{}",
    "/v1/files?{}=1",
    "/v1/files?after={}",
    "/v1/files/{}",
    "/v1/files/{}/content",
    "/v1/batches?{}=1",
    "/v1/batches?limit={}",
    "/v1/batches/{}",
    "/docs?{}=1",
    "/openapi.json?{}=1",
    "/?{}=1",
    "/?link={}",
    "/inference/a?link={}",
    "/options?{}=1",
    "/docs?{}=1",
    "/openapi.json?{}=1",
    "/health?{}=1",
    "/robots.txt?{}=1",
    "/train?{}=1",
    "/train/{}",
    "/train/{}/loss.svg",
    "/train/{}/samples/{}",
    "/train-status?{}=1",
    "/loras/{}/{}",
    "/datasets/{}",
]
BODIES = [
    ("/jobs", {"prompt": "{}", "model": "slow", "seed": 1}),
    ("/jobs", {"prompt": "a", "model": "{}"}),
    ("/jobs", {"prompt": "a", "{}": 1}),
    ("/v1/images/generations", {"prompt": "{}"}),
    ("/v1/images/generations", {"prompt": "{}", "response_format": "url"}),
    ("/v1/images/generations", {"prompt": "a", "size": "{}"}),
    ("/v1/images/generations", {"prompt": "a", "{}": 1}),
    ("/sdapi/v1/txt2img", {"prompt": "{}", "steps": 1}),
    ("/sdapi/v1/txt2img", {"prompt": "a", "override_settings": {"sd_model_checkpoint": "{}"}}),
    ("/sdapi/v1/txt2img", {"prompt": "a <lora:{}:1>"}),
    ("/sdapi/v1/txt2img", {"prompt": "a", "seed": "{}", "{}": 1}),
    ("/sdapi/v1/options", {"sd_model_checkpoint": "{}", "{}": 1}),
    ("/v1/files", {"filename": "{}", "bytes": 1, "purpose": "batch"}),
    ("/v1/files", {"{}": "{}"}),
    ("/v1/batches", {"input_file_id": "{}", "metadata": {"{}": "{}"}}),
    ("/v1/batches", {"{}": "{}"}),
    ("/v1/images/edits", {"{}": "{}"}),
    ("/v1/images/variations", {"{}": "{}"}),
    *((path, {"{}": "{}"}) for path in SDAPI_REFUSED),
    ("/session", {"key": "{}"}),
    ("/session", {"{}": 1}),
    ("/links", {"{}": 1}),
    ("/links", {"pictures": "{}"}),
    ("/datasets", {"{}": 1}),
    ("/datasets", {"files": [{"type": "{}", "size": 1}]}),
    ("/train", {"dataset": "{}", "name": "{}"}),
    ("/train", {"dataset": "a" * 12, "name": "x", "{}": "{}"}),
    ("/train", {"dataset": "a" * 12, "name": "x", "kohya": "{}"}),
    ("/train", {"dataset": "a" * 12, "name": "x", "captions": {"{}": "{}"}}),
    ("/train", {"action": "train", "data": {"prompt": "{}", "collection_s3_path": "{}"}}),
]
HEADERS = [
    "Origin", "Host", "User-Agent", "Cookie", "Prefer", "X-Forwarded-Proto", "Referer",
    "Access-Control-Request-Headers", "X-Forwarded-For", "Sec-Purpose", "Accept-Language",
]  # fmt: skip
CLIENTS = [{}, BROWSER, {"User-Agent": "Slackbot 1.0"}]


@pytest.fixture
def client(monkeypatch):
    client = GuardedClient(
        monkeypatch,
        guarded(filter_mode="warn", origins=("https://friend.example",)),
        training=TRAINING,
        batches=("bucket", ""),
    )
    client.settings = client.settings.__class__(
        **{**vars(client.settings), "deadline_seconds": 0.2}
    )
    client.service = client.service.__class__(
        client.settings, client.service._runtime, client.service._s3
    )
    return client


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, and what they would do."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            value = (value or "").strip().lower()
            assert not name.startswith("on"), (tag, name)
            if name in {"href", "src", "action", "srcdoc", "formaction"}:
                assert not value.startswith(("javascript:", "data:text")), (tag, value)
                assert "evil.example" not in value


@cache
def elements(body):
    """Return the names of a page's elements; most responses are the same page once more."""
    page = Page()
    page.feed(body.decode())
    return page.tags


well_formed = cache(json.loads)

# Our own pages, element by element: no caller's words add one to them.
PAGES = (
    pages.home_page("/api"),
    pages.teach_page("/api", "https://bucket.example"),
    pages.waiting_page("/api", "sd-0", "a cat", 1),
    pages.error_page(400, "No.", None, "/api"),
    pages.error_page(401, "No.", None, "/api"),
    pages.preview_page("/api", "a cat"),
    pages.docs_page("https://somewhere", "/api"),
)
SHAPES = [elements(page.html) for page in PAGES]


def check(response):
    for name, value in response.headers.items():
        assert re.fullmatch(r"[A-Za-z0-9-]+", name), name
        assert MARK not in name.lower()
        for line in value if isinstance(value, list) else [value]:
            assert line.isascii(), name
            assert not re.search(r"[\x00-\x1f\x7f]", line), name
            assert "<" not in line, name
    assert response.status_code < 500 or "Retry-After" in response.headers
    location = response.headers.get("Location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    kind = response.headers.get("Content-Type", "application/json").partition(";")[0]
    assert kind in {"text/html", "text/plain", "application/json", "image/png"}
    if kind == "application/json" and response.body:
        well_formed(response.body)
    if kind == "text/html":
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert elements(response.body) in SHAPES


def clients(number):
    """Return what the clients send that try one attack in one place, the `number`th of all."""
    return CLIENTS if ALL else [CLIENTS[number % len(CLIENTS)]]


@pytest.mark.parametrize("attack", range(len(HOSTILE)))
def test_nothing_in_a_url_becomes_markup_a_header_or_a_location(client, attack):
    text = quote(HOSTILE[attack], safe="")
    for number, path in enumerate(ROUTES, attack):
        for sent in clients(number):
            check(client.get(path.replace("{}", text), x_api_key=KEY, **sent))


@pytest.mark.parametrize("attack", range(len(HOSTILE)))
def test_nothing_in_a_body_becomes_markup_a_header_or_a_location(client, attack):
    text = json.dumps(HOSTILE[attack])[1:-1]
    for number, (path, body) in enumerate(BODIES, attack):
        filled = json.loads(json.dumps(body).replace("{}", text))
        for sent in clients(number):
            check(client.post(path, filled, x_api_key=KEY, **sent))


@pytest.mark.parametrize("name", HEADERS)
def test_nothing_in_a_header_becomes_markup_or_another_header(client, name):
    for attack, text in enumerate(HOSTILE):
        # What no client and no gateway lets through in a header is left out.
        value = re.sub(r"[^\x20-\x7e]", " ", text)[:500]
        paths = ("/", "/options", "/inference/a?seed=1", "/inference?seed=1", "/jobs/none")
        for number, path in enumerate(paths, attack):
            for sent in clients(number):
                response = client.get(path, **{**sent, "x-api-key": KEY, name: value})
                check(response)
                assert MARK.encode() not in response.body
        # These two return the address that the request's own Host header names.
        for path in ("/docs", "/openapi.json"):
            check(client.get(path, **{name: value}))


def test_scripts_on_pages_are_our_own_however_hostile_the_prompt(client):
    """Each script's hash is in the policy, so one more script would not run."""
    for text in HOSTILE:
        response = client.get(
            f"/inference/{quote(text, safe='')}?steps=0", x_api_key=KEY, **BROWSER
        )
        scripts = elements(response.body).count("script")
        policy = response.headers["Content-Security-Policy"]
        assert scripts == len(re.findall("script-src .*sha256", policy))


def test_no_log_line_has_a_key_a_cookie_a_token_or_a_callers_words(monkeypatch, capfd):
    output = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", output)
    protection = guarded(keys=(key(), key("bob", OTHER_KEY)), per_minute=500)
    client = GuardedClient(
        monkeypatch, protection, deadline_seconds=0.1, training=TRAINING, batches=("bucket", "")
    )
    cookie, token = client.sign_in(), client.link(pictures=2)
    secrets = [KEY, OTHER_KEY, "wr0ng-key", cookie.partition("=")[2], token, SECRET.decode(), MARK]
    client.runtime.outcome = ZeroDivisionError("unexpected")
    client.get("/inference/a?seed=1", x_api_key=KEY)
    client.runtime.outcome = None
    for path in [*ROUTES, "/inference/a?seed=2"]:
        # The name of an adapter is a field that is logged, whatever a caller names it.
        for text in (HOSTILE[0], *(() if "lora=" in path else (KEY, token))):
            asked = path.replace("{}", quote(text, safe=""))
            client.get(asked, x_api_key=KEY)
            client.get(asked, x_api_key="wr0ng-key")
            client.get(asked, Authorization=f"Bearer {OTHER_KEY}", **BROWSER)
            client.get(asked, Cookie=cookie)
            client.get(f"{asked}{'&' if '?' in asked else '?'}link={token}")
    for path, body in BODIES:
        client.post(path, json.loads(json.dumps(body).replace("{}", KEY)), Cookie=cookie)
        client.post(f"{path}?link={token}", body)
    client.post("/session", {"key": OTHER_KEY})
    client.request("DELETE", "/session", Cookie=cookie)
    written = output.getvalue() + "".join(capfd.readouterr())

    assert len(output.getvalue().splitlines()) > 300
    assert '"message":"crash"' in written
    for line in output.getvalue().splitlines():
        json.loads(line)
    assert [secret for secret in secrets if secret in written] == []


def test_every_route_of_the_app_is_attacked():
    attacked = {re.sub(r"\{.*", "", path.partition("?")[0]) for path in ROUTES}
    attacked |= {path for path, _ in BODIES}
    for route in gateway.app.routes:
        start = re.sub(r"\{.*", "", route)
        assert start in attacked or route in attacked, route
