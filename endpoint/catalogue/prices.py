"""The prices and sizes of instance types, from `prices.json`, which states their date and source.

A program can read AWS's own price list only with an account, so these are copies. They are accurate
enough for a warning, not for a bill.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("prices.json")
HOURS_PER_MONTH = 730  # AWS's own convention: 365 days x 24 / 12
# AWS's price lists mean 2**30 bytes by a GB of storage.
_GIB = 1024**3
# Of the template: ECR's two and that of CloudWatch Logs, in the first two zones.
_INTERFACE_ENDPOINTS, _ENDPOINT_ZONES = 3, 2


@dataclass(frozen=True)
class InstanceType:
    """An instance type for endpoints, with a GPU or an Inferentia2.

    Attributes:
        usd_per_hour: the on-demand price for hosting in us-east-1.
        gpu: its GPU, or other accelerator.
        gpu_gib: the memory of its GPU.
        ram_gib: its main memory.
        bf16: whether its GPU computes in bfloat16.
        compute: the GPU's compute capability, such as 8.9; None if it is not NVIDIA's.
        quota_code: the code of its quota "for endpoint usage", if known.
        remembered: whether no publication was read for its price.
    """

    name: str
    usd_per_hour: float
    gpu: str
    gpu_gib: int
    ram_gib: int
    bf16: bool
    compute: float | None
    quota_code: str | None
    remembered: bool = False

    @property
    def is_inferentia(self) -> bool:
        """Whether models must be compiled for it."""
        return is_inferentia(self.name)


@dataclass(frozen=True)
class CpuType:
    """An instance type without a GPU, for jobs that compile.

    Attributes:
        usd_per_hour: the on-demand price for training jobs in us-east-1.
        ram_gib: its main memory.
    """

    name: str
    usd_per_hour: float
    ram_gib: int


def is_inferentia(instance_type: str) -> bool:
    """Whether an instance type, of whatever size, has the accelerator Inferentia2."""
    return instance_type.startswith("ml.inf2.")


# Cached, because one `status` reads prices for every resource.
@cache
def _read() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return data


@cache
def instance_types() -> dict[str, InstanceType]:
    """Return the instance types with a known price, by name."""
    return {
        name: InstanceType(name, **{"usd_per_hour": entry["usd"]} | _without(entry, "usd"))
        for name, entry in _read()["hosting_per_hour"].items()
    }


@cache
def cpu_types() -> dict[str, CpuType]:
    """Return the instance types without a GPU, by name, the cheapest first."""
    return {
        name: CpuType(name, entry["usd"], entry["ram_gib"])
        for name, entry in _read()["cpu_per_hour"].items()
    }


@cache
def per_hour() -> dict[str, float]:
    """Return the prices of all instance types, in USD per hour, by name."""
    types: tuple[InstanceType | CpuType, ...] = (
        *instance_types().values(),
        *cpu_types().values(),
    )
    return {each.name: each.usd_per_hour for each in types}


def _without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def dearest(types: Iterable[str]) -> float | None:
    """Return the highest price per hour among the types; None if any price is unknown."""
    prices = [_price(name) for name in types]
    # A partial maximum would understate the price, so one unknown type makes it unknown.
    listed = [price for price in prices if price is not None]
    return max(listed) if listed and len(listed) == len(prices) else None


def _price(name: str) -> float | None:
    return per_hour().get(name)


def storage_per_month(size: int) -> float:
    """Return the price of `size` bytes in S3, in USD per month."""
    return size / _GIB * float(_read()["s3_per_gib_month"])


def logs_per_month(size: int) -> float:
    """Return the price of `size` bytes of stored logs, in USD per month."""
    return size / _GIB * float(_read()["logs_per_gib_month"])


def network_per_hour(reach: str | None, zones: int = _ENDPOINT_ZONES) -> float:
    """Return the price of a private network, in USD per hour.

    Args:
        reach: what it reaches, as `--private-network` says; None for no network.
        zones: the number of its zones.
    """
    if reach != "endpoints":
        return 0.0
    count = _INTERFACE_ENDPOINTS * min(zones, _ENDPOINT_ZONES)
    return count * float(_read()["interface_endpoint_per_hour"])


def build(seconds: float) -> float:
    """Return the price of a build of the image that runs for `seconds`, in USD."""
    return math.ceil(seconds / 60) * build_per_hour() / 60


def build_per_hour() -> float:
    """Return the price of a running build of the image, in USD per hour."""
    return float(_read()["image"]["build_per_minute"]) * 60


def images_per_month(size: int) -> float:
    """Return the price of `size` bytes of images in ECR, in USD per month."""
    return size / _GIB * float(_read()["image"]["stored_per_gib_month"])


def image_in_words() -> str:
    """Return one sentence on what building and storing the image takes and costs."""
    image = _read()["image"]
    usd, month = build(image["build_minutes"] * 60), image["gib"] * image["stored_per_gib_month"]
    return (
        f"Building the image takes about {image['build_minutes']} minutes and costs about"
        f" {usd:.2f} USD, once; storing it costs about {month:.2f} USD per month."
    )


def gateway_per_picture(seconds: float, size: int = 1_500_000) -> float:
    """Return the price of one picture in API Gateway, Lambda, S3 and traffic, in USD.

    Args:
        seconds: how long the request occupies a Lambda function of 1 GB.
        size: the picture's size in bytes.

    The monthly free tier is not subtracted. S3 is counted as for an asynchronous picture: three
    writes and two reads.
    """
    rates = _read()["requests"]
    requests = (rates["lambda_per_million"] + rates["rest_api_per_million"]) / 1e6
    store = (3 * rates["s3_per_1000_writes"] + 2 * rates["s3_per_1000_reads"]) / 1_000
    traffic = size / 1e9 * rates["transfer_per_gb"]
    return float(requests + store + traffic + seconds * rates["lambda_per_gb_second"])


def provenance(types: Iterable[str] = ()) -> str:
    """Return one or two sentences on the region, date and source of these prices.

    Args:
        types: the instance types whose prices are shown.
    """
    data = _read()
    remembered = [name for name in types if _is_remembered(name)]
    source = f" Nothing was read for {' and '.join(remembered)}." if remembered else ""
    return (
        f"Prices are for {data['region']} as of {data['as_of']}, from secondary sources; "
        f"only your bill is authoritative.{source}"
    )


def _is_remembered(instance_type: str) -> bool:
    kind = instance_types().get(instance_type)
    return kind.remembered if kind else instance_type in cpu_types()


def in_words(usd_per_hour: float | None, count: int = 1) -> str:
    """Return a price per hour, day and month for `count` instances, in words."""
    if usd_per_hour is None:
        return "an unknown price (not in endpoint/catalogue/prices.json)"
    hour = usd_per_hour * count
    return (
        f"{hour:.3f} USD per hour ({hour * 24:.2f} per day, {hour * HOURS_PER_MONTH:.0f} per month)"
    )
