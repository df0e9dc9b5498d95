"""One move of a job whose row is locked: its state, what it holds, who is told, and what it has reserved."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.hints import wake_scheduler
from steelyard.governance import audit
from steelyard.governance.identity import SYSTEM
from steelyard.governance.ledger.accounting import settle_places
from steelyard.jobs.costs import release_job
from steelyard.jobs.events import append_event
from steelyard.jobs.places import give_back
from steelyard.jobs.pokes import poke_family
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason
from steelyard.storage.tables import JobRow

_HAD_A_PLACE = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.RECOVERING)
_KEPT_WHEN_PAUSED = frozenset({Reason.BUDGET_EXHAUSTED, Reason.IDLE, Reason.FAMILY_PAUSED})
"""Why the platform itself pauses a job."""


async def make_move(
    session: AsyncSession,
    job: JobRow,
    target: JobState,
    reason: str | None,
    message: str,
    now: datetime,
    *,
    release: bool = False,
) -> None:
    """Move a job to a state that its own leads to, and give back what it holds if `release`, or if it ends.

    Where the platform had it pause or stop for a reason of its own, that reason stays. The ledger comes last.
    """
    before = JobState(job.state)
    if _keeps_reason(job, target):
        reason, message = job.status_reason, job.status_message or message
    set_state(job, target, reason, message, now)
    if (release or target in TERMINAL_STATES) and job.type not in FAMILY_TYPES:
        await give_back(session, job.id, now)
    if target is JobState.QUEUED:
        if before not in _HAD_A_PLACE or job.queued_at is None:
            # Who had to make way keeps its place in the line.
            job.queued_at = now
        await wake_scheduler(session)
    if before is not target:
        await _tell(session, job, target, reason, message)
    rests = target in TERMINAL_STATES or target is JobState.PAUSED
    if rests and job.parent_id is not None:
        await poke_family(session, job.id)
    await settle_places(session, job.id, now)
    if rests:
        await release_job(session, job, now)


def set_state(job: JobRow, target: JobState, reason: str | None, message: str, now: datetime) -> None:
    """Write a state with what goes with it."""
    job.state = target
    job.status_reason = reason
    job.status_message = message
    job.updated_at = now
    if target in TERMINAL_STATES:
        job.ended_at = now


def _keeps_reason(job: JobRow, target: JobState) -> bool:
    if target is JobState.PAUSED:
        return job.status_reason in _KEPT_WHEN_PAUSED
    if target is JobState.CANCELLED:
        return job.status_reason not in (None, Reason.CANCELLED_BY_USER)
    return False


async def _tell(
    session: AsyncSession, job: JobRow, target: JobState, reason: str | None, message: str
) -> None:
    level = "error" if target is JobState.FAILED else "warn" if target is JobState.RECOVERING else "info"
    await append_event(session, job, f"job.{target.value}", message, level=level, data={"reason": reason})
    if target in TERMINAL_STATES:
        await audit.record(
            session, SYSTEM, f"job.{target.value}", "job", job.id,
            project_id=job.project_id, detail={"reason": reason},
        )  # fmt: skip
