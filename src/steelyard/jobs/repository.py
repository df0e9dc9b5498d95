"""All SQL about jobs. Reads for people take a checked project id; the platform's own go by job id."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import NotFound
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason
from steelyard.storage.tables import (
    AllocationRow,
    AttemptRow,
    CheckpointRow,
    EventRow,
    IdempotencyRow,
    JobRow,
    ModelVersionRow,
)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list holds; empty fields don't filter."""

    states: tuple[JobState, ...] = ()
    type: str | None = None
    name: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    parent: str | None = None
    """Only this job's children."""
    children: bool = False
    """Children too. Where neither is said, only jobs that are no children."""


async def find_job(session: AsyncSession, project: ProjectId, job_id: str, *, lock: bool = False) -> JobRow:
    """Return a job of the project, locked for change if asked.

    Raises:
        NotFound: no such job in this project.
    """
    query = select(JobRow).where(JobRow.project_id == project, JobRow.id == job_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"no job {job_id!r} in project {project!r}; 'steelyard list' shows them", param="job")
    return row


async def lock_parent(session: AsyncSession, project: ProjectId, job_id: str) -> JobRow | None:
    """Return the parent of a job of the project, locked for change; None where it has none.

    Whoever locks both locks the parent first. A job's parent never changes.
    """
    known = select(JobRow.parent_id).where(JobRow.project_id == project, JobRow.id == job_id)
    parent_id = await session.scalar(known)
    return None if parent_id is None else await lock_job(session, parent_id)


async def family_of(session: AsyncSession, job_id: str) -> str:
    """Return the head of a job's family: its parent, or itself."""
    return await session.scalar(select(JobRow.parent_id).where(JobRow.id == job_id)) or job_id


async def lock_job(session: AsyncSession, job_id: str) -> JobRow:
    """Return a job locked for change, for the platform's own work.

    Raises:
        NotFound: no such job.
    """
    row = await session.scalar(select(JobRow).where(JobRow.id == job_id).with_for_update())
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    return row


async def list_jobs(
    session: AsyncSession, project: ProjectId, filter_: JobFilter, limit: int, after: str | None
) -> Sequence[tuple[JobRow, AttemptRow | None]]:
    """Return at most `limit` jobs, newest first, each with its newest attempt."""
    query = (
        select(JobRow, AttemptRow)
        .outerjoin(AttemptRow, AttemptRow.id == JobRow.current_attempt_id)
        .where(*_conditions(project, filter_))
        .order_by(JobRow.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(JobRow.id < after)
    rows = await session.execute(query)
    return [(row[0], row[1]) for row in rows]


async def list_ids(session: AsyncSession, project: ProjectId, filter_: JobFilter, limit: int) -> list[str]:
    """Return ids of matching jobs, newest first."""
    query = select(JobRow.id).where(*_conditions(project, filter_)).order_by(JobRow.id.desc()).limit(limit)
    return list(await session.scalars(query))


async def attempts_of(session: AsyncSession, job_id: str) -> Sequence[AttemptRow]:
    """Return a job's attempts, oldest first."""
    query = select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)
    return list(await session.scalars(query))


async def find_attempt(session: AsyncSession, attempt_id: str, *, lock: bool = False) -> AttemptRow:
    """Return an attempt.

    Raises:
        NotFound: no such attempt.
    """
    query = select(AttemptRow).where(AttemptRow.id == attempt_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"no attempt {attempt_id!r}")
    return row


async def attempt_by_launch(session: AsyncSession, job_id: str, launch_key: str) -> AttemptRow | None:
    """Return the attempt that a launch of the workflow made, if it did already."""
    query = select(AttemptRow).where(AttemptRow.job_id == job_id, AttemptRow.launch_key == launch_key)
    return await session.scalar(query)


async def checkpoints_of(session: AsyncSession, job_id: str) -> Sequence[CheckpointRow]:
    """Return a job's checkpoints, newest first.

    A later epoch is newer whatever its step: a retry from an earlier checkpoint leaves later steps behind.
    """
    query = (
        select(CheckpointRow)
        .where(CheckpointRow.job_id == job_id)
        .order_by(CheckpointRow.epoch.desc(), CheckpointRow.step.desc())
    )
    return list(await session.scalars(query))


async def events_of(session: AsyncSession, job_id: str, after: int, limit: int) -> Sequence[EventRow]:
    """Return events with an id above `after`, oldest first."""
    query = (
        select(EventRow)
        .where(EventRow.job_id == job_id, EventRow.id > after)
        .order_by(EventRow.id)
        .limit(limit)
    )
    return list(await session.scalars(query))


async def find_idempotency(session: AsyncSession, project: ProjectId, key: str) -> IdempotencyRow | None:
    """Return what was stored under a key."""
    query = select(IdempotencyRow).where(IdempotencyRow.project_id == project, IdempotencyRow.key == key)
    return await session.scalar(query)


async def creator_of(session: AsyncSession, job_id: str) -> str | None:
    """Return who submitted a job."""
    return await session.scalar(select(JobRow.created_by).where(JobRow.id == job_id))


async def model_version_of(session: AsyncSession, job: JobRow) -> ModelVersionRow | None:
    """Return the model version that the job's present run made; of a family, the one that its result is."""
    if job.type in FAMILY_TYPES:
        chosen = (job.family_end or {}).get("chosen_job")
        if chosen is None:
            return None
        query = (
            select(ModelVersionRow)
            .join(JobRow, JobRow.id == ModelVersionRow.job_id)
            .where(JobRow.id == chosen, ModelVersionRow.run_number == JobRow.run_number)
        )
        return await session.scalar(query)
    query = select(ModelVersionRow).where(
        ModelVersionRow.job_id == job.id, ModelVersionRow.run_number == job.run_number
    )
    return await session.scalar(query)


async def child_counts(session: AsyncSession, job: JobRow) -> dict[str, int]:
    """Return how many children of a job are in which state; those that were pruned stand apart."""
    if job.type not in FAMILY_TYPES:
        return {}
    pruned = (JobRow.state == JobState.CANCELLED) & (JobRow.status_reason == Reason.PRUNED)
    word = case((pruned, literal(Reason.PRUNED.value)), else_=JobRow.state)
    query = select(word, func.count()).where(JobRow.parent_id == job.id).group_by(word).order_by(word)
    return {row[0]: row[1] for row in await session.execute(query)}


async def live_runs(session: AsyncSession) -> Sequence[JobRow]:
    """Return every job that is not over."""
    query = select(JobRow).where(JobRow.state.not_in(TERMINAL_STATES))
    return list(await session.scalars(query.options(load_only(JobRow.id, JobRow.run_number, JobRow.type))))


async def set_priority_of_children(session: AsyncSession, parent_id: str, priority: int) -> None:
    """Give all children that are not over a new priority, in one statement."""
    over = [str(state) for state in TERMINAL_STATES]
    await session.execute(_PRIORITY, {"parent": parent_id, "priority": priority, "over": over})


_PRIORITY = text(
    """
    WITH live AS (
        SELECT id FROM jobs WHERE parent_id = :parent AND state <> ALL (CAST(:over AS TEXT[]))
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET priority = :priority FROM live WHERE jobs.id = live.id
    """
)


async def allocations_of(session: AsyncSession, job_id: str) -> Sequence[AllocationRow]:
    """Return what a job holds."""
    return list(await session.scalars(select(AllocationRow).where(AllocationRow.job_id == job_id)))


def _conditions(project: ProjectId, filter_: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [JobRow.project_id == project]
    if filter_.parent is not None:
        conditions.append(JobRow.parent_id == filter_.parent)
    elif not filter_.children:
        conditions.append(JobRow.parent_id.is_(None))
    if filter_.states:
        conditions.append(JobRow.state.in_(filter_.states))
    if filter_.type:
        conditions.append(JobRow.type == filter_.type)
    if filter_.name:
        conditions.append(JobRow.name == filter_.name)
    if filter_.tags:
        conditions.append(JobRow.tags.contains(dict(filter_.tags)))
    return conditions
