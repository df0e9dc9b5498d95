"""All SQL about registered models, scoped to a checked project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import NotFound
from steelyard.storage.tables import (
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    JobRow,
    LineageStatementRow,
    ModelVersionRow,
    ProjectRow,
    SuiteRow,
)


@dataclass(frozen=True)
class ModelRecord:
    """All that is stored of one version."""

    version: ModelVersionRow
    job: JobRow
    statement: LineageStatementRow | None
    evaluations: Sequence[EvaluationRow]
    """The results that the job's run has."""
    suites: Mapping[str, SuiteRow]
    """Suites of files that the lineage names, by digest."""


async def get_record(session: AsyncSession, project: ProjectId, name: str, version: int) -> ModelRecord:
    """Return a version with its job and statement.

    Raises:
        NotFound: no such version in the project.
    """
    row = await session.get(ModelVersionRow, (project, name, version))
    if row is None:
        raise NotFound(
            f"no model {name}@{version} in project {project!r}; 'steelyard models list' shows them"
        )
    job = await session.get_one(JobRow, row.job_id)
    statement = await session.get(LineageStatementRow, (project, name, version))
    suites = await _suites_of(session, project, row.lineage)
    return ModelRecord(row, job, statement, await evaluations_of_run(session, job), suites)


async def attempts_of_run(session: AsyncSession, job: JobRow) -> Sequence[str]:
    """Return the ids of the attempts that made a job's present run, oldest first."""
    rows = await session.execute(
        select(AttemptRow.id, AttemptRow.launch_key)
        .where(AttemptRow.job_id == job.id)
        .order_by(AttemptRow.number)
    )
    return [row.id for row in rows if row.launch_key.startswith(f"{job.run_number}:")]


async def evaluations_of_run(session: AsyncSession, job: JobRow) -> Sequence[EvaluationRow]:
    """Return what a job's present run was measured to be, in the order of suites."""
    query = (
        select(EvaluationRow)
        .where(EvaluationRow.job_id == job.id, EvaluationRow.run_number == job.run_number)
        .order_by(EvaluationRow.suite, EvaluationRow.subject)
    )
    return list(await session.scalars(query))


async def _suites_of(
    session: AsyncSession, project: ProjectId, lineage: Mapping[str, str]
) -> Mapping[str, SuiteRow]:
    digests = {digest for name, digest in lineage.items() if name.startswith("suite.")}
    if not digests:
        return {}
    organization = select(ProjectRow.organization_id).where(ProjectRow.id == project).scalar_subquery()
    query = select(SuiteRow).where(
        SuiteRow.digest.in_(digests),
        or_(SuiteRow.project_id == project, SuiteRow.organization_id == organization),
    )
    return {row.digest: row for row in await session.scalars(query)}


async def newest_checkpoint(session: AsyncSession, job_id: str) -> tuple[str, str] | None:
    """Return path and manifest digest of a job's newest checkpoint."""
    row = await session.scalar(
        select(CheckpointRow)
        .where(CheckpointRow.job_id == job_id)
        .order_by(CheckpointRow.epoch.desc(), CheckpointRow.step.desc())
        .limit(1)
    )
    return None if row is None else (row.path, row.manifest_digest)
