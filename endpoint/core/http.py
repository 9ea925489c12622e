"""Requests to the public URL, without following redirects."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Longer than API Gateway's 29 s, so that its own error arrives first.
_SECONDS = 35


@dataclass(frozen=True)
class Answer:
    """A response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body; raises ValueError if it is not JSON."""
        return json.loads(self.body)


# Takes method, URL, headers and body; raises OSError if there is no answer.
Ask = Callable[[str, str, Mapping[str, str], bytes | None], Answer]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    """Send a request, and return the answer whatever its status is.

    Raises:
        OSError: if there is none.
    """
    request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310 - https
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_SECONDS) as response:
            return _answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return _answer(error.code, error.headers, error.read())
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body)
