"""The scheduler's snapshot, read from the database: the queue by what has changed in it, the rest whole."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.queue_mirror import Crowd, QueueMirror
from steelyard.compute.scheduler import (
    Allocation,
    Flavor,
    Node,
    NodeShare,
    Policy,
    Project,
    Quota,
    Snapshot,
)
from steelyard.compute.usage import usage_at

NODE_LOST_AFTER = timedelta(seconds=60)
MEMORY_OF_PREEMPTIONS = timedelta(days=7)

_GRANTS = text(
    """
    SELECT held.job_id, held.project_id, held.node, held.cpus, held.memory_bytes, held.gpu_ids,
        EXTRACT(EPOCH FROM held.granted_at)::FLOAT8 AS granted, job.priority,
        asked_seconds - running_seconds AS seconds_left, running_seconds,
        job.desired <> 'run' OR attempt.stop_reason IS NOT NULL AS stopping,
        (SELECT count(*) FROM attempts past WHERE past.job_id = held.job_id AND past.cause = 'preempted')
            AS evictions,
        (SELECT EXTRACT(EPOCH FROM max(saved.created_at))::FLOAT8 FROM checkpoints saved
            WHERE saved.job_id = held.job_id) AS saved,
        COALESCE(attempt.stage = 'train' AND job.spec->>'method' = 'script', false) AS is_script,
        (SELECT array_agg(for_job_id ORDER BY for_job_id) FROM preemptions made
            WHERE made.job_id = held.job_id AND at > :since) AS way_for
    FROM allocations held
    JOIN jobs job ON job.id = held.job_id
    LEFT JOIN attempts attempt ON attempt.id = job.current_attempt_id AND attempt.state <> 'ended'
    ORDER BY held.job_id, held.node
    """
)
_NODES = text(
    """
    SELECT node.name, node.flavor, flavor.spot, node.cpus, node.memory_bytes, node.gpu_ids,
        node.last_seen_at, node.interruption_deadline
    FROM nodes node JOIN flavors flavor ON flavor.name = node.flavor
    """
)
_NOMINATIONS = text("SELECT job_id, nodes FROM nominations")
_FLAVORS = text("SELECT name, COALESCE(price_per_gpu_hour, 0)::FLOAT8 FROM flavors")
_QUOTAS = text("SELECT project_id, flavor, nominal, borrowing_limit, lending_limit FROM quotas")
_WEIGHTS = text("SELECT project_id, weight FROM project_shares")


@dataclass(frozen=True)
class Picture:
    """A snapshot, and what those who wait are told at present."""

    snapshot: Snapshot
    crowds: Iterable[Crowd]


async def read_picture(
    session: AsyncSession,
    now: datetime,
    policy: Policy,
    *,
    with_queue: bool = True,
    mirror: QueueMirror | None = None,
) -> Picture:
    """Read all that the scheduler looks at. Locks nothing: whoever acts on it looks again.

    Args:
        session: a transaction that sees every project, and has written nothing yet.
        now: the round's moment.
        policy: the rules' numbers.
        with_queue: False where only what is held matters.
        mirror: the queue as the caller had it last; it is brought up to date, and the picture is good until
            it is the next time. None: the whole queue is read.
    """
    mirror = mirror or QueueMirror()
    nominated: dict[str, tuple[str, ...]] = {}
    if with_queue:
        await mirror.refresh(session)
        nominated = {row.job_id: tuple(row.nodes) for row in await session.execute(_NOMINATIONS)}
    queue = mirror.queue(nominated)
    granted = (await session.execute(_GRANTS, {"since": now - MEMORY_OF_PREEMPTIONS})).all()
    waiting = {crowd.lane.project for crowd in mirror.crowds()}
    snapshot = Snapshot(
        now_seconds=now.timestamp(),
        nodes=await _nodes(session, granted, now),
        queued=queue,
        running=_running(granted, now),
        projects=await _projects(session, now, policy, waiting),
        flavors=tuple(Flavor(name, price) for name, price in await session.execute(_FLAVORS)),
        policy=policy,
    )
    return Picture(snapshot, mirror.crowds())


def _running(rows: Iterable[Row[Any]], now: datetime) -> tuple[Allocation, ...]:
    found: dict[str, Allocation] = {}
    for row in rows:
        share = NodeShare(row.node, row.cpus, row.memory_bytes, len(row.gpu_ids))
        before = found.get(row.job_id)
        if before is not None:
            found[row.job_id] = replace(before, placements=(*before.placements, share))
            continue
        found[row.job_id] = Allocation(
            job_id=row.job_id,
            project=row.project_id,
            placements=(share,),
            started_seconds=row.granted,
            priority=row.priority,
            evictions=row.evictions,
            stopping=row.stopping,
            max_runtime_seconds=None if row.seconds_left is None else max(0.0, float(row.seconds_left)),
            checkpoint_age_seconds=None if row.saved is None else now.timestamp() - row.saved,
            ran_seconds=row.running_seconds,
            saves=row.saved is not None or not row.is_script,
            made_way_for=tuple(row.way_for or ()),
        )
    return tuple(found.values())


async def _nodes(session: AsyncSession, granted: Iterable[Row[Any]], now: datetime) -> tuple[Node, ...]:
    held: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    for row in granted:
        held[row.node].append(row)
    return tuple(_node(row, held[row.name], now) for row in await session.execute(_NODES))


def _node(row: Row[Any], held: Sequence[Row[Any]], now: datetime) -> Node:
    taken = {gpu for grant in held for gpu in grant.gpu_ids}
    return Node(
        name=row.name,
        flavor=row.flavor,
        cpus=row.cpus,
        memory_bytes=row.memory_bytes,
        free_cpus=max(0, row.cpus - sum(grant.cpus for grant in held)),
        free_memory_bytes=max(0, row.memory_bytes - sum(grant.memory_bytes for grant in held)),
        gpu_ids=tuple(row.gpu_ids),
        free_gpu_ids=tuple(gpu for gpu in row.gpu_ids if gpu not in taken),
        spot=row.spot,
        up=row.interruption_deadline is None and now - row.last_seen_at < NODE_LOST_AFTER,
    )


async def _projects(
    session: AsyncSession, now: datetime, policy: Policy, waiting: Iterable[str]
) -> tuple[Project, ...]:
    quotas: defaultdict[str, list[Quota]] = defaultdict(list)
    for row in await session.execute(_QUOTAS):
        quotas[row.project_id].append(Quota(row.flavor, row.nominal, row.borrowing_limit, row.lending_limit))
    weights = {row.project_id: float(row.weight) for row in await session.execute(_WEIGHTS)}
    usage = await usage_at(session, now, policy.usage_half_life_seconds)
    return tuple(
        Project(
            name=name,
            weight=weights.get(name, 1.0),
            quotas=tuple(quotas.get(name, ())),
            decayed_gpu_seconds=usage[name].gpu_seconds if name in usage else 0.0,
            decayed_cpu_seconds=usage[name].cpu_seconds if name in usage else 0.0,
        )
        for name in {*quotas, *weights, *usage, *waiting}
    )
