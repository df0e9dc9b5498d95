"""When a freeze window holds. Pure."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from steelyard.specs.policies import SpanWindow, WeeklyWindow

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def frozen_until(window: SpanWindow | WeeklyWindow, now: datetime) -> datetime | None:
    """Return when a window that holds at `now` ends, in UTC; None where it doesn't hold.

    A weekly window stands on the wall clock, so that it is an hour longer or shorter where the clock is put
    back or forward within it. Its end is not part of it.
    """
    if isinstance(window, SpanWindow):
        return window.ends_at.astimezone(UTC) if window.starts_at <= now < window.ends_at else None
    today = now.astimezone(ZoneInfo(window.time_zone)).date()
    ends = [
        end
        for day in (today - timedelta(days=1), today)
        if _DAYS[day.weekday()] in window.days
        for start, end in (_hours(window, day),)
        if start <= now < end
    ]
    return max(ends, default=None)


def thaw_of(windows: Iterable[SpanWindow | WeeklyWindow], now: datetime) -> datetime | None:
    """Return when it makes sense to look again: the latest end of all that hold, or None for none."""
    return max((end for window in windows if (end := frozen_until(window, now)) is not None), default=None)


def _hours(window: WeeklyWindow, day: date) -> tuple[datetime, datetime]:
    zone = ZoneInfo(window.time_zone)
    last_day = day if window.ends > window.starts else day + timedelta(days=1)
    start = datetime.combine(day, window.starts, zone)
    end = datetime.combine(last_day, window.ends, zone)
    return start.astimezone(UTC), end.astimezone(UTC)
