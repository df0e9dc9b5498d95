"""How far an attempt's use is charged. Pure.

A lease begins at the last posted moment and covers one lease interval; use that no lease covers is never
charged. So a clock that jumps forward, an api that was away, or a budget that has run out and renews no
lease: each can cost one lease interval at most. A clock that is set back charges nothing until it has caught
up with what was posted.
"""

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

DEFAULT_LEASE = timedelta(minutes=10)
MeterKind = Literal["attempt", "place", "left"]
"""Of an attempt; of a place that a job holds while none of its attempts runs; of such a place that was given
back, whose last seconds are to be posted."""


@dataclass(frozen=True)
class Share:
    """What an attempt holds of one flavor, over all its nodes."""

    flavor: str
    gpus: int


@dataclass(frozen=True)
class Meter:
    """A meter: what is held, until when its use is posted, until when it may be charged.

    Of an attempt, or of a place between attempts, which then has an id of its own in `attempt_id`.
    """

    attempt_id: str
    project_id: str
    job_id: str
    reservation_id: str
    shares: tuple[Share, ...]
    posted_until: datetime
    leased_until: datetime
    ticks: int
    kind: MeterKind = "attempt"

    def due(self, now: datetime) -> tuple[datetime, datetime] | None:
        """Return the span that is to be charged now."""
        until = min(now, self.leased_until)
        return (self.posted_until, until) if until > self.posted_until else None

    def posted(self, until: datetime) -> "Meter":
        """Return the meter after a span up to `until` was posted."""
        return dataclasses.replace(self, posted_until=until, ticks=self.ticks + 1)

    def renewed(self, now: datetime, lease: timedelta) -> "Meter":
        """Return the meter with a new lease from now on; a gap that no lease covered is skipped."""
        since = max(now, self.posted_until)
        return dataclasses.replace(self, posted_until=since, leased_until=since + lease)
