"""The pages."""

import base64
import hashlib
import re

from chalicelib.pages import home_page, problem_page

HOSTILE = "<script>alert(1)</script>\"'&$base"


def test_a_page_allows_exactly_its_own_style_and_script():
    page = home_page("/api")
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), page.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.policy
    assert "unsafe" not in page.policy


def test_a_page_without_a_script_allows_none():
    assert "script-src 'none'" in problem_page(503, "Busy.", 15, "/api").policy


def test_pages_load_nothing_from_elsewhere():
    for page in (home_page("/api"), problem_page(503, "Busy.", 15, "/api")):
        assert not re.search(rb'(?:src|href)="(?:https?:)?//', page.html)


def test_a_problem_page_says_what_happened_and_when_to_try_again():
    html = problem_page(503, "The model is busy.", 15, "/api").html.decode()

    assert "Service Unavailable" in html
    assert "The model is busy." in html
    assert "in 15 seconds" in html


def test_whatever_reaches_a_page_is_escaped():
    html = problem_page(400, HOSTILE, None, HOSTILE).html.decode()

    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;$base" in html
