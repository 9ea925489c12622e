"""A content delivery network in front of the gateway, and what it says about the client.

API Gateway sees the network's own address, and its own host. `endpoint/cdn.yaml` has CloudFront add
the client's, and a secret: any client can send the other headers to API Gateway itself.
"""

from __future__ import annotations

import hmac
from dataclasses import replace

from chalicelib.web.request import Request

SECRET, ADDRESS, HOST = "x-easel-cdn", "x-easel-viewer", "x-easel-host"


def as_sent(request: Request, secret: bytes | None) -> Request:
    """Return a request as its client sent it to the network; any other one as it is.

    Args:
        request: as API Gateway passed it on.
        secret: that of the network in front of this gateway; None if there is none.
    """
    presented = request.headers.get(SECRET, "").encode(errors="replace")
    if secret is None or not hmac.compare_digest(presented, secret):
        return request
    address, host = request.headers.get(ADDRESS, ""), request.headers.get(HOST, "")
    return replace(
        request,
        address=address or request.address,
        headers={**request.headers, "host": host} if host else request.headers,
    )
