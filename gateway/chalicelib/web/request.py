"""A request to the gateway, read once and never changed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

from chalicelib.errors import InvalidRequest
from chalicelib.telemetry import LogRecord
from chalicelib.web.principal import ANONYMOUS, Principal

_TRACKING = Path(__file__).with_name("tracking.json")
# Programs that accept HTML and are no browsers, by the start of their User-Agent in lower case.
# Python, curl and Node do not claim to accept HTML by themselves: there a person asked for it.
_PROGRAMS = (
    "java",
    "apache-httpclient",
    "okhttp",
    "jersey",
    "groovy",
    "libwww-perl",
    "lwp",
    "lavf",
)
# How many redirects clients follow, less one or two for those that led here. Measured in unmodified
# clients: Chromium's navigation 19, its <img>, openai-python and node's fetch 20, aiohttp 9,
# requests 30, curl -L 50, mediainfo and urllib3 3, Java's HttpClient 4, LWP 7, ffmpeg 8, urllib 10,
# links2 15.
_HOPS = 18
_HOPS_BY_AGENT = {
    "aiohttp": 8,
    "python-requests": 28,
    "curl": 48,
    "python-urllib3": 2,
    "urllib3/": 2,
    "openapi-generator/1.0.0/python": 2,
    "python-urllib/": 9,
    "java-http-client": 3,
    "libwww-perl": 6,
    "lwp": 6,
    "lavf": 7,
    "mediainfo": 2,
    "links (": 14,
}
# Clients resolve dots in a path, however they are encoded, and `default` is a route of its own.
# https://url.spec.whatwg.org/#double-dot-path-segment
_NO_PATH = {"default", ".", ".."}
# Any request can have it, next to its own parameters: it reports a price, and starts nothing.
DRY_RUN = "dry_run"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Request:
    """What a client sent; the route's own path parameters reach the handler as arguments.

    Attributes:
        method: GET, HEAD and so on.
        route: the route's pattern, which is safe to log (`/inference/{text}`).
        path: the path below the home page, as it was sent (`/inference/a%20cat`).
        headers: by lower-case name.
        query: decoded parameters, each with all its values; without a signed link.
        request_id: Lambda's own, or API Gateway's.
        body: the bytes that were sent; empty for all methods but POST.
        arrived: when, by the monotonic clock, in seconds.
        link: the signed link that came as `?link=`; None if there was none.
        address: the IP address that API Gateway saw, which a client cannot choose.
        root: the public path of the home page, without a slash at its end.
        principal: who sent it; ANONYMOUS until it is authenticated.
        log: collects what the log line of this request will contain.
    """

    method: str
    route: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    request_id: str
    body: bytes = b""
    arrived: float = field(default_factory=time.monotonic)
    link: str | None = None
    address: str = ""
    root: str = ""
    principal: Principal = ANONYMOUS
    log: LogRecord = field(default_factory=LogRecord)

    @property
    def is_navigation(self) -> bool:
        """Whether a browser shows the response as a document: HTML then suits it better than JSON.

        Browsers accept text/html when they navigate and never when an `<img>` fetches.
        """
        destination = self.headers.get("sec-fetch-dest", "document")
        # Firefox and Safari send no Sec-Fetch-Dest in older versions.
        wants_html = "text/html" in self.headers.get("accept", "").lower()
        # Java's HttpURLConnection accepts text/html whatever it fetches.
        if self.headers.get("user-agent", "").lower().startswith(_PROGRAMS):
            return False
        return wants_html and destination in {"document", "iframe", "frame", "embed", "object"}

    @property
    def is_browser(self) -> bool:
        """Whether a person's browser sent it, in whatever mode."""
        agent = self.headers.get("user-agent", "").lower()
        return "sec-fetch-mode" in self.headers or agent.startswith("mozilla/")

    @property
    def is_prefetch(self) -> bool:
        """Whether a browser loads a page before its user opens it.

        `Sec-Purpose` is in the Fetch standard; the others are those of Safari and of old
        versions of Firefox.
        """
        names = ("sec-purpose", "purpose", "x-purpose", "x-moz")
        purposes = " ".join(self.headers.get(name, "") for name in names).lower()
        return "prefetch" in purposes or "preview" in purposes

    @property
    def requested_wait(self) -> float | None:
        """The seconds of RFC 7240's `Prefer: wait`, 0 for `respond-async`; None without either."""
        preferences = self.headers.get("prefer", "").lower()
        wait = re.search(r"\bwait\s*=\s*\"?(\d{1,4})\b", preferences)
        if wait:
            return float(wait[1])
        return 0.0 if re.search(r"\brespond-async\b", preferences) else None

    @property
    def hop(self) -> int:
        """The number of redirects so far in a chain of them; 0 without a chain of this gateway's.

        The count is in the URL: a Lambda stores nothing between two requests.

        Raises:
            InvalidRequest: as `parameters`.
        """
        text = self.parameters().get("hop", "0")
        return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 0

    @property
    def most_hops(self) -> int:
        """The number of redirects that the client follows."""
        agent = self.headers.get("user-agent", "").lower()
        return next((hops for name, hops in _HOPS_BY_AGENT.items() if name in agent), _HOPS)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies, by name."""
        pairs = (cookie.partition("=") for cookie in self.headers.get("cookie", "").split(";"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def origin(self) -> str:
        """Scheme and host as the client spelled them; API Gateway is HTTPS only."""
        # `chalice local` has no such header, and serves HTTP.
        scheme = self.headers.get("x-forwarded-proto", "http").partition(",")[0].strip()
        return f"{scheme}://{self.headers.get('host', 'localhost')}"

    def picture_url(self, prompt: str, seed: int | None) -> str:
        """Return the public path of a prompt's picture, with the request's own parameters.

        The seed replaces theirs; None for a model that takes none.

        Parameters without a value, as a form with empty fields sends them, are left out.
        """
        filled = {name: text for name, text in self.parameters().items() if text}
        parameters = filled if seed is None else {**filled, "seed": seed}
        parameters.pop("prompt", None)
        if DRY_RUN in self.query:
            parameters[DRY_RUN] = self.query[DRY_RUN][0]
        return f"{self.root}/{inference_path(prompt, parameters)}"

    def parameters(self) -> dict[str, str]:
        """Return the query's parameters, without `dry_run` and what other sites add to links.

        Raises:
            InvalidRequest: if one is given twice, because it is unclear which value is meant.
        """
        # Proxies and frameworks differ in which of two values they take.
        query = {
            name: values
            for name, values in self.query.items()
            if name != DRY_RUN and not self._is_added(name)
        }
        for name, values in query.items():
            if len(values) > 1:
                raise InvalidRequest(f"{name[:64]}: is given twice", field=name[:64])
            if not _is_encodable(f"{name}{values[0]}"):
                raise InvalidRequest("A parameter contains half of a surrogate pair.")
        return {name: values[0] for name, values in query.items()}

    def _is_added(self, name: str) -> bool:
        """Whether a parameter of a link was added by the site, mail or chat that showed it."""
        names, prefixes = _tracking()
        name = name.lower()
        return self.method in {"GET", "HEAD"} and (name in names or name.startswith(prefixes))


def split_path(public: str, route: str, parameters: Mapping[str, str]) -> tuple[str, str]:
    """Split a public path into that of the home page and the rest, which the route matched.

    On AWS the stage (`/api`) is in front of the route, or the base path of a custom domain, which
    can have several segments and can be a word that is also a route's (`/v1`).

    Args:
        public: the path that was sent.
        route: the pattern that API Gateway found for it.
        parameters: the pattern's parameters, percent-encoded.
    """
    path = _PLACEHOLDER.sub(lambda name: parameters.get(name[1], ""), route)
    public = public.rstrip("/")
    # API Gateway documents the parameters as they were sent, and of the path it says nothing.
    for end in (path.rstrip("/"), unquote(path).rstrip("/")):
        if public.endswith(end):
            return public.removesuffix(end), path
    return "/".join(public.split("/")[: -route.count("/")]), path


def inference_path(prompt: str, parameters: Mapping[str, object]) -> str:
    """Return the URL of a prompt's picture, relative to the home page."""
    if prompt in _NO_PATH:
        return f"inference/default?{urlencode({'prompt': prompt, **parameters}, quote_via=quote)}"
    query = urlencode(parameters, quote_via=quote)
    return f"inference/{quote(prompt, safe=',')}?{query}"


@cache
def _tracking() -> tuple[frozenset[str], tuple[str, ...]]:
    data = json.loads(_TRACKING.read_text(encoding="utf-8"))
    return frozenset(data["names"]), tuple(data["prefixes"])


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
