"""Servers that stand between a client and the gateway, or beside it."""

from __future__ import annotations

from html import escape

import requests

from endpoint.emulator.process.http_server import QuietHandler


class TimeoutProxy(QuietHandler):
    """Passes requests on, and lets the first few answers end as API Gateway's own 504."""

    def do_POST(self):
        answer = requests.request(
            self.command,
            self.server.gateway + self.path,
            data=self.body() or None,
            headers={"Content-Type": "application/json"},
            allow_redirects=False,
            timeout=60,
        )
        self.server.seen.append(self.command)
        if len(self.server.seen) <= 2:
            body = b'{"message": "Endpoint request timed out"}'
            return self.answer(504, [("Content-Type", "application/json")], body)
        headers = [("Content-Type", answer.headers["Content-Type"])]
        if "Location" in answer.headers:
            headers.append(("Location", answer.headers["Location"]))
        return self.answer(answer.status_code, headers, answer.content)

    do_GET = do_POST


class Album(QuietHandler):
    """Somebody else's page, with the pictures whose addresses are its query, `|` between them."""

    def do_GET(self):
        sources = self.path.partition("?")[2].split("|")
        images = "".join(f'<img alt="" src="{escape(source)}">' for source in sources)
        page = f'<link rel="icon" href="data:,">{images}'
        self.answer(200, [("Content-Type", "text/html")], page.encode())


def other_site(album, *sources):
    """Return the address of a page of another site, which shows the pictures at `sources`."""
    return f"{album.url.replace('127.0.0.1', 'localhost')}/?{'|'.join(sources)}"
