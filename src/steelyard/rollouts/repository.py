"""All SQL about aliases, their moves, promotions and approvals, scoped to a checked project."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import NotFound
from steelyard.rollouts.stages import Move
from steelyard.specs.promotions import OPEN_STATES, Alias, PromotionState
from steelyard.storage.tables import (
    AliasRow,
    ApprovalRow,
    JobRow,
    ModelVersionRow,
    PromotionRow,
    TransitionRow,
)


async def lock_alias(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> AliasRow | None:
    """Take the alias's lock, whether it points anywhere yet or not, and return it as it is now.

    Held to the end of the transaction. Whoever needs a promotion's lock too takes this one first.
    """
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 10))"),
        {"key": f"{project}/{model}@{alias}"},
    )
    return await find_alias(session, project, model, alias)


async def find_alias(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> AliasRow | None:
    """Return an alias, or None where it points nowhere yet."""
    return await session.get(AliasRow, (project, model, alias.value), populate_existing=True)


async def aliases_of(session: AsyncSession, project: ProjectId, model: str | None = None) -> list[AliasRow]:
    """Return the aliases of a model, or of all the project's models."""
    query = select(AliasRow).where(AliasRow.project_id == project)
    if model is not None:
        query = query.where(AliasRow.model == model)
    return list(await session.scalars(query.order_by(AliasRow.model, AliasRow.alias)))


async def find_version(
    session: AsyncSession, project: ProjectId, model: str, version: int
) -> ModelVersionRow:
    """Return a version as it is now.

    Raises:
        NotFound: no such version in the project.
    """
    row = await session.get(ModelVersionRow, (project, model, version), populate_existing=True)
    if row is None:
        raise NotFound(
            f"no model {model}@{version} in project {project!r}; 'steelyard models list' shows them",
            param="version",
        )
    return row


async def trainer_of(session: AsyncSession, version: ModelVersionRow) -> str:
    """Return the id of who submitted the job that made a version."""
    return await session.scalar(select(JobRow.created_by).where(JobRow.id == version.job_id)) or ""


async def moves_of(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> list[Move]:
    """Return an alias's moves, oldest first, as far as the order of versions goes."""
    rows = await session.execute(
        select(TransitionRow.kind, TransitionRow.to_version)
        .where(*_of(project, model, alias))
        .order_by(TransitionRow.sequence)
    )
    return [Move(row.kind, row.to_version) for row in rows]


async def reached(session: AsyncSession, project: ProjectId, model: str, version: int) -> frozenset[Alias]:
    """Return the aliases that have ever pointed to a version."""
    rows = await session.scalars(
        select(TransitionRow.alias)
        .where(
            TransitionRow.project_id == project,
            TransitionRow.model == model,
            TransitionRow.to_version == version,
        )
        .distinct()
    )
    return frozenset(Alias(row) for row in rows)


async def transitions_of(
    session: AsyncSession, project: ProjectId, model: str, alias: Alias, limit: int, before: int | None
) -> list[TransitionRow]:
    """Return moves of an alias, newest first, those with a sequence below `before`."""
    query = select(TransitionRow).where(*_of(project, model, alias))
    if before is not None:
        query = query.where(TransitionRow.sequence < before)
    return list(await session.scalars(query.order_by(TransitionRow.sequence.desc()).limit(limit)))


async def transition_at(
    session: AsyncSession, project: ProjectId, model: str, alias: Alias, moment: datetime
) -> TransitionRow | None:
    """Return the move that decided where an alias pointed at a moment, or None: nowhere yet."""
    return await session.scalar(
        select(TransitionRow)
        .where(*_of(project, model, alias), TransitionRow.at <= moment)
        .order_by(TransitionRow.sequence.desc())
        .limit(1)
    )


async def transition_by_key(session: AsyncSession, project: ProjectId, key: str) -> TransitionRow | None:
    """Return the move that a request with this idempotency key made."""
    return await session.scalar(
        select(TransitionRow).where(TransitionRow.project_id == project, TransitionRow.request_key == key)
    )


async def find_promotion(
    session: AsyncSession, project: ProjectId, promotion_id: str, *, lock: bool = False
) -> PromotionRow:
    """Return a promotion, locked to the end of the transaction where asked.

    Raises:
        NotFound: no such promotion in the project.
    """
    query = select(PromotionRow).where(PromotionRow.project_id == project, PromotionRow.id == promotion_id)
    if lock:
        query = query.with_for_update()
    row = await session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise NotFound(
            f"no promotion {promotion_id!r} in project {project!r}; 'steelyard approvals list' shows them"
        )
    return row


async def project_of_promotion(session: AsyncSession, promotion_id: str) -> tuple[ProjectId, str, Alias]:
    """Return whose a promotion is, its model and alias. For the platform's own processes alone.

    Raises:
        NotFound: no such promotion.
    """
    row = await session.get(PromotionRow, promotion_id)
    if row is None:
        raise NotFound(f"no promotion {promotion_id!r}")
    return ProjectId(row.project_id), row.model, Alias(row.alias)


async def promotion_by_key(session: AsyncSession, project: ProjectId, key: str) -> PromotionRow | None:
    """Return the promotion that a request with this idempotency key made."""
    return await session.scalar(
        select(PromotionRow).where(PromotionRow.project_id == project, PromotionRow.request_key == key)
    )


async def open_promotion(
    session: AsyncSession, project: ProjectId, model: str, version: int, alias: Alias
) -> PromotionRow | None:
    """Return the promotion of a version to an alias that is not over."""
    return await session.scalar(
        select(PromotionRow).where(
            PromotionRow.project_id == project,
            PromotionRow.model == model,
            PromotionRow.version == version,
            PromotionRow.alias == alias,
            PromotionRow.state.in_(OPEN_STATES),
        )
    )


async def open_ids(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> Sequence[str]:
    """Return the ids of all promotions to an alias that are not over."""
    return (
        await session.scalars(
            select(PromotionRow.id).where(
                PromotionRow.project_id == project,
                PromotionRow.model == model,
                PromotionRow.alias == alias,
                PromotionRow.state.in_(OPEN_STATES),
            )
        )
    ).all()


async def live_promotions(session: AsyncSession) -> Sequence[str]:
    """Return the ids of all promotions that are not over. For the platform's own processes alone."""
    return (await session.scalars(select(PromotionRow.id).where(PromotionRow.state.in_(OPEN_STATES)))).all()


async def search_promotions(
    session: AsyncSession,
    project: ProjectId,
    *,
    states: Sequence[PromotionState],
    model: str | None,
    limit: int,
    after: str | None,
) -> list[PromotionRow]:
    """Return promotions, newest first."""
    query = select(PromotionRow).where(PromotionRow.project_id == project)
    if states:
        query = query.where(PromotionRow.state.in_(states))
    if model is not None:
        query = query.where(PromotionRow.model == model)
    if after is not None:
        query = query.where(PromotionRow.id < after)
    return list(await session.scalars(query.order_by(PromotionRow.id.desc()).limit(limit)))


async def approvals_of(session: AsyncSession, promotion_id: str) -> list[ApprovalRow]:
    """Return what approvers said to a promotion, in the order in which they said it."""
    rows = await session.scalars(
        select(ApprovalRow)
        .where(ApprovalRow.promotion_id == promotion_id)
        .order_by(ApprovalRow.at, ApprovalRow.id)
    )
    return list(rows)


async def approval_counts(session: AsyncSession, promotions: Sequence[str]) -> dict[str, int]:
    """Return how many approvals each of these promotions has."""
    rows = await session.execute(
        select(ApprovalRow.promotion_id, func.count())
        .where(ApprovalRow.promotion_id.in_(promotions), ApprovalRow.verdict == "approve")
        .group_by(ApprovalRow.promotion_id)
    )
    return {row[0]: row[1] for row in rows}


async def append_transition(session: AsyncSession, transition: TransitionRow) -> datetime:
    """Write a move and let the alias make it. The alias's lock is held; return the moment.

    The database refuses a promotion that did not pass or was not approved, whoever calls this.
    """
    session.add(transition)
    await session.flush()
    await session.refresh(transition, ["at"])
    place = {"version": transition.to_version, "sequence": transition.sequence, "moved_at": transition.at}
    await session.execute(
        insert(AliasRow)
        .values(project_id=transition.project_id, model=transition.model, alias=transition.alias, **place)
        .on_conflict_do_update(index_elements=["project_id", "model", "alias"], set_=place)
    )
    return transition.at


def _of(project: ProjectId, model: str, alias: Alias):
    return (
        TransitionRow.project_id == project,
        TransitionRow.model == model,
        TransitionRow.alias == alias.value,
    )
