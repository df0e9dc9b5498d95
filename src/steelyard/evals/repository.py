"""All SQL about suites and evaluations, scoped to a checked project."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.selection import Homes
from steelyard.governance.access import ProjectId
from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import NotFound
from steelyard.specs.evaluations import ADAPTER_BASE, Cell
from steelyard.storage.tables import EvaluationRow, JobRow, ProjectRow, SuiteRow


async def visible_suites(
    session: AsyncSession, project: ProjectId, *, name: str | None = None, removed: bool = False
) -> Sequence[SuiteRow]:
    """Return the suites of a project and of its organization, newest first within a name.

    Of one name the project's come before the organization's.
    """
    query = select(SuiteRow).where(_is_visible(project))
    if name is not None:
        query = query.where(SuiteRow.name == name)
    if not removed:
        query = query.where(SuiteRow.removed_at.is_(None))
    return list(
        await session.scalars(
            query.order_by(SuiteRow.name, SuiteRow.project_id.is_(None), SuiteRow.id.desc())
        )
    )


async def find_suite(
    session: AsyncSession, project: ProjectId, name: str, digest: str | None, *, removed: bool = False
) -> SuiteRow | None:
    """Return a version of a suite: the newest, or the one of a digest."""
    rows = await visible_suites(session, project, name=name, removed=removed)
    return next((row for row in rows if digest in (None, row.digest)), None)


async def add_suite(session: AsyncSession, values: dict[str, Any]) -> SuiteRow | None:
    """Insert a version of a suite; None where the owner has it already."""
    return await session.scalar(
        insert(SuiteRow).values(**values).on_conflict_do_nothing().returning(SuiteRow)
    )


async def same_suite(
    session: AsyncSession, project: ProjectId, organization: str | None, name: str, digest: str
) -> SuiteRow:
    """Return the version that an owner has."""
    mine = SuiteRow.project_id == project
    owner = SuiteRow.organization_id == organization if organization else mine
    return (
        await session.scalars(select(SuiteRow).where(owner, SuiteRow.name == name, SuiteRow.digest == digest))
    ).one()


async def known_result(session: AsyncSession, project: ProjectId, cell: Cell) -> EvaluationRow | None:
    """Return the newest result of an equal cell."""
    return await session.scalar(
        select(EvaluationRow)
        .where(
            EvaluationRow.project_id == project,
            EvaluationRow.model_digest == cell.model_digest,
            EvaluationRow.suite == cell.suite,
            EvaluationRow.suite_digest == cell.suite_digest,
            EvaluationRow.settings_digest == cell.settings_digest,
            EvaluationRow.settings[ADAPTER_BASE].astext.is_not_distinct_from(cell.settings.get(ADAPTER_BASE)),
        )
        .order_by(EvaluationRow.id.desc())
        .limit(1)
    )


async def add_evaluation(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Insert a result; False where this run of the job has it."""
    added = await session.scalar(
        insert(EvaluationRow).values(**values).on_conflict_do_nothing().returning(EvaluationRow.id)
    )
    return added is not None


async def find_evaluation(session: AsyncSession, project: ProjectId, evaluation_id: str) -> EvaluationRow:
    """Return one evaluation.

    Raises:
        NotFound: no such evaluation in this project.
    """
    row = await session.scalar(
        select(EvaluationRow).where(EvaluationRow.project_id == project, EvaluationRow.id == evaluation_id)
    )
    if row is None:
        raise NotFound(
            f"no evaluation {evaluation_id!r} in project {project!r}; 'steelyard evals list' shows them",
            param="evaluation",
        )
    return row


async def list_evaluations(
    session: AsyncSession,
    project: ProjectId,
    *,
    limit: int,
    after: str | None,
    job: str | None = None,
    model_digest: str | None = None,
    suite: str | None = None,
) -> Sequence[EvaluationRow]:
    """Return evaluations, newest first."""
    conditions: list[ColumnElement[bool]] = [EvaluationRow.project_id == project]
    if after is not None:
        conditions.append(EvaluationRow.id < after)
    if job is not None:
        conditions.append(EvaluationRow.job_id == job)
    if model_digest is not None:
        conditions.append(EvaluationRow.model_digest == model_digest)
    if suite is not None:
        conditions.append(EvaluationRow.suite == suite)
    query = select(EvaluationRow).where(*conditions).order_by(EvaluationRow.id.desc()).limit(limit)
    return list(await session.scalars(query))


async def results_of_model(
    session: AsyncSession, project: ProjectId, model_digest: str
) -> Sequence[EvaluationRow]:
    """Return all results of a model: of each suite, content and settings the newest of most samples."""
    query = (
        select(EvaluationRow)
        .ext(distinct_on(EvaluationRow.suite, EvaluationRow.suite_digest, EvaluationRow.settings_digest))
        .where(EvaluationRow.project_id == project, EvaluationRow.model_digest == model_digest)
        .order_by(
            EvaluationRow.suite,
            EvaluationRow.suite_digest,
            EvaluationRow.settings_digest,
            EvaluationRow.n.desc(),
            EvaluationRow.id.desc(),
        )
    )
    return list(await session.scalars(query))


async def result_alike(
    session: AsyncSession, project: ProjectId, model_digest: str, row: EvaluationRow
) -> EvaluationRow | None:
    """Return another model's newest result of the same suite, content and settings as a result."""
    query = select(EvaluationRow).where(
        EvaluationRow.project_id == project,
        EvaluationRow.model_digest == model_digest,
        EvaluationRow.suite == row.suite,
        EvaluationRow.suite_digest == row.suite_digest,
        EvaluationRow.settings_digest == row.settings_digest,
    )
    return await session.scalar(query.order_by(EvaluationRow.id.desc()).limit(1))


async def homes_of(session: AsyncSession, project: ProjectId, trained_by: str | None) -> Homes:
    """Return what suites hold now, for a model that a job has trained."""
    newest: dict[str, str] = {}
    for row in await visible_suites(session, project):
        newest.setdefault(row.name, row.digest)
    job = None
    if trained_by is not None:
        job = await session.scalar(
            select(JobRow).where(JobRow.project_id == project, JobRow.id == trained_by)
        )
    if job is None:
        return Homes(newest)
    dataset = job.prepared.get("dataset")
    model: dict[str, str | None] = job.spec.get("model") or {}
    template = model.get("chat_template")
    return Homes(
        newest,
        {"digest": dataset["digest"], "format": dataset["format"]} if dataset else None,
        digest_bytes(template.encode()) if template else None,
    )


async def organization_suites(session: AsyncSession, project: ProjectId) -> dict[str, str]:
    """Return the digest of the newest version of each suite that the project's organization has."""
    newest: dict[str, str] = {}
    for row in await visible_suites(session, project):
        if row.project_id is None:
            newest.setdefault(row.name, row.digest)
    return newest


def _is_visible(project: ProjectId) -> ColumnElement[bool]:
    organization = select(ProjectRow.organization_id).where(ProjectRow.id == project).scalar_subquery()
    return or_(SuiteRow.project_id == project, SuiteRow.organization_id == organization)
