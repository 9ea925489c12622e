"""Show what pictures used: by day, key, model and link.

It is the report of `GET /api/usage` for the owner, and needs no gateway: the records are in S3.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from endpoint.aws.bucket import Bucket
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import UsageOptions, add_usage_options, common_parser
from endpoint.cli.script import Result
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.core.usage_days import (
    MOST_DAYS,
    Row,
    days_between,
    report,
    rows_of,
    to_csv,
)

_USUAL_DAYS = 30
_AT_ONCE = 8
_NOTE = (
    "Dollars are part of the instances' hours, not in addition to them; the hours in which an"
    " instance waits are not in them. Seconds of queued pictures are estimated. The last picture"
    " of a gateway instance that was lost can be missing."
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("usage", "Show what pictures used, by day, key, model and link.")
    add_usage_options(parser)
    return parser


def usage(context: Context, options: UsageOptions) -> Result:
    """Report what was used on days, the last 30 by default."""
    days = _days(options, context.clock.now().date())
    bucket = context.bucket
    if not bucket.exists():
        raise ScriptError(
            f"There is no deployment {context.name} in {context.account.region}.",
            "`python -m endpoint status` lists them.",
        )
    rows = _rows(context, bucket, days)
    data = report(rows, days)
    if options.csv:
        return Result(data, to_csv(rows).splitlines())
    return Result(data, _lines(context.name, data))


def _days(options: UsageOptions, today: date) -> list[date]:
    if options.days is not None and options.first is not None:
        raise BadArgument("--days is another way to say --from: pass one of them.")
    if options.json and options.csv:
        raise BadArgument("--json or --csv: pass one of them.")
    last = min(options.last or today, today)
    count = _USUAL_DAYS if options.days is None else options.days
    if count > MOST_DAYS or (options.first and (last - options.first).days >= MOST_DAYS):
        raise BadArgument(f"At most {MOST_DAYS} days are reported at once.")
    first = options.first or last - timedelta(days=count - 1)
    if first > last:
        raise BadArgument(f"--from {first} is after {last}, the last day to report.")
    return days_between(first, last)


def _rows(context: Context, bucket: Bucket, days: Sequence[date]) -> list[Row]:
    folder, now = _Folder(bucket, dry_run=context.dry_run), context.clock.now()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = list(pool.map(lambda day: rows_of(folder, day, now), days))
    return [row for part in parts for row in part]


class _Folder:
    """A bucket's place for usage, as the reader of days uses it."""

    def __init__(self, bucket: Bucket, *, dry_run: bool) -> None:
        self._bucket = bucket
        self._dry_run = dry_run

    def keys(self, start: str) -> Iterable[str]:
        return [key.removeprefix(_PREFIX) for key in self._bucket.sizes(_PREFIX + start)]

    def read(self, key: str) -> bytes | None:
        return self._bucket.get(_PREFIX + key)

    def create(self, key: str, body: bytes) -> object:
        return self._dry_run or self._bucket.put_new(_PREFIX + key, body)


_PREFIX = "usage/"


def _lines(name: str, data: Mapping[str, Any]) -> list[str]:
    lines = [f"Usage of {name} from {data['from']} to {data['to']} (UTC): {_words(data)}"]
    used = [one for one in data["days"] if one["gpu_seconds"] or one["pictures"]]
    for title, field, rows in (
        ("day", "day", used),
        ("key", "key", data["keys"]),
        ("model", "model", data["models"]),
        ("link", "link", data["links"]),
    ):
        if rows:
            lines += ["", *_table(title, field, rows)]
    return [*lines, "", _NOTE] if used else lines


def _table(title: str, field: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [str(row[field]) or "without" for row in rows]
    width = max(len(title), *map(len, names))
    head = f"{title:{width}}  {'pictures':>9}  {'GPU seconds':>12}  {'USD':>10}"
    return [head] + [
        f"{name:{width}}  {row['pictures']:9,}  {row['gpu_seconds']:12,.1f}  {row['usd']:10.4f}"
        for name, row in zip(names, rows, strict=True)
    ]


def _words(data: Mapping[str, Any]) -> str:
    return (
        f"{data['pictures']:,} pictures, {data['gpu_seconds']:,.0f} s of GPU time,"
        f" {data['usd']:.2f} USD."
    )


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), UsageOptions, usage, argv, **overrides)
