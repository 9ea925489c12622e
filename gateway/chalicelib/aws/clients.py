"""The AWS clients: each is made once, when it is first needed, and never repeats a generation.

They are botocore's, as those of `boto3.client` are. What boto3 adds, resources and file transfers,
is not used here, and would take a tenth of a cold start's processor time.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any, Protocol

from chalicelib.aws.deadline import NoTimeLeft, shared

# botocore's default of 60 s exceeds API Gateway's 29 s.
_CONNECT_SECONDS = 2
# A frozen Lambda does not see the server close an idle connection, and a request sent on it fails.
# A retry could start a second run, so connections that may be stale are dropped instead.
_LONGEST_IDLE = 20.0
# For links: without these, botocore signs for the global host, which S3 redirects or refuses for a
# new bucket in another region, and in old regions by a version that new buckets refuse.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
# At an address of digits, as the emulator's, botocore puts the bucket into the path nevertheless.
_S3 = {
    "signature_version": "s3v4",
    "s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
}
_SMALL_BODY = 65_536  # bytes
# A session's clients must be made one after the other; they share the files that it has read.
_making = threading.Lock()


class Client(Protocol):
    """Provides an AWS client when it is needed."""

    def client(self) -> Any:
        """Return the one client."""


class LazyClient:
    """One AWS service's client.

    Args:
        service: as botocore names it.
        read_seconds: the timeout for the next byte of a response.
        attempts: the number of times that a call is sent at most. A generation that is sent twice
            runs twice, and costs twice; calls to S3 can be sent again.
    """

    def __init__(self, service: str, read_seconds: float, attempts: int = 1) -> None:
        self._service = service
        self._read_seconds = read_seconds
        self._attempts = attempts
        # `chalice local` serves requests in threads.
        self._lock = threading.Lock()
        self._client: Any = None
        self._used = time.monotonic()

    def client(self) -> Any:
        """Return the client, its stale connections dropped."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            elif time.monotonic() - self._used > _LONGEST_IDLE:
                self._client.close()  # closes the pooled connections; the client stays usable
            self._used = time.monotonic()
            return self._client

    def _make(self) -> Any:
        from botocore.config import Config  # 100 ms that pages, options and health need not wait

        with _making:
            client = _session().create_client(
                self._service,
                config=Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=self._read_seconds,
                    # Counts the first attempt as well, which `max_attempts` does not.
                    retries={"total_max_attempts": self._attempts},
                    # botocore's default is 10; `chalice local` has one process for all requests.
                    max_pool_connections=50,
                    tcp_keepalive=True,
                    **(_S3 if self._service == "s3" else {}),
                ),
            )
        client.meta.events.register("before-send", _in_time)
        client.meta.events.register_last("before-call.s3", _at_once)
        return client


def _at_once(params: dict[str, Any], **_: Any) -> None:
    """Send a small body together with its headers.

    botocore waits with every body until S3 asks for it: a round trip for each object that is
    written. Only before a large one, which S3 may refuse, the wait is the shorter way.
    """
    from botocore.utils import determine_content_length

    length = determine_content_length(params.get("body"))
    if length is not None and length <= _SMALL_BODY:
        params["headers"].pop("Expect", None)


def _in_time(**_: Any) -> None:
    """Send nothing after the request's deadline, no second attempt either."""
    if shared().remaining <= 0:
        raise NoTimeLeft


@cache
def _session() -> Any:
    # Imported here for the same reason: it takes 110 ms.
    import botocore.session

    return botocore.session.get_session()
