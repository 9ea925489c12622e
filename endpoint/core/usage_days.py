"""What pictures used, by day: read from their records, and kept for days that are over.

records/...             one object for each picture (`usage_records.py`)
days/2026-11-26.json    what the records of a day come to, written by its first reader
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from .usage_records import SETTLED_SECONDS, UsageRecord, keys_of_day

MOST_DAYS = 366
COLUMNS = ("day", "key", "link", "model", "kind", "pictures", "gpu_seconds", "usd")


class Folder(Protocol):
    """The place in S3 where usage is stored."""

    def keys(self, start: str) -> Iterable[str]:
        """Return the keys that begin with a text."""

    def read(self, key: str) -> bytes | None:
        """Return an object's content, None if it does not exist."""

    def create(self, key: str, body: bytes) -> object:
        """Write an object, unless it exists."""


@dataclass(frozen=True)
class Row:
    """What the pictures of one day, key, link, model and kind used together.

    Attributes:
        day: such as 2026-11-26, in UTC.
        key: the name of a key; empty on a gateway without keys.
        link: the id of a link; empty without one.
        kind: one of `usage_records.Kind`.
    """

    day: str
    key: str
    link: str
    model: str
    kind: str
    pictures: int
    gpu_milliseconds: int
    micro_usd: int

    def described(self) -> dict[str, Any]:
        """Return it for people: seconds and dollars."""
        names = {name: getattr(self, name) for name in COLUMNS[:5]}
        return {**names, **described([self])}


def rows_of(folder: Folder, day: date, now: datetime) -> list[Row]:
    """Return what was used on a day.

    Args:
        folder: where usage is stored.
        day: in UTC.
        now: decides whether the day is over, so that no record of it will be added.

    Raises:
        ValueError: if an object there is none of Easel's.
    """
    name = f"days/{day}.json"
    over = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    is_over = now >= over + timedelta(seconds=SETTLED_SECONDS)
    if is_over and (stored := folder.read(name)) is not None:
        return [Row(**row) for row in json.loads(stored)["rows"]]
    rows = _summed(UsageRecord.from_key(key) for key in folder.keys(keys_of_day(day)))
    if is_over:
        folder.create(name, json.dumps({"rows": [asdict(row) for row in rows]}).encode())
    return rows


def _summed(records: Iterable[UsageRecord]) -> list[Row]:
    sums: dict[tuple[str, str, str, str, str], tuple[int, int, int]] = {}
    for one in records:
        names = (str(one.day), one.key or "", one.link or "", one.model, one.kind.value)
        pictures, gpu, usd = sums.get(names, (0, 0, 0))
        sums[names] = (
            pictures + one.pictures,
            gpu + one.gpu_milliseconds,
            usd + one.micro_usd,
        )
    return [Row(*names, *sums[names]) for names in sorted(sums)]


def days_between(first: date, last: date) -> list[date]:
    """Return the days from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def described(rows: Iterable[Row]) -> dict[str, Any]:
    """Return what rows come to: `pictures`, `gpu_seconds` and `usd`."""
    listed = list(rows)
    return {
        "pictures": sum(row.pictures for row in listed),
        "gpu_seconds": sum(row.gpu_milliseconds for row in listed) / 1_000,
        "usd": sum(row.micro_usd for row in listed) / 1_000_000,
    }


def report(rows: Sequence[Row], days: Sequence[date]) -> dict[str, Any]:
    """Return what was used on days: together, by day, by key, by model, by link, and each row."""
    by_day = _grouped("day", rows)
    return {
        "from": str(days[0]),
        "to": str(days[-1]),
        **described(rows),
        "days": [{"day": str(day), **described(by_day.get(str(day), []))} for day in days],
        "keys": _by("key", rows),
        "models": _by("model", rows),
        "links": [one for one in _by("link", rows) if one["link"]],
        "rows": [row.described() for row in rows],
    }


def _by(name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what the rows with each value of a field come to, the dearest first."""
    sums = [
        {name: value, **described(group)} for value, group in sorted(_grouped(name, rows).items())
    ]
    return sorted(sums, key=lambda one: -one["usd"])


def _grouped(name: str, rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows by their values of a field."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(getattr(row, name), []).append(row)
    return groups


def to_csv(rows: Iterable[Row]) -> str:
    """Return rows as CSV with a header, as RFC 4180 has it."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    table.writerows(row.described() for row in rows)
    return text.getvalue()
