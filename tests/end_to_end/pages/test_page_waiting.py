"""The page that waits for a queued picture, opened by somebody who was given its URL."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from chalicelib.web.pages import waiting_page

pytestmark = pytest.mark.browser


@pytest.fixture
def motion():
    return "no-preference"


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOKEN = "v1.a-b_c.d+e=&f"


@pytest.mark.parametrize(
    ("request_of_job", "said"), [({"seed": 7}, "Painted with seed 7."), ({}, "Painted.")]
)
def test_the_waiting_page_keeps_the_link_that_it_was_opened_with(page, request_of_job, said):
    links = []

    def serve(route):
        url = urlsplit(route.request.url)
        if route.request.resource_type == "document":
            html = waiting_page("/api", "slow-1", "a cat", 1).html
            return route.fulfill(body=html, content_type="text/html")
        links.append((url.path, parse_qs(url.query).get("link")))
        if url.path.endswith("/image"):
            return route.fulfill(body=PIXEL, content_type="image/png")
        return route.fulfill(json={"state": "done", "request": request_of_job})

    page.route("**/*", serve)
    page.goto("http://easel.test/api/jobs/slow-1/image?link=v1.a-b_c.d%2Be%3D%26f")
    expect(page.get_by_text(said, exact=True)).to_be_visible()

    jobs = [each for each in links if "/jobs/" in each[0]]
    assert jobs == [("/api/jobs/slow-1", [TOKEN]), ("/api/jobs/slow-1/image", [TOKEN])]
