"""A bucket that doesn't answer, as the job that waits for it shows it."""

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.jobs.events import append_event
from steelyard.kit.errors import SteelyardError
from steelyard.specs.states import JobState, Reason
from steelyard.storage.tables import JobRow

_SHOWN_IN = frozenset(
    {JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.RECOVERING, JobState.RESUMING}
)
"""Elsewhere the reason says why people or the platform stopped it, and stays."""


async def note_outage(session: AsyncSession, job: JobRow, error: SteelyardError) -> None:
    """Show on a locked job why it doesn't get on; an outage is one event, however often it is met."""
    if job.state not in _SHOWN_IN or job.status_reason == Reason.OBJECT_STORE_UNAVAILABLE:
        return
    message = f"{error.message}; nothing is lost: what was written is on its node's disk"
    job.status_reason, job.status_message = Reason.OBJECT_STORE_UNAVAILABLE, message
    await append_event(
        session, job, "object_store.unavailable", message,
        level="warn", data={"code": error.code, "retryable": error.retryable},
    )  # fmt: skip


def note_answer(job: JobRow) -> None:
    """Show on a locked job that the bucket answers again."""
    if job.status_reason != Reason.OBJECT_STORE_UNAVAILABLE:
        return
    if job.state == JobState.RUNNING:
        job.status_reason, job.status_message = Reason.TRAINING, "training"
    else:
        job.status_reason, job.status_message = None, "the object store answers again"
