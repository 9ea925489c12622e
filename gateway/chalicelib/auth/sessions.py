"""Signing in and out, and making and following signed links."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from chalicelib.access_settings import Protection
from chalicelib.auth.authenticate import (
    LINK_COOKIE,
    SESSION_COOKIE,
    authenticate,
    check_same_origin,
    cookie,
    find_key,
    link_cookie,
    new_link,
    new_session,
)
from chalicelib.auth.link_quota import MOST_PICTURES
from chalicelib.errors import InvalidRequest, Unauthorized
from chalicelib.generation import Whole
from chalicelib.web.body import read_json_object, read_whole
from chalicelib.web.principal import AuthMethod
from chalicelib.web.request import Request
from chalicelib.web.response import Response, json_response, see_other

_DAY = 86_400
# The object that counts a link's pictures is stored for longer; see the bucket's lifecycle.
LONGEST_LINK = 30 * _DAY
SHORTEST_LINK = 60
_DEFAULT_PICTURES = 10
_PICTURES = Whole("How many pictures the link is good for.", 1, MOST_PICTURES)
_SECONDS = Whole("How long the link is valid.", SHORTEST_LINK, LONGEST_LINK)


def sign_in(protection: Protection, request: Request) -> Response:
    """Set a session cookie for the key in the body; where no key is needed, set none.

    Raises:
        InvalidRequest: if there is no key in the body.
        Unauthorized: if the key is unknown or has expired, or another site's page sent it.
    """
    text = read_json_object(request).get("key")
    if not isinstance(text, str) or not text:
        raise InvalidRequest("key: must be the key, as text", field="key")
    # The page signs in the same way, whether or not the gateway has keys.
    if not protection.keys:
        return Response(204, b"")
    check_same_origin(protection, request)
    now = time.time()
    value, seconds = new_session(protection, find_key(protection.keys, text.strip(), now), now)
    return Response(204, b"", cookies=(cookie(request, SESSION_COOKIE, value, seconds),))


def sign_out(protection: Protection, request: Request) -> Response:
    """Delete a browser's session and link cookies."""
    check_same_origin(protection, request)
    names = (SESSION_COOKIE, LINK_COOKIE)
    return Response(204, b"", cookies=tuple(cookie(request, name, "", 0) for name in names))


def follow_link(protection: Protection, request: Request) -> Response:
    """Set a cookie for a valid link, and redirect to the page; raises Unauthorized."""
    link = authenticate(protection, request).link
    response = see_other(f"{request.root}/")
    if link is None or not request.link or not request.is_navigation:
        return response
    return replace(response, cookies=(link_cookie(request, link),))


def make_link(protection: Protection, request: Request) -> Response:
    """Make a signed link with which others can generate pictures at the expense of the key.

    The body can have `pictures`, 1 to 1,000 or null for no limit until the link expires, and
    `expires_in`, in seconds, from a minute to 30 days.

    Raises:
        InvalidRequest: naming the field that is wrong.
        Unauthorized: if the caller has no key: a link cannot make links.
    """
    key = request.principal.own_key
    if request.principal.method is AuthMethod.OPEN:
        raise InvalidRequest("No link is needed: this gateway has no keys.")
    if key is None:
        raise Unauthorized("Creating links requires an API key.")
    body = read_json_object(request)
    # A misspelled limit must not make a link without one.
    for name in sorted(set(body) - {"pictures", "expires_in"}):
        raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])
    pictures = _pictures(protection, body)
    seconds = read_whole(body.get("expires_in", _DAY), "expires_in", _SECONDS)
    token, link = new_link(protection, key, seconds, pictures, time.time())
    request.log.add(link=link.id)
    described = {
        "url": f"{request.origin}{request.root}/?link={quote(token, safe='')}",
        "expires": datetime.fromtimestamp(link.expires, UTC).isoformat(),
        "pictures": pictures,
    }
    return json_response(described, 201)


def _pictures(protection: Protection, body: dict[str, Any]) -> int | None:
    pictures = body.get("pictures", _DEFAULT_PICTURES)
    if pictures is None:
        return None
    count = read_whole(pictures, "pictures", _PICTURES)
    if protection.accounts is None:
        raise InvalidRequest(
            "pictures: cannot be counted, because EASEL_LINKS names no bucket; null makes a link"
            " without a quota",
            field="pictures",
        )
    return count
