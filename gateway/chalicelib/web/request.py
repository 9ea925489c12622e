"""A visit: one request to the gateway, read once."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from chalicelib.errors import InvalidRequest
from chalicelib.web.principal import ANYBODY, Guest

# What every route but the home page's begins with.
_AFTER_ROOT = re.compile(
    r"/(?:inference|sentence|jobs|v1|sdapi|options|health|docs|openapi\.json|session|links"
    r"|robots\.txt)(?=/|$)"
)


@dataclass(frozen=True)
class Visit:
    """What a visitor sent, apart from the path's own text.

    Attributes:
        method: GET, HEAD and so on.
        route: the route's pattern, which is safe to log (`/inference/{text}`).
        path: the public path, with API Gateway's stage in front.
        headers: by lower-case name.
        query: decoded parameters, each with all its values; without a signed link.
        request_id: Lambda's own, or API Gateway's.
        body: what was sent along.
        arrived: when, by the monotonic clock, in seconds.
        notes: what the log line will say about this visit.
        link: the signed link that came as `?link=`; None if none did.
        address: the IP address that API Gateway saw, which a visitor cannot choose.
        guest: who the door found the visitor to be.
        paid: the ids of the pictures that this visit has paid for.
        remarks: headers that the answer will carry, whatever it is.
        new_cookies: values of `Set-Cookie` that it will carry.
    """

    method: str
    route: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    request_id: str
    body: bytes = b""
    arrived: float = field(default_factory=time.monotonic)
    notes: dict[str, Any] = field(default_factory=dict)
    link: str | None = None
    address: str = ""
    guest: Guest = ANYBODY
    paid: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)
    new_cookies: list[str] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds since the visitor arrived."""
        return time.monotonic() - self.arrived

    @property
    def is_navigation(self) -> bool:
        """Whether a person looks at the answer itself: a page is better than JSON then.

        Browsers name text/html when they navigate and never when an `<img>` fetches.
        """
        destination = self.headers.get("sec-fetch-dest", "document")
        wants_html = "text/html" in self.headers.get("accept", "").lower()
        return wants_html and destination in {"document", "iframe", "frame", "embed", "object"}

    @property
    def is_prefetch(self) -> bool:
        """Whether a browser loads ahead what nobody asked for yet.

        `Sec-Purpose` is in the Fetch standard; the other two are Safari's and old Firefox's.
        """
        names = ("sec-purpose", "purpose", "x-purpose", "x-moz")
        said = " ".join(self.headers.get(name, "") for name in names).lower()
        return "prefetch" in said or "preview" in said

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies, by name."""
        pairs = (each.partition("=") for each in self.headers.get("cookie", "").split(";"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def root(self) -> str:
        """The public path of the home page, without a slash at its end.

        On AWS the stage (`/api`) is part of the public path and of no route; a custom domain may
        add a part of its own.
        """
        return _AFTER_ROOT.split(self.path, maxsplit=1)[0].rstrip("/")

    @property
    def origin(self) -> str:
        """Scheme and host as the visitor spelled them; API Gateway is HTTPS only."""
        scheme = self.headers.get("x-forwarded-proto", "http").partition(",")[0].strip()
        return f"{scheme}://{self.headers.get('host', 'localhost')}"

    def picture_url(self, prompt: str, seed: int) -> str:
        """Return the public path of a prompt's picture, with the visit's own parameters.

        Those of a form that was left empty in places are unset where they are empty.
        """
        given = {name: text for name, text in self.parameters().items() if text}
        parameters = {**given, "seed": seed}
        parameters.pop("prompt", None)
        query = urlencode(parameters, quote_via=quote)
        return f"{self.root}/inference/{quote(prompt, safe=',')}?{query}"

    def parameters(self) -> dict[str, str]:
        """Return the query's parameters.

        Raises:
            InvalidRequest: if one is given twice: which of the two was meant?
        """
        for name, values in self.query.items():
            if len(values) > 1:
                raise InvalidRequest(f"{name[:64]}: is given twice", field=name[:64])
        return {name: values[0] for name, values in self.query.items()}
