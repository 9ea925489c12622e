"""What instance types cost and can hold, from `prices.json`, which says as of when and from where.

AWS's own price list needs an account to be read by a program, so these are copies: good enough to
warn, not to settle a bill.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("prices.json")
HOURS_PER_MONTH = 730  # as AWS counts them: 365 days / 12
_GIB = 1024**3


@dataclass(frozen=True)
class InstanceType:
    """An instance type for endpoints.

    Attributes:
        usd_per_hour: the on-demand hosting price in us-east-1.
        gpu_gib: its GPU's memory.
        ram_gib: its main memory.
        bf16: whether its GPU computes in bfloat16.
        quota_code: of its quota "for endpoint usage", where it is known.
    """

    name: str
    usd_per_hour: float
    gpu: str
    gpu_gib: int
    ram_gib: int
    bf16: bool
    quota_code: str | None


@cache
def _read() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return data


@cache
def instance_types() -> dict[str, InstanceType]:
    """Return the instance types whose price is known, by name."""
    return {
        name: InstanceType(name, **{"usd_per_hour": entry["usd"]} | _without(entry, "usd"))
        for name, entry in _read()["hosting_per_hour"].items()
    }


def _without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def dearest(types: Iterable[str]) -> float | None:
    """Return the highest price per hour among the types; None if one of them is not known."""
    prices = [_price(name) for name in types]
    known = [price for price in prices if price is not None]
    return max(known) if known and len(known) == len(prices) else None


def _price(name: str) -> float | None:
    known = instance_types().get(name)
    return known.usd_per_hour if known else None


def storage_per_month(size: int) -> float:
    """Return what `size` bytes in S3 cost per month in USD."""
    return size / _GIB * float(_read()["s3_per_gib_month"])


def logs_per_month(size: int) -> float:
    """Return what `size` bytes of logs cost per month in USD."""
    return size / _GIB * float(_read()["logs_per_gib_month"])


def gateway_per_picture(seconds: float, size: int = 1_500_000) -> float:
    """Return what API Gateway, Lambda, S3 and the traffic cost for one picture, in USD.

    Args:
        seconds: for how long the visit keeps a Lambda of 1 GB busy.
        size: the picture's, in bytes.

    What an account has for free in a month is not subtracted. S3 counts as for an asynchronous
    picture: three writes and two reads.
    """
    each = _read()["requests"]
    requests = (each["lambda_per_million"] + each["rest_api_per_million"]) / 1e6
    store = (3 * each["s3_per_1000_writes"] + 2 * each["s3_per_1000_reads"]) / 1_000
    traffic = size / 1e9 * each["transfer_per_gb"]
    return float(requests + store + traffic + seconds * each["lambda_per_gb_second"])


def provenance() -> str:
    """Return one sentence on how far these prices can be trusted."""
    data = _read()
    return (
        f"Prices are for {data['region']} as of {data['as_of']}, from secondary sources; "
        "your bill is what counts."
    )


def in_words(usd_per_hour: float | None, count: int = 1) -> str:
    """Return a price per hour, day and month as a person reads it."""
    if usd_per_hour is None:
        return "an unknown price (not in endpoint/catalogue/prices.json)"
    hour = usd_per_hour * count
    return (
        f"{hour:.3f} USD per hour ({hour * 24:.2f} per day, {hour * HOURS_PER_MONTH:.0f} per month)"
    )
