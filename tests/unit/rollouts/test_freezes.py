"""Freeze windows: spans, weekly ones over midnight, and clocks that are put forward."""

from datetime import UTC, datetime, time

import pytest
from pydantic import ValidationError

from steelyard.rollouts.freezes import frozen_until, thaw_of
from steelyard.specs.policies import SpanWindow, WeeklyWindow

SPAN = SpanWindow(starts_at=datetime(2026, 12, 20, tzinfo=UTC), ends_at=datetime(2027, 1, 3, tzinfo=UTC))
NIGHTS = WeeklyWindow(days=["friday"], starts=time(18), ends=time(8), time_zone="Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class TestSpan:
    @pytest.mark.parametrize(
        ("moment", "frozen"),
        [
            ("2026-12-19T23:59:59+00:00", False),
            ("2026-12-20T00:00:00+00:00", True),
            ("2027-01-02T23:59:59+00:00", True),
            ("2027-01-03T00:00:00+00:00", False),
        ],
    )
    def test_its_end_is_not_part_of_it(self, moment: str, frozen: bool) -> None:
        assert (frozen_until(SPAN, at(moment)) is not None) is frozen


class TestWeekly:
    @pytest.mark.parametrize(
        ("moment", "until"),
        [
            ("2026-11-27T17:59:00+01:00", None),
            ("2026-11-27T18:00:00+01:00", "2026-11-28T08:00:00+01:00"),
            ("2026-11-28T07:59:00+01:00", "2026-11-28T08:00:00+01:00"),
            ("2026-11-28T08:00:00+01:00", None),
            ("2026-11-28T19:00:00+01:00", None),
        ],
    )
    def test_it_may_go_over_midnight(self, moment: str, until: str | None) -> None:
        assert frozen_until(NIGHTS, at(moment)) == (at(until) if until else None)

    def test_it_stands_on_the_wall_clock_when_that_is_put_forward(self) -> None:
        window = WeeklyWindow(days=["saturday"], starts=time(20), ends=time(6), time_zone="Europe/Berlin")
        # The night to 2027-03-28 has no hour between two and three.
        assert frozen_until(window, at("2027-03-28T05:30:00+02:00")) == at("2027-03-28T06:00:00+02:00")
        assert frozen_until(window, at("2027-03-28T06:00:00+02:00")) is None

    def test_the_same_hour_twice_is_a_whole_day(self) -> None:
        window = WeeklyWindow(days=["sunday"], starts=time(0), ends=time(0), time_zone="UTC")
        assert frozen_until(window, at("2026-11-29T12:00:00+00:00")) == at("2026-11-30T00:00:00+00:00")


def test_of_several_the_latest_end_counts() -> None:
    now = at("2026-12-25T20:00:00+01:00")
    assert thaw_of([NIGHTS, SPAN], now) == SPAN.ends_at
    assert thaw_of([], now) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"kind":"span","starts_at":"2026-01-02T00:00:00Z","ends_at":"2026-01-01T00:00:00Z"}',
        '{"kind":"span","starts_at":"2026-01-01T00:00:00","ends_at":"2026-01-02T00:00:00"}',
    ],
)
def test_a_span_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        SpanWindow.model_validate_json(text)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", ""])
def test_a_time_zone_must_be_known(zone: str) -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        WeeklyWindow(days=["monday"], starts=time(1), ends=time(2), time_zone=zone)
