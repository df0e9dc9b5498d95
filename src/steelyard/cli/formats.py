"""Figures for people: durations, local times, sizes."""

from datetime import datetime

from steelyard.kit.clock import utc_now

_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")


def format_seconds(seconds: float) -> str:
    """Write a duration with its two greatest units: `42s`, `3m 05s`, `2h 10m`, `4d 3h`."""
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}h {minute:02}m"
    return f"{minutes}m {second:02}s" if minutes else f"{second}s"


def format_age(moment: datetime) -> str:
    """Write how long ago a moment was."""
    return format_seconds((utc_now() - moment).total_seconds())


def format_span(start: datetime | None, end: datetime | None) -> str:
    """Write the time from start to end, or until now; nothing where it hasn't begun."""
    return "" if start is None else format_seconds(((end or utc_now()) - start).total_seconds())


def format_time(moment: datetime) -> str:
    """Write a moment in the local zone; the date only where it isn't today's."""
    local = moment.astimezone()
    is_today = local.date() == utc_now().astimezone().date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")


def format_bytes(count: int) -> str:
    """Write a size with three digits: `2.1 MB`."""
    value = float(count)
    for unit in _SIZE_UNITS:
        if value < 1000 or unit == _SIZE_UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def format_figure(value: float) -> str:
    """Write a metric with four significant digits."""
    return f"{value:.4g}"


def format_rate(per_second: float) -> str:
    """Write tokens per second."""
    return f"{per_second / 1000:.1f}k tok/s" if per_second >= 1000 else f"{per_second:.0f} tok/s"


def spreadsheet_cell(value: str) -> str:
    """Return a value for CSV that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
