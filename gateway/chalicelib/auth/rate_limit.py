"""How many pictures one client can request in a minute, counted in this Lambda's own memory.

No database is used, so the guarantee is that of one instance: never more than the limit in any 60
seconds that this instance sees. AWS may run several, each of which counts for itself; their number
times the limit is the bound for all. The function's concurrency, which a deployment sets, applies
to all of them together; so does the stage's throttling, to each method by itself.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from chalicelib.errors import RateLimited

WINDOW_SECONDS = 60
# A moment takes 32 bytes: with a limit of 20 a minute these are 1.3 MB at most.
_MAX_CLIENTS = 2_000


class RateLimiter:
    """Stores when each client's latest pictures were; the least recent client is dropped first.

    Args:
        max_clients: the number of clients that are stored.
        now: seconds by any clock that only goes forward.
        window: the number of seconds for which a picture counts.
    """

    def __init__(
        self,
        max_clients: int = _MAX_CLIENTS,
        now: Callable[[], float] = time.monotonic,
        window: int = WINDOW_SECONDS,
    ) -> None:
        self._max_clients = max_clients
        self._now = now
        self._window = window
        self._lock = threading.Lock()
        self._moments: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, client: str, per_minute: int) -> dict[str, str]:
        """Count a picture of a client's.

        Returns:
            The headers that report what is left.

        Raises:
            RateLimited: if there were `per_minute` in the last 60 seconds already.
        """
        # `chalice local` serves requests in threads; Lambda serves one at a time.
        with self._lock:
            now = self._now()
            moments = self._with_room(client, per_minute, now)
            moments.append(now)
            left, reset = per_minute - len(moments), int(moments[0] + self._window - now) + 1
        return limit_headers(per_minute, left, reset)

    def check(self, client: str, per_minute: int) -> None:
        """Raise what `take` would raise, and count nothing."""
        with self._lock:
            self._with_room(client, per_minute, self._now())

    def _with_room(self, client: str, per_minute: int, now: float) -> deque[float]:
        moments = self._recent(client, now)
        if len(moments) >= per_minute:
            # Rounded up: a client that waits exactly this long must not be refused again.
            wait = int(moments[0] + self._window - now) + 1
            raise RateLimited(
                f"The limit is {per_minute} pictures per minute. Try again in {wait} s.", wait
            )
        return moments

    def _recent(self, client: str, now: float) -> deque[float]:
        """Return a client's moments, without those that no longer count."""
        moments = self._moments.setdefault(client, deque())
        self._moments.move_to_end(client)
        # Moments are in order, so those outside the window are at the front.
        while moments and moments[0] <= now - self._window:
            moments.popleft()
        if len(self._moments) > self._max_clients:
            self._moments.popitem(last=False)
        return moments


def limit_headers(per_minute: int, left: int, reset: int) -> dict[str, str]:
    """Return the headers of draft-ietf-httpapi-ratelimit-headers-10 that report a limit."""
    return {
        "RateLimit-Policy": f'"pictures";q={per_minute};w={WINDOW_SECONDS}',
        "RateLimit": f'"pictures";r={left};t={reset}',
    }


def client_of(address: str) -> str:
    """Return what identifies a client: its IPv4 address, or the IPv6 network of its address.

    A client with one IPv6 address usually has the 2**64 of its network.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
