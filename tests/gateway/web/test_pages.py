"""The pages."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from chalicelib.web import pages
from chalicelib.web.pages import error_page, home_page, teach_page, usage_page, waiting_page

FOLDER = Path(pages.__file__).parents[1] / "pages"
HOSTILE = "<script>alert(1)</script>\"'&$base<!-- head.html -->/* style.css */"
PAGES = {
    "home": home_page("/api"),
    "teach": teach_page("/api", "https://bucket.example"),
    "usage": usage_page("/api"),
    "waiting": waiting_page("/api", "sdxl-0", "a red apple", 3.2),
    "problem": error_page(503, "Busy.", 15, "/api"),
    "sign in": error_page(401, "An API key is required.", None, "/api"),
}
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@every_page
def test_a_page_allows_exactly_its_own_styles_and_scripts(page):
    for tag in ("style", "script"):
        contents = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), page.html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(each).digest()).decode() for each in contents]
        allowed = " ".join(f"'sha256-{each}'" for each in digests) or "'none'"
        assert f"{tag}-src {allowed}" in page.policy.split("; ")[-1 if tag == "script" else -2]
    assert "unsafe" not in page.policy


def test_the_page_is_small_enough_to_be_sent_whole():
    assert len(PAGES["home"].html) <= 60_000
    assert len(PAGES["teach"].html) <= 60_000


def test_the_page_that_teaches_may_send_pictures_to_the_bucket_alone():
    policy = PAGES["teach"].policy.split("; ")

    assert "connect-src 'self' https://bucket.example" in policy
    assert "img-src 'self' https://bucket.example blob: data:" in policy
    assert "form-action 'self'" in policy
    assert "bucket" not in PAGES["home"].policy


def test_a_page_without_a_script_allows_none():
    assert "script-src 'none'" in error_page(503, "Busy.", 15, "/api").policy


@every_page
def test_a_page_loads_nothing_from_elsewhere(page):
    assert not re.search(rb'(?:src|href)="(?:https?:)?//', page.html)
    assert not re.search(rb"@import|url\((?!\"?data:)|<link rel=\"stylesheet", page.html)


@every_page
def test_every_page_has_the_same_frame(page):
    assert page.html.count(b'<base href="/api/">') == 1
    assert page.html.count(b'class="brand"') == 1
    assert b"prefers-reduced-motion" in page.html


@every_page
def test_a_page_is_complete(page):
    assert not re.search(rb"<!-- [a-z_.]+ -->|/\* [a-z_]+\.(?:css|js) \*/|\$[a-z]", page.html)


def test_a_error_page_says_what_happened_and_when_to_try_again():
    html = error_page(503, "The model is busy.", 15, "/api").html.decode()

    assert "Service Unavailable" in html
    assert "The model is busy." in html
    assert "in 15 seconds" in html


def test_errors_have_one_frame():
    frames = [page for page in FOLDER.glob("*.html") if "$message" in page.read_text("utf-8")]

    assert [page.name for page in frames] == ["notice.html"]
    assert b'id="sign-in"' in PAGES["sign in"].html
    assert b'id="sign-in"' not in PAGES["problem"].html


def test_text_on_a_page_is_escaped():
    html = error_page(400, HOSTILE, None, HOSTILE).html.decode()

    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;$base&lt;!--" in html
    assert "/* style.css */" in html
