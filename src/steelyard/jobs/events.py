"""Events of a job, in an order that a reader can follow by id."""

from typing import Any, Literal

import structlog
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.storage.tables import EventRow, JobRow

CHANNEL = "steelyard_events"
_log = structlog.get_logger()


async def append_event(
    session: AsyncSession,
    job: JobRow,
    type_: str,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    data: dict[str, Any] | None = None,
) -> None:
    """Write an event and wake those who follow the job.

    The job's lock is held to the end of the transaction, so that ids of one job become visible in order
    and a reader who has seen id N has seen all before it.
    """
    _log.info("job event", job_id=job.id, type=type_, message=message)
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:job_id, 1))"), {"job_id": job.id}
    )
    await session.execute(
        insert(EventRow).values(
            project_id=job.project_id,
            job_id=job.id,
            level=level,
            type=type_,
            message=message,
            data=data or {},
        )
    )
    await session.execute(text("SELECT pg_notify(:channel, :job_id)"), {"channel": CHANNEL, "job_id": job.id})
