"""Signed values that a client stores and cannot change: sessions and links.

    v1.<claims, JSON in base64url>.<HMAC-SHA256, base64url>

The purpose is part of what is signed, so that a link cannot be used as a session. Nothing in it is
secret: the holder of a token can read its claims. https://www.rfc-editor.org/rfc/rfc2104
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

_VERSION = "v1"
# Far longer than any real token; a longer text is not parsed.
_LONGEST = 1_000


def sign(secret: bytes, purpose: str, claims: dict[str, Any]) -> str:
    """Return a token with claims for one purpose; safe in a URL and in a cookie."""
    content = json.dumps(claims, separators=(",", ":"), sort_keys=True).encode()
    payload = _encode(content)
    return f"{_VERSION}.{payload}.{_encode(_mac(secret, purpose, payload))}"


def verify(secrets: Sequence[bytes], purpose: str, token: str) -> dict[str, Any] | None:
    """Return a token's claims, or None unless one of the secrets signed them for this purpose."""
    parts = token.split(".")
    if len(token) > _LONGEST or len(parts) != 3 or parts[0] != _VERSION or not token.isascii():
        return None
    mac = parts[2].encode()
    expected = [_encode(_mac(secret, purpose, parts[1])).encode() for secret in secrets]
    # Every secret is compared, so that the time does not reveal which one it was.
    matches = [hmac.compare_digest(candidate, mac) for candidate in expected]
    return _claims(parts[1]) if any(matches) else None


def _mac(secret: bytes, purpose: str, payload: str) -> bytes:
    content = f"easel {_VERSION} {purpose} {payload}".encode()
    return hmac.new(secret, content, hashlib.sha256).digest()


def _claims(payload: str) -> dict[str, Any] | None:
    try:
        # Tokens have no padding, which Python's decoder requires.
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
