"""Search engines and link previews: what exists, and never a run."""

import pytest

from tests.gateway.doubles import BROWSER, GuardedClient, guarded

CRAWLERS = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Twitterbot/1.0",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "WhatsApp/2.23.20.0 A",
    "TelegramBot (like TwitterBot)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0) Chrome/120.0",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2;",
    "Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
]
PEOPLE = [
    "",
    "curl/8.5.0",
    "python-requests/2.34.2",
    "OpenAI/Python 3.52.0",
    "Wget/1.21",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0",
    "Mozilla/5.0 (Linux; Android 9; CUBOT NOTE S) AppleWebKit/537.36 Chrome/119.0 Mobile",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0",
    "open-webui/0.6 aiohttp/3.14",
]


@pytest.fixture
def client(monkeypatch):
    return GuardedClient(monkeypatch, guarded(keys=()))


@pytest.mark.parametrize("agent", CRAWLERS)
@pytest.mark.parametrize("path", ["/inference/a%20cat", "/inference/a?seed=1&model=slow"])
def test_a_crawler_costs_no_run(client, agent, path):
    response = client.get(path, User_Agent=agent)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert (client.generated, client.queued) == (0, 0)


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_and_programs_get_pictures(client, agent):
    response = client.get("/inference/a%20cat", User_Agent=agent)

    assert response.headers["Content-Type"] == "image/png"
    assert client.generated == 1


@pytest.mark.parametrize("path", ["/inference", "/inference/default"])
@pytest.mark.parametrize("headers", [{}, BROWSER])
def test_no_other_way_to_a_picture_costs_a_run_either(client, path, headers):
    response = client.get(path, User_Agent="Googlebot/2.1", **headers)
    if response.status_code == 303:
        response = client.get(response.headers["Location"], User_Agent="Googlebot/2.1", **headers)

    assert b"og:title" in response.body
    assert client.generated == 0


def test_a_crawler_is_shown_the_picture_that_exists(client):
    path = "/inference/a%20cat?seed=1&model=slow"
    job = client.get(path, Prefer="respond-async").headers["Location"]
    before = client.get(f"{job}/image", User_Agent="Twitterbot/1.0")
    (run,) = client.runtime.runs.queued
    place = f"jobs/outputs/{run['S3OutputPathExtension']}/{run['Filename']}"
    client.bucket.objects[place] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x00IEND\xaeB`\x82"

    assert b"og:title" in before.body
    for shown in (path, f"{job}/image"):
        after = client.get(shown, User_Agent="Twitterbot/1.0")
        assert after.headers["Content-Type"] == "image/png"
        assert after.headers["X-Robots-Tag"] == "noindex"
    assert client.queued == 1


def test_a_preview_has_the_prompt_and_nothing_but_text(client):
    prompt = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"
    response = client.get(f"/inference/{prompt}", User_Agent="Slackbot 1.0")

    assert b"<script" not in response.body
    assert b'content="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"' in response.body
    assert "script-src 'none'" in response.headers["Content-Security-Policy"]


def test_robots_are_asked_to_leave_the_pictures_alone(client):
    response = client.get("/robots.txt")
    groups = response.body.decode().split("\n\n")

    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "User-agent: facebookexternalhit\n" in groups[0]
    assert groups[0].endswith("Allow: /")
    assert groups[1].startswith("User-agent: *\nDisallow: /inference\nDisallow: /jobs\n")
