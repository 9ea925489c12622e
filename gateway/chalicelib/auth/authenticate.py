"""The door: who may paint, found out from a key, a session, or a signed link.

A key is 256 random bits, so its SHA-256 may be kept as it is: there is no list of likely keys to
try, as there is of passwords, and nothing that a slow hash would make slower. Without keys in the
settings the door is open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Any

from chalicelib.access_settings import Protection
from chalicelib.auth import tokens
from chalicelib.errors import Unauthorized
from chalicelib.web.principal import ANYBODY, Guest, Key, Kind, Link
from chalicelib.web.request import Visit

# What anybody may see: none of it paints, and none of it shows what others had painted. Whatever is
# not listed here asks for a key where keys are configured.
OPEN_ROUTES = frozenset(
    {
        "/",
        "/sentence",
        "/options",
        "/health",
        "/session",
        "/robots.txt",
        "/docs",
        "/openapi.json",
        "/v1/models",
        "/v1/models/{name}",
    }
)
SESSION_COOKIE, LINK_COOKIE = "easel_session", "easel_link"
SESSION_SECONDS = 30 * 86_400
_PICTURE_SECONDS = 3_600
_LONGEST_KEY = 200
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def admit(protection: Protection, visit: Visit, now: float | None = None) -> Guest:
    """Return who a visitor is.

    What the client names itself goes before what its browser sends by itself: first a link in the
    URL, then a key in a header, then a session, then a link that was followed before.

    Raises:
        Unauthorized: if none of them is there, or the first of them is not valid.
    """
    if not protection.keys:
        return ANYBODY
    now = time.time() if now is None else now
    if visit.link is not None:
        return _check_reach(_by_link(protection, visit.link, now), visit)
    presented = presented_key(visit)
    if presented is not None:
        return Guest(Kind.KEY, find_key(protection.keys, presented, now))
    guest = _by_cookie(protection, visit, now)
    check_same_origin(protection, visit)
    return guest


def find_key(keys: Sequence[Key], presented: str, now: float) -> Key:
    """Return the key that was presented; raises Unauthorized if it is wrong or has expired.

    Every key is compared, in constant time, whichever it is: the time tells nothing.
    """
    digest = hashlib.sha256(presented.encode()[:_LONGEST_KEY]).digest()
    found = [key for key in keys if hmac.compare_digest(key.digest, digest)]
    if not found or _is_over(found[0].expires, now):
        raise Unauthorized("This key is not known here, or it has expired.")
    return found[0]


def presented_key(visit: Visit) -> str | None:
    """Return the key in a header, wherever the clients of this world put it.

    Bearer is OpenAI's way. Basic is that of AUTOMATIC1111's clients: the key is the password.
    """
    if "x-api-key" in visit.headers:
        return visit.headers["x-api-key"].strip()
    if "authorization" not in visit.headers:
        return None
    scheme, _, value = visit.headers["authorization"].strip().partition(" ")
    if scheme.lower() == "basic":
        return _password(value.strip())
    return value.strip() if scheme.lower() == "bearer" else ""


def new_session(protection: Protection, key: Key, now: float) -> tuple[str, int]:
    """Return a cookie's value for a key, which is not in it, and the seconds that it holds for."""
    ends = now + SESSION_SECONDS
    ends = ends if key.expires is None else min(ends, key.expires)
    claims = {**_tie(key), "exp": int(ends)}
    return tokens.sign(protection.secrets[0], "session", claims), max(int(ends - now), 0)


def new_link(
    protection: Protection, key: Key, seconds: int, pictures: int | None, now: float
) -> tuple[str, Link]:
    """Return a new link made with a key, and the token that stands for it."""
    link = Link(secrets.token_hex(8), int(now + seconds), pictures)
    claims = {**_tie(key), "id": link.id, "exp": link.expires, "n": pictures}
    return tokens.sign(protection.secrets[0], "link", claims), link


def picture_token(protection: Protection, guest: Guest, picture: str) -> str | None:
    """Return what opens one picture for an hour, for an address that a guest takes elsewhere.

    A client of OpenAI's API hands such an address to a browser that knows nothing of its key. None
    where no key is needed.
    """
    if guest.key is None:
        return None
    claims = {**_tie(guest.key), "pic": picture, "exp": int(time.time()) + _PICTURE_SECONDS}
    return tokens.sign(protection.secrets[0], "picture", claims)


def check_same_origin(protection: Protection, visit: Visit) -> None:
    """Refuse what another site's page has a signed-in browser send.

    SameSite=Lax keeps cookies out of such requests already; this holds where a browser does not
    keep to it. A program without a browser sends neither header.

    Raises:
        Unauthorized: if the browser says that the request comes from elsewhere.
    """
    if visit.method in _SAFE_METHODS:
        return
    origin, site = visit.headers.get("origin"), visit.headers.get("sec-fetch-site")
    # Sec-Fetch-Site is right behind a proxy as well, where the Host header is another.
    trusted = {visit.origin, *protection.origins} - {"*"}
    if site in {"same-origin", "none"} or origin in trusted or (origin is None and site is None):
        return
    raise Unauthorized("A session is of use to this site's own pages alone. Send the key.")


def _by_cookie(protection: Protection, visit: Visit, now: float) -> Guest:
    cookies = visit.cookies
    if cookies.get(SESSION_COOKIE):
        claims = tokens.verify(protection.secrets, "session", cookies[SESSION_COOKIE])
        if claims and not _is_over(claims["exp"], now):
            key = _tied_key(protection.keys, claims, now)
            if key is not None:
                return Guest(Kind.KEY, key)
    if cookies.get(LINK_COOKIE):
        return _check_reach(_by_link(protection, cookies[LINK_COOKIE], now), visit)
    raise Unauthorized("A key is needed to paint here. Sign in on the home page, or send the key.")


def _by_link(protection: Protection, token: str, now: float) -> Guest:
    claims = tokens.verify(protection.secrets, "link", token)
    kind = Kind.LINK if claims else Kind.PICTURE
    claims = claims or tokens.verify(protection.secrets, "picture", token)
    key = _tied_key(protection.keys, claims, now) if claims else None
    if not claims or key is None or _is_over(claims["exp"], now):
        raise Unauthorized("This link is not valid, or it has expired.")
    if kind is Kind.PICTURE:
        return Guest(kind, key, picture=claims["pic"])
    return Guest(kind, key, Link(claims["id"], claims["exp"], claims["n"]))


def _check_reach(guest: Guest, visit: Visit) -> Guest:
    """Keep the address of one picture to that picture; what it may paint is checked later."""
    if guest.kind is not Kind.PICTURE:
        return guest
    reached = "/inference/" in visit.route or f"/jobs/{guest.picture}" in visit.path
    if visit.method in _SAFE_METHODS and reached:
        return guest
    raise Unauthorized("This link is for one picture alone.")


def _tie(key: Key) -> dict[str, Any]:
    """Return what binds a token to a key: it ends with the key, and with a new key of its name."""
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
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
