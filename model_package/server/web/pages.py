"""Which web pages' requests are answered: those of the server's own page."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ServerError
from ..service import Reply

_LOCAL = re.compile(
    rb"(?:localhost|[a-z0-9.-]+\.localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]"
    rb"|host\.docker\.internal|host\.containers\.internal)(?::[0-9]{1,5})?"
)


class PageGuard:
    """Refuses requests that a page of another site makes a browser send.

    Such a page could have pictures generated on a developer's machine. SageMaker passes none of the
    headers that browsers send.

    Args:
        app: the application behind it.
        local: whether only this machine's programs can connect. Another site's name can resolve to
            127.0.0.1 (DNS rebinding), but its requests carry that name.
    """

    def __init__(self, app: Any, *, local: bool) -> None:
        self._app, self._local = app, local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        reason = self._refusal(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
            return
        reply = Reply.of(ServerError(403, "forbidden", reason))
        headers = {**reply.headers, "Content-Length": str(len(reply.body)), "Connection": "close"}
        named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": named})
        await send({"type": "http.response.body", "body": reply.body})

    def _refusal(self, scope: Any) -> str | None:
        """Return why a request is refused, or None."""
        headers = scope["headers"]
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if self._local and any(not _LOCAL.fullmatch(host) for host in hosts):
            return "Only requests to this machine's own addresses are answered."
        sites = [value for name, value in headers if name == b"sec-fetch-site"]
        origins = [value.lower() for name, value in headers if name == b"origin"]
        if b"cross-site" in sites or any(self._is_foreign(origin, hosts) for origin in origins):
            return "Pages of other sites are not answered."
        return None

    def _is_foreign(self, origin: bytes, hosts: list[bytes]) -> bool:
        host = origin.partition(b"://")[2]
        return host not in hosts and not (self._local and _LOCAL.fullmatch(host))
