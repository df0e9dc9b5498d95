"""Keeping budgets, the worker's housekeeping: warn, pause, resume, give back what nobody uses any more."""

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import audit
from steelyard.governance.identity import SYSTEM
from steelyard.governance.ledger import accounting, repository
from steelyard.governance.ledger.prices import ceiling
from steelyard.governance.ledger.standing import Crossing, Standing, crossings
from steelyard.jobs.costs import demand_of_job, refusal_to_run, release_job
from steelyard.jobs.events import append_event
from steelyard.jobs.holds import held_jobs, hold_for_budget, holdable_jobs, resume_from_budget
from steelyard.jobs.metering import MeteringService
from steelyard.jobs.repository import lock_job
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import BudgetExceeded
from steelyard.specs.budgets import UNITS, Unit, plain
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.storage.database import Database
from steelyard.storage.tables import AllocationRow, AttemptMeterRow, AttemptRow, JobRow

_WORKING = (JobState.STARTING, JobState.RUNNING, JobState.RECOVERING)
_log = structlog.get_logger()


class BudgetKeeper:
    """Rounds over all budgets. Each step is a transaction of its own and safe to repeat, so any number of
    workers may run rounds, and die in them."""

    def __init__(self, database: Database, metering: MeteringService, clock: Clock = utc_now) -> None:
        self._database = database
        self._metering = metering
        self._clock = clock

    async def run_round(self) -> None:
        """Meter what runs, hold projects to their limits, let go on what was held, give back leftovers."""
        await self._metering.advance()
        async with self._database.transaction() as session:
            projects = await repository.budgeted_projects(session)
        for project_id in projects:
            await self._keep(project_id)
        await self._resume_held()
        await self.reconcile()

    async def reconcile(self) -> int:
        """Release what is held for jobs that are over or paused, and close the meters of ended attempts.

        Moves do both themselves; this is for what a fault may have left. Returns how many it found.
        """
        async with self._database.transaction() as session:
            jobs, attempts = await _leftover_jobs(session), await _leftover_meters(session)
        for job_id in jobs:
            async with self._database.transaction() as session:
                job = await lock_job(session, job_id)
                if _holds_nothing(job):
                    await release_job(session, job, self._clock())
        for attempt_id in attempts:
            async with self._database.transaction() as session:
                await accounting.end_attempt(session, attempt_id, self._clock())
        return len(jobs) + len(attempts)

    async def _keep(self, project_id: str) -> None:
        async with self._database.transaction() as session:
            standing = await repository.standing_of(session, project_id, self._clock())
            passed = [each for each in crossings(standing) if await _note(session, standing, each)]
        for crossing in passed:
            await self._tell_jobs(standing, crossing)
        if not any(_is_used_up(standing, unit) for unit in UNITS):
            return
        async with self._database.transaction() as session:
            jobs = await holdable_jobs(session, project_id)
        for job_id in jobs:
            await self._hold(job_id)

    async def _hold(self, job_id: str) -> None:
        async with self._database.transaction() as session:
            job = await lock_job(session, job_id)
            sentence = await refusal_to_run(session, job, self._clock())
            if sentence is not None and await hold_for_budget(session, job, sentence, self._clock()):
                _log.info("paused: the budget is used up", job_id=job_id, project=job.project_id)

    async def _tell_jobs(self, standing: Standing, crossing: Crossing) -> None:
        """Tell the jobs that spend. A transaction each: their locks have no order among themselves."""
        async with self._database.transaction() as session:
            query = select(JobRow.id).where(
                JobRow.project_id == standing.project_id, JobRow.state.in_(_WORKING)
            )
            jobs = list(await session.scalars(query))
        for job_id in jobs:
            async with self._database.transaction() as session:
                job = await lock_job(session, job_id)
                await append_event(
                    session, job, f"budget.{crossing.kind}_limit", _sentence(standing, crossing),
                    level="warn", data={"unit": crossing.unit, "limit": plain(crossing.amount)},
                )  # fmt: skip

    async def _resume_held(self) -> None:
        """Let jobs go on that fit again: the highest priority first, and none keeps a smaller one waiting."""
        async with self._database.transaction() as session:
            fitting = [job.id for job in await held_jobs(session) if await self._fits(session, job)]
        for job_id in fitting:
            try:
                async with self._database.transaction() as session:
                    await resume_from_budget(session, await lock_job(session, job_id), self._clock())
            except BudgetExceeded:
                _log.info("still held: what was left is taken", job_id=job_id)

    async def _fits(self, session: AsyncSession, job: JobRow) -> bool:
        standing = await repository.standing_of(session, job.project_id, self._clock())
        price = await ceiling(session, job.spec)
        demand = await demand_of_job(session, job)
        return (
            standing.refusal(demand, price.per_gpu_hour) is None
            and standing.exhausted(demand.amount(price.per_gpu_hour)) is None
        )


async def _note(session: AsyncSession, standing: Standing, crossing: Crossing) -> bool:
    if not await repository.note_crossing(session, standing.project_id, standing.period, crossing):
        return False
    await audit.record(
        session, SYSTEM, f"budget.{crossing.kind}_limit", "budget", standing.project_id,
        project_id=standing.project_id,
        detail={
            "unit": crossing.unit,
            "limit": plain(crossing.amount),
            "spent": plain(round(standing.spent.of(crossing.unit), 6)),
            "starts_on": str(standing.period.first),
        },
    )  # fmt: skip
    return True


def _sentence(standing: Standing, crossing: Crossing) -> str:
    spent = plain(round(standing.spent.of(crossing.unit), 4))
    words = "GPU-hours" if crossing.unit == "gpu_hours" else "of money"
    return (
        f"project {standing.project_id} has spent {spent} {words} since {standing.period.first}, past its"
        f" {crossing.kind} limit of {plain(crossing.amount)}"
    )


def _is_used_up(standing: Standing, unit: Unit) -> bool:
    limit = standing.limit(unit)
    return limit is not None and standing.spent.of(unit) >= limit


def _holds_nothing(job: JobRow) -> bool:
    state = JobState(job.state)
    return state in TERMINAL_STATES or state is JobState.PAUSED


async def _leftover_jobs(session: AsyncSession) -> list[str]:
    """Return jobs that hold a reservation and have no right to."""
    query = select(JobRow.id).where(
        JobRow.id.in_(await repository.open_reservations(session)),
        JobRow.state.in_([*TERMINAL_STATES, JobState.PAUSED]),
    )
    return list(await session.scalars(query.order_by(JobRow.id)))


async def _leftover_meters(session: AsyncSession) -> list[str]:
    """Return attempts that have ended and are still metered, and places that nobody holds."""
    holds = select(AllocationRow.job_id).where(AllocationRow.job_id == AttemptMeterRow.job_id).exists()
    query = (
        select(AttemptMeterRow.attempt_id)
        .outerjoin(AttemptRow, AttemptRow.id == AttemptMeterRow.attempt_id)
        .where(
            ~AttemptMeterRow.closed,
            (AttemptRow.state == "ended") | ((AttemptMeterRow.kind != "attempt") & ~holds),
        )
    )
    return list(await session.scalars(query.order_by(AttemptMeterRow.attempt_id)))
