"""How many pictures one visitor may ask for in a minute, counted in this Lambda's own memory.

No database is asked, so the guarantee is one instance's: never more than the limit in any 60
seconds that this instance sees. AWS may run several, each of which counts for itself; their number
times the limit is the bound for all. The stage's throttling and the function's concurrency, which a
deployment sets, hold over all of them.
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
_MOST_VISITORS = 2_000


class Limits:
    """The moments of each visitor's latest pictures; whoever came longest ago is forgotten first.

    Args:
        most_visitors: how many visitors are remembered.
        now: seconds by any clock that only goes forward.
    """

    def __init__(
        self, most_visitors: int = _MOST_VISITORS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_visitors = most_visitors
        self._now = now
        self._lock = threading.Lock()
        self._moments: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, visitor: str, per_minute: int) -> dict[str, str]:
        """Count a picture of a visitor's.

        Returns:
            The headers that tell what is left.

        Raises:
            RateLimited: if there were `per_minute` in the last 60 seconds already.
        """
        with self._lock:
            now = self._now()
            moments = self._recent(visitor, now)
            if len(moments) >= per_minute:
                wait = int(moments[0] + WINDOW_SECONDS - now) + 1
                raise RateLimited(
                    f"At most {per_minute} pictures in a minute. Try again in {wait} s.", wait
                )
            moments.append(now)
            left, reset = per_minute - len(moments), int(moments[0] + WINDOW_SECONDS - now) + 1
        return standing(per_minute, left, reset)

    def _recent(self, visitor: str, now: float) -> deque[float]:
        """Return a visitor's moments, without those that no longer count."""
        moments = self._moments.setdefault(visitor, deque())
        self._moments.move_to_end(visitor)
        while moments and moments[0] <= now - WINDOW_SECONDS:
            moments.popleft()
        if len(self._moments) > self._most_visitors:
            self._moments.popitem(last=False)
        return moments


def standing(per_minute: int, left: int, reset: int) -> dict[str, str]:
    """Return the headers of draft-ietf-httpapi-ratelimit-headers-10 that tell of a limit."""
    return {
        "RateLimit-Policy": f'"pictures";q={per_minute};w={WINDOW_SECONDS}',
        "RateLimit": f'"pictures";r={left};t={reset}',
    }


def visitor_of(address: str) -> str:
    """Return what stands for a visitor: the IPv4 address, or the IPv6 network that one has.

    Whoever has one address of IPv6 has 2**64 of them.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
