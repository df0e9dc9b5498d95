"""Events of a job, in an order that a reader can follow by id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.storage.tables import EventRow, JobRow

CHANNEL = "steelyard_events"
_log = structlog.get_logger()


@dataclass(frozen=True)
class Happening:
    """What happened to one of several jobs."""

    project_id: str
    job_id: str
    message: str
    data: dict[str, Any]


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


async def append_events(
    session: AsyncSession,
    type_: str,
    happenings: Sequence[Happening],
    *,
    level: Literal["info", "warn", "error"] = "info",
) -> None:
    """As `append_event`, for one event each of several jobs, in the same few statements for any number."""
    ordered = sorted(happenings, key=lambda each: each.job_id)
    for each in ordered:
        _log.info("job event", job_id=each.job_id, type=type_, message=each.message)
    ids = [each.job_id for each in ordered]
    await session.execute(_LOCKS, {"ids": ids})
    await session.execute(
        insert(EventRow),
        [
            {
                "project_id": each.project_id,
                "job_id": each.job_id,
                "level": level,
                "type": type_,
                "message": each.message,
                "data": each.data,
            }
            for each in ordered
        ],
    )
    await session.execute(_NOTICES, {"channel": CHANNEL, "ids": ids})


# All who lock several jobs do so in the order of their ids.
_LOCKS = text(
    "SELECT count(pg_advisory_xact_lock(hashtextextended(id, 1))::TEXT)"
    " FROM (SELECT id FROM unnest(CAST(:ids AS TEXT[])) AS given(id) ORDER BY id OFFSET 0) AS ordered"
)
_NOTICES = text("SELECT count(pg_notify(:channel, id)::TEXT) FROM unnest(CAST(:ids AS TEXT[])) AS given(id)")
