"""`GET /api/usage`: what was used, as JSON, as CSV, and as a page with a chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from chalicelib.access_settings import Key
from chalicelib.auth.budget import MICRO
from chalicelib.dialects.calls import calling
from chalicelib.errors import InvalidRequest, NotOffered, UsageNeedsKey
from chalicelib.generation import Whole
from chalicelib.images.service import ImageService
from chalicelib.images.usage import Usage
from chalicelib.usage_days import MOST_DAYS, Row, days_between, report, to_csv
from chalicelib.web.body import read_whole
from chalicelib.web.pages import usage_page
from chalicelib.web.request import Request
from chalicelib.web.response import Response, home_response, json_response

USUAL_DAYS = 30
DAYS = Whole("How many days, up to today or `to`.", 1, MOST_DAYS)
FORMATS = ("json", "csv")
PARAMETERS = ("format", "days", "from", "to")
_FIRST_YEAR = 2020  # nothing was recorded before


def usage(service: ImageService, request: Request) -> Response:
    """Return what the caller's key has used; for an owner's key, what all have.

    A record may be missing of a picture whose Lambda ended before it was written.

    Raises:
        UsageNeedsKey: for a link, and on a gateway without keys.
        NotOffered: if usage is not recorded.
        InvalidRequest: naming the parameter that is wrong.
        StoreUnavailable: if S3 does not return it.
    """
    key = _key_of(request)
    if service.usage is None:
        raise NotOffered("This gateway does not record what is used (EASEL_USAGE).")
    parameters = _parameters(request)
    if request.is_navigation and "format" not in parameters:
        return home_response(usage_page(request.root), request)
    with calling(service.settings, request):
        days = _days(parameters, service.usage.today)
        rows = service.usage.rows(days)
        own = rows if key.owner else [row for row in rows if row.key == key.name]
        if parameters.get("format", "json") == "csv":
            return _csv(own, days)
        keys = service.settings.protection.keys if key.owner else (key,)
        described = {**report(own, days), "owner": key.owner}
        described["month"] = service.spend.month() if key.owner else None
        return json_response({**described, "budgets": _budgets(service.usage, keys)})


def _key_of(request: Request) -> Key:
    key = request.principal.own_key
    if key is None:
        raise UsageNeedsKey(
            "Usage is shown to an API key only: that of the key, or with the owner's that of all."
            " Its operator sees it with `python -m endpoint usage`."
        )
    return key


def _parameters(request: Request) -> dict[str, str]:
    parameters = request.parameters()
    for name in sorted(set(parameters) - set(PARAMETERS)):
        raise InvalidRequest(f"{name[:64]}: is not a parameter", field=name[:64])
    if parameters.get("format", "json") not in FORMATS:
        raise InvalidRequest(f"format: must be one of {', '.join(FORMATS)}", field="format")
    if "days" in parameters and "from" in parameters:
        raise InvalidRequest("days: is another way to say from; send one of them", field="days")
    return parameters


def _days(parameters: dict[str, str], today: date) -> list[date]:
    """Return the days that parameters name, the last 30 without any."""
    last = min(_date(parameters["to"], "to"), today) if "to" in parameters else today
    if "from" not in parameters:
        count = read_whole(parameters.get("days", str(USUAL_DAYS)), "days", DAYS)
        return days_between(last - timedelta(days=count - 1), last)
    first = _date(parameters["from"], "from")
    if first > last:
        raise InvalidRequest(f"from: is after {last}, the last day to report", field="from")
    if (last - first).days >= MOST_DAYS:
        raise InvalidRequest(f"from: at most {MOST_DAYS} days are reported at once", field="from")
    return days_between(first, last)


def _date(text: str, name: str) -> date:
    try:
        moment = date.fromisoformat(text)
    except ValueError as error:
        message = f"{name}: must be a date in UTC, such as 2026-11-26"
        raise InvalidRequest(message, field=name) from error
    if moment.year < _FIRST_YEAR:
        raise InvalidRequest(f"{name}: must be {_FIRST_YEAR} or later", field=name)
    return moment


def _budgets(usage: Usage, keys: Sequence[Key]) -> list[dict[str, Any]]:
    limited = [key for key in keys if key.usd_per_month is not None]
    return [
        {
            "key": key.name,
            "usd_per_month": key.usd_per_month,
            "spent_usd": account.spent / MICRO,
            "reserved_usd": account.reserved / MICRO,
        }
        for key, account in zip(limited, usage.accounts(limited), strict=True)
    ]


def _csv(rows: Sequence[Row], days: Sequence[date]) -> Response:
    name = f"usage-{days[0]}-{days[-1]}.csv"
    headers = {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return Response(200, to_csv(rows).encode(), headers)
