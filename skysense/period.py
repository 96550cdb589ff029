"""Periods: a year, a month, a day, or two days, as a pair of ISO days."""

import datetime as dt
from typing import Any

from skysense.checks import shown
from skysense.errors import RegionError

EARLIEST = dt.date(2000, 1, 1)
"""No sensor here is older."""


def checked_period(time: str | tuple[str, str] | Any) -> tuple[str, str]:
    """A period as (first, last) ISO days.

    Args:
        time: A year, a month, a day, a pair of days (strings or dates), or `first/last` as text.

    Raises:
        RegionError: If it is not a period since 2000 with its days in order.
    """
    if isinstance(time, str) and "/" in time:
        time = tuple(time.split("/"))
    parts = time if isinstance(time, tuple | list) else (time,)
    try:
        if any(isinstance(part, dict | set | tuple | list | bool) for part in parts):
            raise TypeError("not days")  # noqa: TRY301
        pieces = [_day(str(part)) for part in parts]
        if not 1 <= len(pieces) <= 2:
            raise ValueError(f"{len(pieces)} parts")  # noqa: TRY301
        first, last = _first_day(pieces[0]), _last_day(pieces[-1])
    except (TypeError, ValueError, OverflowError) as error:
        raise RegionError(
            f"{shown(time)} is not a period. Give a year ('2024') or (first, last) ISO days, "
            "such as ('2024-03-01', '2024-10-31')."
        ) from error
    if first > last:
        raise RegionError(f"The period ends ({last}) before it begins ({first}). Swap the days.")
    if first < EARLIEST:
        raise RegionError(
            f"The period begins in {first.year}; no sensor here is older than {EARLIEST.year}. "
            "Choose a later first day."
        )
    return first.isoformat(), last.isoformat()


def _day(text: str) -> str:
    """The day of a moment such as 2023-06-01T10:30; anything else as it is."""
    return text[:10] if text[10:11] in {"T", " "} else text


def _first_day(text: str) -> dt.date:
    year, month, day = [*(int(v) for v in text.split("-")), 1, 1][:3]
    return dt.date(year, month, day)


def _last_day(text: str) -> dt.date:
    if text.count("-") == 2:
        return dt.date.fromisoformat(text)
    first = _first_day(text)
    months = 12 if "-" not in text else 1
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    return dt.date(year, month + 1, 1) - dt.timedelta(days=1)


__all__ = ["EARLIEST", "checked_period"]
