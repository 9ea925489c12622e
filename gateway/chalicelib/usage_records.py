"""The records of pictures in S3: one object without content for each; all of it is in the key.

    records/2026-11/26T114512.123/<key>/<link>/<model>/<kind>/<gpu ms>/<micro USD>/<random>

Without a key or a link, `-` is in its place. The keys sort by time, so that a reader lists a day,
or what is new since a moment. Whoever generates a picture writes its record with a single PUT, and
nobody changes it: a record is there or not.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

FOLDER = "records/"
# S3 refuses a request that was signed more than 15 minutes ago, so that a Lambda that was frozen
# while it wrote its record writes none later: what is older is complete.
# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
SETTLED_SECONDS = 900
_NOBODY = "-"
# As the names of keys and models are spelled; that of nobody is none of them.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_KEY = re.compile(
    rf"records/(?P<time>[0-9]{{4}}-[0-9]{{2}}/[0-9]{{2}}T[0-9]{{6}}\.[0-9]{{3}})"
    rf"/(?P<key>-|{_NAME})/(?P<link>-|{_NAME})/(?P<model>{_NAME})/(?P<kind>[a-z]+)"
    r"/(?P<gpu>[0-9]{1,15})/(?P<usd>[0-9]{1,15})/(?P<token>[0-9a-f]{12})",
    re.ASCII,
)


class Kind(StrEnum):
    """What was done, and how its GPU time is known."""

    REALTIME = "realtime"  # measured: the time of the invocation
    ASYNCHRONOUS = "asynchronous"  # estimated when the picture was queued
    BATCH = "batch"  # measured by the job
    FAILED = "failed"  # GPU time that ended without a picture


@dataclass(frozen=True)
class UsageRecord:
    """What one picture used.

    Attributes:
        milliseconds: when the record was made, since 1970.
        model: the name of the model.
        kind: counts as a picture unless it failed.
        gpu_milliseconds: how long an instance worked on it.
        micro_usd: what these cost, in millionths of a dollar: they are part of the price of the
            instance's hours, not in addition to it.
        key: the name of the key that paid; None on a gateway without keys.
        link: the id of the link that was used; None without one.
        token: makes the record's key its own.
    """

    milliseconds: int
    model: str
    kind: Kind
    gpu_milliseconds: int
    micro_usd: int
    key: str | None = None
    link: str | None = None
    token: str = ""

    @classmethod
    def now(
        cls,
        moment: float,
        model: str,
        kind: Kind,
        seconds: float,
        usd: float,
        key: str | None = None,
        link: str | None = None,
    ) -> UsageRecord:
        """Return a new record of a picture; `moment` is in seconds since 1970."""
        measured = (round(seconds * 1_000), round(usd * 1_000_000))
        token = secrets.token_hex(6)
        return cls(int(moment * 1_000), model, kind, *measured, key, link, token)

    @classmethod
    def from_key(cls, key: str) -> UsageRecord:
        """Read a record's key; raises ValueError for any other text."""
        fields = _KEY.fullmatch(key)
        if fields is None:
            raise ValueError("is not the key of a record")
        moment = datetime.strptime(fields["time"], "%Y-%m/%dT%H%M%S.%f").replace(tzinfo=UTC)
        return cls(
            # Not `timestamp()`, whose fraction would be rounded.
            int(moment.replace(microsecond=0).timestamp()) * 1_000 + moment.microsecond // 1_000,
            fields["model"],
            Kind(fields["kind"]),
            int(fields["gpu"]),
            int(fields["usd"]),
            None if fields["key"] == _NOBODY else fields["key"],
            None if fields["link"] == _NOBODY else fields["link"],
            fields["token"],
        )

    def to_key(self) -> str:
        """Return its key, below the place where usage is stored."""
        parts = [
            self.key or _NOBODY,
            self.link or _NOBODY,
            self.model,
            self.kind.value,
            str(self.gpu_milliseconds),
            str(self.micro_usd),
            self.token,
        ]
        return "/".join([first_key(self.milliseconds), *parts])

    @property
    def day(self) -> date:
        """The day on which it was made, in UTC."""
        return datetime.fromtimestamp(self.milliseconds // 1_000, UTC).date()

    @property
    def pictures(self) -> int:
        """The number of pictures that it counts as."""
        return 0 if self.kind is Kind.FAILED else 1


def first_key(milliseconds: int) -> str:
    """Return the text that sorts before every record of a moment, and after all earlier ones."""
    moment = datetime.fromtimestamp(milliseconds // 1_000, UTC)
    return f"{FOLDER}{moment:%Y-%m/%dT%H%M%S}.{milliseconds % 1_000:03d}"


def keys_of_day(day: date) -> str:
    """Return how the keys of all records of a day begin."""
    return f"{FOLDER}{day:%Y-%m/%d}T"
