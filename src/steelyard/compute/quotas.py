"""Quotas: a project's part of each flavor, its weight, and where it stands beside the others."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.hints import wake_scheduler
from steelyard.compute.scheduler.pool import Pool
from steelyard.compute.scheduler.shares import Standing, Standings
from steelyard.compute.settings import read_settings, scheduler_policy
from steelyard.compute.snapshots import read_picture
from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.specs.access import Permission
from steelyard.specs.pool import IdlePolicy, PlanQuota, ProjectQuotas, QuotaChange, QuotaFigures
from steelyard.specs.states import JobState
from steelyard.storage.database import Database
from steelyard.storage.scopes import pool_view
from steelyard.storage.tables import FlavorRow, JobRow, ProjectRow, ProjectShareRow, QuotaRow

_LAST = 1e9
"""What stands for infinity, which JSON can't say: projects of weight 0 come after all others."""


class QuotaService:
    """Quotas are shares of one pool: whoever operates the installation deals them out, projects read them."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def show(self, actor: Actor, project: str) -> ProjectQuotas:
        """Return what a project may have, holds, lends, and has used lately.

        Raises:
            NotFound: no such project, or none of the actor's.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.QUOTA_READ)
            return await self._standing(session, checked)

    async def put(self, actor: Actor, project: str, flavor: str, change: QuotaChange) -> ProjectQuotas:
        """Set a project's quota of one flavor, and its weight where one is named.

        Raises:
            NotFound: no such project or flavor.
            PermissionDenied: the actor doesn't operate the installation.
            InvalidRequest: more would be lent than is nominal.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.QUOTA_WRITE)
            await _require(session, project, flavor)
            if change.lending_limit is not None and change.lending_limit > change.nominal:
                raise InvalidRequest("lending_limit must not be greater than nominal", param="lending_limit")
            now = self._clock()
            quota = change.model_dump(exclude={"weight"}) | {"updated_by": actor.id, "updated_at": now}
            before = await _stored(session, project, flavor)
            await session.execute(
                upsert(QuotaRow)
                .values(project_id=project, flavor=flavor, **quota)
                .on_conflict_do_update(index_elements=["project_id", "flavor"], set_=quota)
            )
            if change.weight is not None:
                await self._put_share(session, actor, project, {"weight": change.weight})
            after = await _stored(session, project, flavor)
            await audit.record_change(
                session, actor, "quota.set", "quota", project, before, after,
                project_id=project, detail={"flavor": flavor},
            )  # fmt: skip
            await wake_scheduler(session)
            return await self._standing(session, ProjectId(project))

    async def put_idle(self, actor: Actor, project: str, idle: IdlePolicy | None) -> ProjectQuotas:
        """Set what happens to a project's idle attempts; None: what the installation says.

        Raises:
            NotFound: no such project.
            PermissionDenied: the actor doesn't operate the installation.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.QUOTA_WRITE)
            await _require(session, project)
            rule = None if idle is None else idle.model_dump(mode="json")
            stored = await session.scalar(
                select(ProjectShareRow.idle).where(ProjectShareRow.project_id == project).with_for_update()
            )
            await self._put_share(session, actor, project, {"idle": rule})
            await audit.record_change(
                session, actor, "idle.set", "quota", project, stored, rule, project_id=project
            )
            return await self._standing(session, ProjectId(project))

    async def _put_share(
        self, session: AsyncSession, actor: Actor, project: str, values: dict[str, Any]
    ) -> None:
        values = {**values, "updated_by": actor.id, "updated_at": self._clock()}
        await session.execute(
            upsert(ProjectShareRow)
            .values(**{"project_id": project, "weight": 1.0, **values})
            .on_conflict_do_update(index_elements=["project_id"], set_=values)
        )

    async def _standing(self, session: AsyncSession, project: ProjectId) -> ProjectQuotas:
        idle = (await read_settings(session)).policy.idle
        own = await session.scalar(select(ProjectShareRow.idle).where(ProjectShareRow.project_id == project))
        queued = await session.scalar(
            select(func.count()).where(JobRow.project_id == project, JobRow.state == JobState.QUEUED)
        )
        mine, standings, used = await _read_standing(session, project, self._clock())
        return ProjectQuotas(
            project=project,
            weight=mine.weight,
            share=min(mine.share(), _LAST),
            score=min(standings.score(mine), _LAST),
            used_gpu_hours=used / 3600,
            queued_jobs=queued or 0,
            quotas=[_figures(mine, standings, flavor) for flavor in sorted({*mine.quotas, *mine.used})],
            idle=idle if own is None else IdlePolicy.model_validate(own, strict=False),
            idle_is_own=own is not None,
        )


async def _stored(session: AsyncSession, project: str, flavor: str) -> dict[str, Any] | None:
    """Return a quota as the database has it, with the project's weight; nobody else changes it meanwhile."""
    row = (
        await session.execute(
            select(QuotaRow.nominal, QuotaRow.borrowing_limit, QuotaRow.lending_limit)
            .where(QuotaRow.project_id == project, QuotaRow.flavor == flavor)
            .with_for_update()
        )
    ).one_or_none()
    weight = await session.scalar(select(ProjectShareRow.weight).where(ProjectShareRow.project_id == project))
    if row is None:
        return None
    return {
        "nominal": row.nominal,
        "borrowing_limit": row.borrowing_limit,
        "lending_limit": row.lending_limit,
        "weight": 1.0 if weight is None else weight,
    }


async def quota_effect(
    session: AsyncSession, project: ProjectId, flavors: Sequence[str], gpus: int, clock: Clock
) -> list[PlanQuota]:
    """Say what a job would do to the quotas of the flavors that could take it. Changes nothing.

    Args:
        flavors: those that the job may use; empty: any.
        gpus: of all its nodes together.
    """
    if gpus == 0:
        return []
    mine, standings, _ = await _read_standing(session, project, clock())
    there = {*standings.totals.flavors, *mine.quotas}
    known = sorted(there & set(flavors) if flavors else there)
    figures = [_figures(mine, standings, flavor) for flavor in known]
    return [_effect(each, gpus) for each in figures if each.flavor_gpus or each.nominal]


async def _read_standing(
    session: AsyncSession, project: ProjectId, now: datetime
) -> tuple[Standing, Standings, float]:
    """Return a project's standing, everybody's, and its decayed use in GPU-seconds."""
    policy = scheduler_policy((await read_settings(session)).policy)
    async with pool_view(session):
        snapshot = (await read_picture(session, now, policy, with_queue=False)).snapshot
    pool = Pool(snapshot.nodes, snapshot.flavors, snapshot.running, snapshot.now_seconds)
    standings = Standings(pool, snapshot.projects, snapshot.running, policy)
    used = next((each.decayed_gpu_seconds for each in snapshot.projects if each.name == project), 0.0)
    return standings.of(project), standings, used


def _effect(quota: QuotaFigures, gpus: int) -> PlanQuota:
    after = quota.held_gpus + gpus
    borrowed = max(0, after - quota.nominal)
    most = None if quota.borrowing_limit is None else quota.nominal + quota.borrowing_limit
    admissible = most is None or gpus <= most
    held = f"holds {quota.held_gpus} of {quota.nominal} guaranteed GPUs of {quota.flavor}"
    if not admissible:
        words = f"{held}; {gpus} are more than it may ever hold ({most}), so the job would wait for ever"
    elif most is not None and after > most:
        words = f"{held}; with {gpus} more it would pass what it may hold ({most}): the job waits for others"
    elif borrowed:
        words = f"{held}; with {gpus} more it would borrow {borrowed}, which their owners can have back"
    else:
        words = f"{held}; with {gpus} more it stays within them"
    return PlanQuota(
        flavor=quota.flavor,
        nominal=quota.nominal,
        held_gpus=quota.held_gpus,
        would_borrow_gpus=borrowed,
        admissible=admissible,
        message=words,
    )


async def _require(session: AsyncSession, project: str, flavor: str | None = None) -> None:
    if await session.get(ProjectRow, project) is None:
        raise NotFound(f"no project {project!r}; 'steelyard projects list' names them", param="project")
    if flavor is not None and await session.get(FlavorRow, flavor) is None:
        raise NotFound(f"no flavor {flavor!r}; 'steelyard pool show' names them", param="flavor")


def _figures(mine: Standing, standings: Standings, flavor: str) -> QuotaFigures:
    quota, held = mine.quota(flavor), mine.holds(flavor)
    total = standings.totals.flavors.get(flavor, (0, 0, 0))[0]
    others = sum(other.holds(flavor) for other in standings.all() if other is not mine)
    return QuotaFigures(
        flavor=flavor,
        nominal=quota.nominal,
        borrowing_limit=quota.borrowing_limit,
        lending_limit=quota.lending_limit,
        held_gpus=held,
        borrowed_gpus=max(0, held - quota.nominal),
        lent_gpus=max(0, min(quota.nominal - held, others - (total - quota.nominal))),
        flavor_gpus=total,
    )
