"""Signing in and out, inviting friends with a link, and following one."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from chalicelib.access_settings import Protection
from chalicelib.auth.authenticate import (
    LINK_COOKIE,
    SESSION_COOKIE,
    admit,
    check_same_origin,
    find_key,
    new_link,
    new_session,
)
from chalicelib.auth.link_quota import MOST_PICTURES
from chalicelib.errors import InvalidRequest, Unauthorized
from chalicelib.web.body import read_json_object
from chalicelib.web.principal import Guest, Kind
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, json_answer, see_other

_DAY = 86_400
# An account of a link's pictures is kept for longer; see the bucket's lifecycle.
LONGEST_LINK = 30 * _DAY
SHORTEST_LINK = 60
_DEFAULT_PICTURES = 10


def sign_in(protection: Protection, visit: Visit) -> Answer:
    """Give a browser a session for the key in the body; where no key is needed, nothing.

    Raises:
        InvalidRequest: if there is no key in the body.
        Unauthorized: if the key is wrong or has expired, or another site's page sent it.
    """
    key = read_json_object(visit).get("key")
    if not isinstance(key, str) or not key:
        raise InvalidRequest("key: must be the key, as text", field="key")
    if protection.keys:
        check_same_origin(protection, visit)
        now = time.time()
        value, seconds = new_session(protection, find_key(protection.keys, key.strip(), now), now)
        visit.new_cookies.append(_cookie(visit, SESSION_COOKIE, value, seconds))
    return Answer(204, b"")


def sign_out(protection: Protection, visit: Visit) -> Answer:
    """Take back whatever session and link a browser has."""
    check_same_origin(protection, visit)
    visit.new_cookies.extend(_cookie(visit, name, "", 0) for name in (SESSION_COOKIE, LINK_COOKIE))
    return Answer(204, b"")


def follow_link(protection: Protection, visit: Visit) -> Answer:
    """Keep the link that a browser came with, and send it to the page; raises Unauthorized."""
    remember_link(visit, admit(protection, visit))
    return see_other(f"{visit.root}/")


def remember_link(visit: Visit, guest: Guest) -> None:
    """Let a browser keep the link in its address bar: what the page fetches next needs it, too."""
    if guest.kind is Kind.LINK and guest.link is not None and visit.link and visit.is_navigation:
        seconds = max(guest.link.expires - int(time.time()), 0)
        visit.new_cookies.append(_cookie(visit, LINK_COOKIE, visit.link, seconds))


def invite(protection: Protection, visit: Visit) -> Answer:
    """Make a signed link with which others may paint, at the expense of the key.

    The body may have `pictures`, 1 to 1,000 or null for any number until the link expires, and
    `expires_in`, in seconds, from a minute to 30 days.

    Raises:
        InvalidRequest: naming the field that is wrong.
        Unauthorized: if the visitor has no key: a link makes no links.
    """
    key = visit.guest.key
    if visit.guest.kind is Kind.OPEN:
        raise InvalidRequest("Everybody may paint here without a link: there are no keys.")
    if visit.guest.kind is not Kind.KEY or key is None:
        raise Unauthorized("Only who has a key makes links.")
    body = read_json_object(visit)
    for name in sorted(set(body) - {"pictures", "expires_in"}):
        raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])
    pictures = _pictures(protection, body)
    seconds = _whole("expires_in", body.get("expires_in", _DAY), SHORTEST_LINK, LONGEST_LINK)
    token, link = new_link(protection, key, seconds, pictures, time.time())
    visit.notes["link"] = link.id
    told = {
        "url": f"{visit.origin}{visit.root}/?link={quote(token, safe='')}",
        "expires": datetime.fromtimestamp(link.expires, UTC).isoformat(),
        "pictures": pictures,
    }
    return json_answer(told, 201)


def _pictures(protection: Protection, body: dict[str, Any]) -> int | None:
    pictures = body.get("pictures", _DEFAULT_PICTURES)
    if pictures is None:
        return None
    count = _whole("pictures", pictures, 1, MOST_PICTURES)
    if protection.accounts is None:
        raise InvalidRequest(
            "pictures: cannot be counted here, as EASEL_LINKS names no bucket; null makes a link"
            " that holds until it expires",
            field="pictures",
        )
    return count


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = f"{name}: must be a whole number from {least:,} to {most:,}"
        raise InvalidRequest(message, field=name)
    return value


def _cookie(visit: Visit, name: str, value: str, seconds: int) -> str:
    """Return a `Set-Cookie` value that no script reads and no other site's request carries."""
    secure = "; Secure" if visit.origin.startswith("https:") else ""
    path = quote(visit.root, safe="/") or "/"
    return f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
