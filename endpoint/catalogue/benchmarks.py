"""Published durations of one picture, from `painting_seconds.json`, which names their sources."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from endpoint.catalogue import models, prices

_FILE = Path(__file__).with_name("painting_seconds.json")
_SECONDS_PER_HOUR = 3_600.0


@dataclass(frozen=True)
class Benchmark:
    """The duration of one picture of a model on an instance type.

    Attributes:
        seconds: None if there is no published value.
        source: the publication, or a remark where there is none.
        computed: whether the seconds follow from published ones of other steps or another size.
    """

    model: str
    instance_type: str
    seconds: float | None
    source: str
    computed: bool = False

    @property
    def usd_per_hour(self) -> float:
        """The instance's price; raises KeyError if it is unknown."""
        return prices.instance_types()[self.instance_type].usd_per_hour

    @property
    def per_thousand(self) -> float | None:
        """USD for 1,000 pictures on an instance without idle time, with the gateway's share.

        A request is assumed to occupy a Lambda function for as long as the picture takes.
        """
        if self.seconds is None:
            return None
        # Without idle time the instance's price is shared by as many pictures as fit into an hour.
        gpu = self.seconds / _SECONDS_PER_HOUR * self.usd_per_hour
        return 1_000 * (gpu + prices.gateway_per_picture(self.seconds))


def published() -> list[Benchmark]:
    """Return the published benchmarks; each is for the catalogue's defaults."""
    return _read("published")


def known() -> list[Benchmark]:
    """Return the published benchmarks, and those that were computed from others."""
    return [*published(), *(replace(each, computed=True) for each in _read("computed"))]


def _read(kind: str) -> list[Benchmark]:
    entries = json.loads(_FILE.read_text("utf-8"))[kind]
    return [
        Benchmark(entry["model"], entry["instance_type"], entry["seconds"], entry["source"])
        for entry in entries
    ]


def by_model() -> list[Benchmark]:
    """Return the benchmarks of each model of the catalogue, published or computed.

    A model without any has one entry, for its first instance type, without seconds.
    """
    listed = known()
    benchmarks: list[Benchmark] = []
    for model in models.read().values():
        unmeasured = Benchmark(model.name, model.instance_types[0], None, "no published value")
        own = [benchmark for benchmark in listed if benchmark.model == model.name]
        benchmarks += own or [unmeasured]
    return benchmarks
