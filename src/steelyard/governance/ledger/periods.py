"""Periods of budgets, in days of UTC. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

_MONTHS = {"month": 1, "quarter": 3}


@dataclass(frozen=True)
class Period:
    """From `first` to `last`, both included."""

    first: date
    last: date

    def holds(self, day: date) -> bool:
        """Whether a day belongs to it."""
        return self.first <= day <= self.last

    def bounds(self) -> tuple[datetime, datetime]:
        """Return its first moment, and the first moment after it."""
        return _midnight(self.first), _midnight(self.last + timedelta(days=1))


def period_of(
    kind: Literal["month", "quarter", "fixed"],
    today: date,
    starts_on: date | None = None,
    ends_on: date | None = None,
) -> Period:
    """Return the period that a budget is in today; a fixed one whether or not today is in it."""
    if kind == "fixed":
        assert starts_on is not None
        assert ends_on is not None
        return Period(starts_on, ends_on)
    months = _MONTHS[kind]
    first = date(today.year, (today.month - 1) // months * months + 1, 1)
    return Period(first, _months_later(first, months) - timedelta(days=1))


def day_of(now: datetime) -> date:
    """Return the day of a moment, in UTC."""
    return now.astimezone(UTC).date()


def _months_later(first: date, months: int) -> date:
    month = first.month - 1 + months
    return date(first.year + month // 12, month % 12 + 1, 1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
