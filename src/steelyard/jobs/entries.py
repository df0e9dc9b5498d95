"""Entering a job: its row, its first event, its audit row, and the promise to start it, in one act."""

from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.catalogue import DatasetVersion
from steelyard.governance import audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.jobs.events import append_event
from steelyard.jobs.lineage import lineage_of
from steelyard.jobs.pinning import Runnable
from steelyard.jobs.pokes import reach_family
from steelyard.kit.ids import new_id
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import JobState
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import JobRow

START_TOPIC = "start_job"


def new_job(
    created_by: str, project: ProjectId, spec: Runnable, dataset: DatasetVersion | None, now: datetime
) -> JobRow:
    """Return the row of a job that was just taken. `spec` is pinned, `dataset` what it was pinned to."""
    return JobRow(
        id=new_id("job"),
        project_id=project,
        name=spec.name,
        type=spec.type,
        state=JobState.VALIDATING,
        status_reason=None,
        status_message="accepted; data and base model are being made ready",
        priority=spec.priority,
        spec=spec.model_dump(mode="json"),
        lineage=lineage_of(spec, dataset),
        tags=dict(spec.tags),
        desired="run",
        command_sequence=0,
        run_number=0,
        epoch=0,
        stage="evaluate" if spec.type == "eval_only" else "train",
        attempts_count=0,
        retries_used=0,
        evictions=0,
        running_seconds=0.0,
        progress={},
        metrics={},
        prepared={},
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )


async def enter_job(
    session: AsyncSession, actor: Actor, job: JobRow, message: str, detail: dict[str, str] | None = None
) -> None:
    """Store a new job with event and audit row, and promise its workflow."""
    columns = {column.key: getattr(job, column.key) for column in JobRow.__table__.columns}
    await session.execute(insert(JobRow).values(**columns))
    await append_event(session, job, "job.submitted", message)
    await audit.record(
        session,
        actor,
        "job.submit",
        "job",
        job.id,
        project_id=job.project_id,
        after_digest=job.lineage["config"],
        detail=dict(detail) if detail else None,
    )
    await promise_run(session, job)


async def promise_run(session: AsyncSession, job: JobRow) -> None:
    """Promise the workflow of a job's present run."""
    if job.type in FAMILY_TYPES:
        await reach_family(session, job)
    else:
        await enqueue(session, START_TOPIC, job.id, {"run_number": job.run_number})
