"""How far an attempt's use is charged. Pure.

A lease begins at the last posted moment and covers one lease interval; use that no lease covers is never
charged. So a clock that jumps forward, an api that was away, or a budget that has run out and renews no
lease: each can cost one lease interval at most. A clock that is set back charges nothing until it has caught
up with what was posted.
"""

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Share:
    """What an attempt holds of one flavor, over all its nodes."""

    flavor: str
    gpus: int


@dataclass(frozen=True)
class Meter:
    """An attempt's meter: what it holds, until when its use is posted, until when it may be charged."""

    attempt_id: str
    project_id: str
    job_id: str
    reservation_id: str
    shares: tuple[Share, ...]
    posted_until: datetime
    leased_until: datetime
    ticks: int

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
