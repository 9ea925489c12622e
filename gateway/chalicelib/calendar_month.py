"""Months in UTC, by which budgets and quotas are counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def month_of(moment: float) -> str:
    """Return the month of a moment in seconds since 1970, such as 2026-11."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m}"


def seconds_left(moment: float) -> int:
    """Return the whole seconds until the next month begins, at least 1."""
    now = datetime.fromtimestamp(moment, UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return max(int((following - now).total_seconds()), 1)
