"""Jobs that their project's budget holds back: paused by the platform's own command, resumed by another."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.identity import SYSTEM
from steelyard.jobs.commands import apply_verb
from steelyard.jobs.pokes import poke_family
from steelyard.specs.states import JobState, Reason, Verb, refuse_verb
from steelyard.storage.tables import AttemptRow, JobRow


async def hold_for_budget(session: AsyncSession, job: JobRow, sentence: str, now: datetime) -> bool:
    """Pause a job, whose row is locked, because its budget is used up; False where it can't be paused.

    A running trainer hears of it with its next report, or by SIGTERM from its watcher, whichever is first.
    """
    if refuse_verb(Verb.PAUSE, JobState(job.state)) is not None:
        return False
    await tell_attempt(session, job, Reason.BUDGET_EXHAUSTED)
    await apply_verb(session, SYSTEM, job, Verb.PAUSE, now, arguments=Reason.BUDGET_EXHAUSTED)
    job.status_reason = Reason.BUDGET_EXHAUSTED
    job.status_message = f"{sentence}; it saves, pauses, and goes on by itself when there is money again"
    if job.parent_id is not None:
        await poke_family(session, job.id)
    return True


async def tell_attempt(session: AsyncSession, job: JobRow, reason: str) -> None:
    """Write down for a job's attempt, if one runs, why it is to leave; the first reason stands."""
    await session.execute(
        update(AttemptRow)
        .where(
            AttemptRow.id == job.current_attempt_id,
            AttemptRow.state != "ended",
            AttemptRow.stop_reason.is_(None),
        )
        .values(stop_reason=reason)
    )


async def resume_from_budget(session: AsyncSession, job: JobRow, now: datetime) -> bool:
    """Queue a job again that its budget had paused; False where somebody else was quicker.

    Raises:
        BudgetExceeded: it doesn't fit into what is left.
    """
    if job.state != JobState.PAUSED or job.status_reason != Reason.BUDGET_EXHAUSTED:
        return False
    await apply_verb(session, SYSTEM, job, Verb.RESUME, now, arguments="there is money again")
    return True


async def held_jobs(session: AsyncSession) -> list[JobRow]:
    """Return the jobs that budgets have paused, those of the highest priority first; children go on with
    their family."""
    query = select(JobRow).where(
        JobRow.state == JobState.PAUSED,
        JobRow.status_reason == Reason.BUDGET_EXHAUSTED,
        JobRow.parent_id.is_(None),
    )
    return list(await session.scalars(query.order_by(JobRow.priority.desc(), JobRow.id)))


async def holdable_jobs(session: AsyncSession, project_id: str) -> list[str]:
    """Return the jobs of a project that could be paused; of a family its head, which pauses the rest."""
    states = [state for state in JobState if refuse_verb(Verb.PAUSE, state) is None]
    query = select(JobRow.id).where(
        JobRow.project_id == project_id, JobRow.state.in_(states), JobRow.parent_id.is_(None)
    )
    return list(await session.scalars(query.order_by(JobRow.id)))
