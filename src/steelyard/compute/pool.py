"""The pool for its operators: flavors, nodes, and the installation's settings."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.hints import wake_scheduler
from steelyard.compute.settings import read_settings
from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import NotFound
from steelyard.specs.access import Permission
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.pool import FlavorSpec, FlavorView, NodeView, PoolSettings, PoolView
from steelyard.specs.states import JobState
from steelyard.storage.database import Database
from steelyard.storage.tables import AllocationRow, FlavorRow, JobRow, NodeRow, PoolSettingsRow

NODE_LOST_AFTER = timedelta(seconds=60)
"""A node whose agent has been silent for so long gets no new work."""


class PoolService:
    """Reads and changes the pool. Only who operates the installation may; each act is audited."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def show(self, actor: Actor) -> PoolView:
        """Return settings, flavors, nodes, and how many jobs run and wait.

        Raises:
            PermissionDenied: the actor is no operator or auditor of the installation; so do all methods.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.POOL_READ)
            nodes = await _nodes(session, self._clock())
            counts = await session.execute(
                select(JobRow.state, func.count())
                .where(
                    JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)), JobRow.type.not_in(FAMILY_TYPES)
                )
                .group_by(JobRow.state)
            )
            jobs = {row[0]: int(row[1]) for row in counts}
            return PoolView(
                settings=await read_settings(session),
                flavors=await _flavors(session, nodes),
                nodes=nodes,
                queued_jobs=jobs.get(JobState.QUEUED, 0),
                running_jobs=jobs.get(JobState.RUNNING, 0),
            )

    async def put_flavor(self, actor: Actor, name: str, flavor: FlavorSpec) -> FlavorView:
        """Set what a flavor is and costs. What was charged before keeps its price."""
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.POOL_WRITE)
            values = {
                **flavor.model_dump(),
                "updated_by": actor.id,
                "updated_at": self._clock(),
            }
            row = await session.get(FlavorRow, name, with_for_update=True)
            before = _flavor_spec(row).model_dump(mode="json") if row else None
            await session.execute(
                upsert(FlavorRow)
                .values(name=name, **values)
                .on_conflict_do_update(index_elements=["name"], set_=values)
            )
            session.expire_all()
            await audit.record_change(
                session, actor, "flavor.set", "flavor", name, before, flavor.model_dump(mode="json")
            )
            await wake_scheduler(session)
            found = await _flavors(session, await _nodes(session, self._clock()))
            return next(view for view in found if view.name == name)

    async def put_settings(self, actor: Actor, settings: PoolSettings) -> PoolSettings:
        """Set the currency and the scheduler's rules; rounds go by them from the next one on."""
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.POOL_WRITE)
            values = {
                "currency": settings.currency,
                "policy": settings.policy.model_dump(mode="json", exclude_defaults=True),
                "updated_by": actor.id,
                "updated_at": self._clock(),
            }
            row = await session.get(PoolSettingsRow, True, with_for_update=True)
            before = {"currency": row.currency, "policy": row.policy} if row else None
            await session.execute(
                upsert(PoolSettingsRow)
                .values(only_row=True, **values)
                .on_conflict_do_update(index_elements=["only_row"], set_=values)
            )
            after = {"currency": settings.currency, "policy": values["policy"]}
            await audit.record_change(session, actor, "pool.set", "pool", "pool", before, after)
            await wake_scheduler(session)
        return settings


def _flavor_spec(row: FlavorRow) -> FlavorSpec:
    return FlavorSpec(gpu_type=row.gpu_type, spot=row.spot, price_per_gpu_hour=row.price_per_gpu_hour)


async def node_view(session: AsyncSession, name: str, now: datetime) -> NodeView:
    """Return one node.

    Raises:
        NotFound: no node of that name has ever reported.
    """
    for view in await _nodes(session, now):
        if view.name == name:
            return view
    raise NotFound(f"no node {name!r}; 'steelyard pool nodes' shows them", param="node")


async def _nodes(session: AsyncSession, now: datetime) -> list[NodeView]:
    held = await _held(session)
    rows = await session.execute(
        select(NodeRow, FlavorRow.spot)
        .join(FlavorRow, FlavorRow.name == NodeRow.flavor)
        .order_by(NodeRow.name)
    )
    return [
        NodeView(
            name=node.name,
            flavor=node.flavor,
            spot=spot,
            executor=node.executor,
            simulated=node.simulated,
            state=_state(node, now),
            cpus=node.cpus,
            free_cpus=node.cpus - held[node.name].cpus,
            memory_bytes=node.memory_bytes,
            free_memory_bytes=node.memory_bytes - held[node.name].memory_bytes,
            gpus=len(node.gpu_ids),
            free_gpus=len(node.gpu_ids) - held[node.name].gpus,
            jobs=held[node.name].jobs,
            last_seen_at=node.last_seen_at,
            interruption_deadline=node.interruption_deadline,
            interruption_reason=node.interruption_reason,
        )
        for node, spot in rows
    ]


class _Held(NamedTuple):
    jobs: int = 0
    cpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0


async def _held(session: AsyncSession) -> defaultdict[str, _Held]:
    rows = await session.execute(
        select(
            AllocationRow.node,
            func.count(),
            func.sum(AllocationRow.cpus),
            func.sum(AllocationRow.memory_bytes),
            func.sum(func.jsonb_array_length(AllocationRow.gpu_ids)),
        ).group_by(AllocationRow.node)
    )
    return defaultdict(_Held, {node: _Held(*map(int, amounts)) for node, *amounts in rows})


def _state(node: NodeRow, now: datetime) -> Literal["up", "interrupted", "down"]:
    if now - node.last_seen_at >= NODE_LOST_AFTER:
        return "down"
    return "up" if node.interruption_deadline is None else "interrupted"


async def _flavors(session: AsyncSession, nodes: list[NodeView]) -> list[FlavorView]:
    rows = await session.scalars(select(FlavorRow).order_by(FlavorRow.name))
    views: list[FlavorView] = []
    for row in rows:
        up = [node for node in nodes if node.flavor == row.name and node.state == "up"]
        views.append(
            FlavorView(
                name=row.name,
                gpu_type=row.gpu_type,
                spot=row.spot,
                price_per_gpu_hour=row.price_per_gpu_hour,
                nodes=len(up),
                gpus=sum(node.gpus for node in up),
                free_gpus=sum(node.free_gpus for node in up),
                updated_by=row.updated_by,
                updated_at=row.updated_at,
            )
        )
    return views
