"""Authentication: a key, a session or a signed link is required where keys are configured.

A key is 256 random bits, so its SHA-256 can be stored as it is: there is no list of likely keys to
try, as there is of passwords, and nothing that a slow hash would make slower. Without keys in the
settings every caller is accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from chalicelib.access_settings import Key, Protection
from chalicelib.auth import tokens
from chalicelib.errors import Unauthorized
from chalicelib.settings import Settings
from chalicelib.web.cdn import as_sent
from chalicelib.web.principal import ANONYMOUS, AuthMethod, Link, Principal
from chalicelib.web.request import Request
from chalicelib.web.response import Response

SESSION_COOKIE, LINK_COOKIE = "easel_session", "easel_link"
SESSION_SECONDS = 30 * 86_400
PICTURE_SECONDS = 3_600
_LONGEST_KEY = 200
# https://www.rfc-editor.org/rfc/rfc9110#name-safe-methods
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Authenticates the requests to a Blueprint's routes.

    Args:
        settings: returns the gateway's settings; they are read when the first request needs them.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def received(self, request: Request) -> Request:
        """Return the request as its client sent it, to API Gateway or to the CDN in front."""
        return as_sent(request, self._settings().protection.cdn)

    def authenticate(self, request: Request) -> Request:
        """Return the request with its principal, whose name is logged; raises Unauthorized."""
        principal = authenticate(self._settings().protection, request)
        if principal.own_key is not None:
            request.log.add(key=principal.own_key.name)
        if principal.link is not None:
            request.log.add(link=principal.link.id)
        return replace(request, principal=principal)

    def protect(self, request: Request, response: Response) -> Response:
        """Keep a response that required authentication out of caches that others read.

        A browser that followed a link also gets its cookie: what the page fetches next needs it.
        """
        principal = request.principal
        if principal.method is AuthMethod.OPEN:
            return response
        if principal.link is not None and request.link and request.is_navigation:
            cookie = link_cookie(request, principal.link)
            response = replace(response, cookies=(*response.cookies, cookie))
        caching = response.headers.get("Cache-Control")
        if caching is None:
            return response
        return response.with_headers({"Cache-Control": caching.replace("public", "private")})

    def origins(self) -> Sequence[str]:
        """Return the sites whose scripts can use this gateway; raises BadSetting."""
        return self._settings().protection.origins


def authenticate(protection: Protection, request: Request, now: float | None = None) -> Principal:
    """Return who sent a request.

    What the client names itself takes precedence over what its browser sends by itself: first a
    link in the URL, then a key in a header, then a session, then a link that was followed before.

    Raises:
        Unauthorized: if there is none of them, or the first of them is not valid.
    """
    if not protection.keys:
        return ANONYMOUS
    now = time.time() if now is None else now
    # A link in the URL is what the caller chose to send; cookies are sent without being asked for.
    if request.link is not None:
        return _check_scope(_by_link(protection, request.link, now), request)
    presented = presented_key(request)
    if presented is not None:
        return Principal(AuthMethod.KEY, find_key(protection.keys, presented, now))
    principal = _by_cookie(protection, request, now)
    check_same_origin(protection, request)
    return principal


def find_key(keys: Sequence[Key], presented: str, now: float) -> Key:
    """Return the key that was presented; raises Unauthorized if it is wrong or has expired.

    Every key is compared, in constant time, so that the time reveals nothing.
    """
    # Cut before hashing: a key of megabytes must not cost the gateway time.
    digest = hashlib.sha256(presented.encode(errors="replace")[:_LONGEST_KEY]).digest()
    matches = [key for key in keys if hmac.compare_digest(key.digest, digest)]
    if not matches or _is_over(matches[0].expires, now):
        raise Unauthorized("Unknown or expired key.")
    return matches[0]


def presented_key(request: Request) -> str | None:
    """Return the key in a header; None if there is no header for it.

    OpenAI's clients send Bearer; AUTOMATIC1111's send Basic, with the key as the password.
    """
    if "x-api-key" in request.headers:
        return request.headers["x-api-key"].strip()
    if "authorization" not in request.headers:
        return None
    scheme, _, value = request.headers["authorization"].strip().partition(" ")
    if scheme.lower() == "basic":
        return _password(value.strip())
    # Any other scheme counts as a wrong key, not as none: a cookie must not be used instead.
    return value.strip() if scheme.lower() == "bearer" else ""


def new_session(protection: Protection, key: Key, now: float) -> tuple[str, int]:
    """Return a session cookie's value, which does not contain the key, and its life in seconds."""
    ends = now + SESSION_SECONDS
    # A session must not outlive its key.
    ends = ends if key.expires is None else min(ends, key.expires)
    claims = {**_tie(key), "exp": int(ends)}
    return tokens.sign(protection.secrets[0], "session", claims), max(int(ends - now), 0)


def new_link(
    protection: Protection, key: Key, seconds: int, pictures: int | None, now: float
) -> tuple[str, Link]:
    """Return a new link made with a key, and its token."""
    link = Link(secrets.token_hex(8), int(now + seconds), pictures)
    claims = {**_tie(key), "id": link.id, "exp": link.expires, "n": pictures}
    return tokens.sign(protection.secrets[0], "link", claims), link


def picture_token(
    protection: Protection, request: Request, picture: str, one: str = ""
) -> str | None:
    """Return a token that gives access to one picture for an hour; None where no key is needed.

    A client of OpenAI's API passes the picture's URL to a browser, which does not have its key. A
    caller that came with a link gets that very link.

    Args:
        protection: the gateway's.
        request: the caller's.
        picture: the id that the URL names.
        one: distinguishes several URLs of that id, each of which has a quota of its own.
    """
    principal = request.principal
    if principal.method is AuthMethod.LINK:
        return request.link
    if principal.key is None:
        return None
    claims = {**_tie(principal.key), "pic": picture, "exp": int(time.time()) + PICTURE_SECONDS}
    if one:
        claims["one"] = one
    return tokens.sign(protection.secrets[0], "picture", claims)


def check_same_origin(protection: Protection, request: Request) -> None:
    """Refuse a request that another site's page makes a signed-in browser send.

    SameSite=Lax keeps cookies out of most such requests already; this covers browsers that do not
    implement it, and sites that it counts as the same: other ports, and siblings of a custom
    domain. A program without a browser sends neither header.

    Raises:
        Unauthorized: if the browser reports another origin.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    # A GET can cost a run, and SameSite lets those of a sibling domain or another port pass.
    # Old browsers say nothing of where a GET comes from. A user may follow any site's link.
    if request.method in _SAFE_METHODS and (site is None or _is_top_navigation(request)):
        return
    # Sec-Fetch-Site is correct behind a proxy as well, which may change the Host header.
    # `*` lets any site read responses, but none of them use a session.
    trusted = {request.origin, *protection.origins} - {"*"}
    if site in {"same-origin", "none"} or origin in trusted or (origin is None and site is None):
        return
    raise Unauthorized("A session can be used only by this site's own pages.")


def _is_top_navigation(request: Request) -> bool:
    """Whether the user goes to the URL in a tab; a frame in another site's page is none."""
    mode, destination = (request.headers.get(f"sec-fetch-{name}") for name in ("mode", "dest"))
    return mode == "navigate" and destination in {None, "document"}


def _by_cookie(protection: Protection, request: Request, now: float) -> Principal:
    cookies = request.cookies
    if cookies.get(SESSION_COOKIE):
        claims = tokens.verify(protection.secrets, "session", cookies[SESSION_COOKIE])
        if claims and not _is_over(claims["exp"], now):
            key = _tied_key(protection.keys, claims, now)
            if key is not None:
                return Principal(AuthMethod.KEY, key)
    if cookies.get(LINK_COOKIE):
        return _check_scope(_by_link(protection, cookies[LINK_COOKIE], now), request)
    raise Unauthorized("An API key is required.")


def _by_link(protection: Protection, token: str, now: float) -> Principal:
    claims = tokens.verify(protection.secrets, "link", token)
    # Both kinds of token come as `?link=`; the signed purpose distinguishes them.
    method = AuthMethod.LINK if claims else AuthMethod.PICTURE
    claims = claims or tokens.verify(protection.secrets, "picture", token)
    key = _tied_key(protection.keys, claims, now) if claims else None
    if not claims or key is None or _is_over(claims["exp"], now):
        raise Unauthorized("Invalid or expired link.")
    if method is AuthMethod.PICTURE:
        # Whoever sees the URL has the token, so its runs are counted like those of a link.
        digest = hashlib.sha256(token.encode()).hexdigest()[:32]
        counted = Link(f"picture-{digest}", claims["exp"], 1)
        return Principal(method, key, picture=claims["pic"], counted=counted)
    link = Link(claims["id"], claims["exp"], claims["n"])
    return Principal(method, key, link, counted=link)


def _check_scope(principal: Principal, request: Request) -> Principal:
    """Restrict the URL of one picture to the routes that return it; `check_picture` follows."""
    if principal.method is not AuthMethod.PICTURE:
        return principal
    in_scope = request.path.startswith(("/inference/", "/jobs/"))
    if request.method in _SAFE_METHODS and in_scope:
        return principal
    raise Unauthorized("This link is for one picture only.")


def check_picture(principal: Principal, picture: str) -> None:
    """Refuse a caller that was given another picture's URL; for all others it does nothing.

    Args:
        principal: the caller.
        picture: the id of the requested picture.

    Raises:
        Unauthorized: if the caller has access to another picture only.
    """
    if principal.method is AuthMethod.PICTURE and principal.picture != picture:
        raise Unauthorized("This link is for another picture.")


def _tie(key: Key) -> dict[str, Any]:
    """Return what binds a token to a key: it is invalid once the key is removed or replaced."""
    return {"key": key.name, "tie": hashlib.sha256(key.digest).hexdigest()[:16]}


def _tied_key(keys: Sequence[Key], claims: dict[str, Any], now: float) -> Key | None:
    for key in keys:
        if _tie(key).items() <= claims.items() and not _is_over(key.expires, now):
            return key
    return None


def _is_over(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now


def _password(encoded: str) -> str:
    try:
        # The user name is ignored: clients of the web UI insist on sending one.
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def link_cookie(request: Request, link: Link) -> str:
    """Return the cookie with which a browser keeps the link in its address bar."""
    seconds = max(link.expires - int(time.time()), 0)
    return cookie(request, LINK_COOKIE, request.link or "", seconds)


def cookie(request: Request, name: str, value: str, seconds: int) -> str:
    """Return a `Set-Cookie` value that scripts cannot read and other sites' requests do not carry.

    Args:
        request: decides the path, and whether the cookie requires HTTPS.
        name: of the cookie.
        value: safe in a cookie.
        seconds: its life; 0 deletes it.
    """
    secure = "; Secure" if request.origin.startswith("https:") else ""
    path = quote(request.root, safe="/") or "/"
    return f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
