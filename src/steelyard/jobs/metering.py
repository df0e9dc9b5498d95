"""Metering attempts while they run: with their own reports, and by the worker where those fail to come."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from steelyard.governance.ledger import accounting, repository
from steelyard.governance.ledger.accounting import Tick
from steelyard.jobs.holds import hold_for_budget
from steelyard.jobs.repository import family_of, lock_job
from steelyard.kit.clock import Clock, utc_now
from steelyard.storage.database import Database

_MAX_TICK_SECONDS = 30.0
_TICKS_PER_LEASE = 4


@dataclass(frozen=True)
class Renewal:
    """What is left of the lease, and whether the budget stops the attempt."""

    lease_seconds: float
    stop: bool


class MeteringService:
    """Posts the use of attempts. Any number may do it at once: each moment is posted by one of them.

    Args:
        lease_seconds: how long an attempt may run, and be charged for, after what was posted last.
    """

    def __init__(self, database: Database, lease_seconds: float, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = timedelta(seconds=lease_seconds)
        self._every = timedelta(seconds=min(_MAX_TICK_SECONDS, lease_seconds / _TICKS_PER_LEASE))
        self._clock = clock

    def is_due(self, posted_until: datetime | None) -> bool:
        """Whether it is time to post again; never where there is no meter."""
        return posted_until is not None and self._clock() - posted_until >= self._every

    async def renew(self, attempt_id: str, job_id: str) -> Renewal | None:
        """Post the use of an attempt that has just reported, and renew its lease; None without a meter.

        A budget that has run out renews nothing: the job is paused, and what is left of the lease is all.
        """
        now = self._clock()
        async with self._database.transaction() as session:
            tick = await accounting.tick(session, attempt_id, now, renewing=self._lease)
        if tick is None:
            return None
        await self._hold_if_exhausted(tick, job_id)
        return Renewal(self.lease_left(tick.leased_until), stop=tick.exhausted is not None)

    async def advance(self) -> int:
        """Post the use of all attempts and places that have not been posted for a while; return how many."""
        async with self._database.transaction() as session:
            due = await repository.due_meters(session, self._clock() - self._every)
        for meter_id, kind in due:
            # Nobody reports for a place, so its lease is ours to renew.
            renewing = self._lease if kind == "place" else None
            async with self._database.transaction() as session:
                tick = await accounting.tick(session, meter_id, self._clock(), renewing=renewing)
            if tick is not None:
                await self._hold_if_exhausted(tick, tick.job_id)
        return len(due)

    def lease_left(self, leased_until: datetime) -> float:
        """Return the seconds that a trainer may go on for, one lease at most."""
        return min(self._lease, max(timedelta(0), leased_until - self._clock())).total_seconds()

    async def _hold_if_exhausted(self, tick: Tick, job_id: str) -> None:
        if tick.exhausted is None:
            return
        sentence = tick.standing.sentence(tick.exhausted)
        async with self._database.transaction() as session:
            # Of a family the head first: it has the reservation, and its row is locked before its child's.
            for held in dict.fromkeys((await family_of(session, job_id), job_id)):
                await hold_for_budget(session, await lock_job(session, held), sentence, self._clock())
