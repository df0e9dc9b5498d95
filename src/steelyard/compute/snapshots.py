"""The scheduler's snapshot, read from the database: the queue by what has changed in it, the rest whole."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
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
from steelyard.compute.usage import USAGE_QUERY

NODE_LOST_AFTER = timedelta(seconds=60)
MEMORY_OF_PREEMPTIONS = timedelta(days=7)

# All of one moment and in one statement. What is held comes as columns: a row of Python each takes longer.
_POOL = text(
    f"""
    SELECT array_agg(job_id) AS jobs, array_agg(project_id) AS projects, array_agg(node) AS places,
        array_agg(cpus) AS cpus, array_agg(memory_bytes) AS memory, array_agg(gpus) AS gpus,
        array_agg(granted) AS granted, array_agg(priority) AS priorities,
        array_agg(seconds_left) AS seconds_left, array_agg(running_seconds) AS ran,
        array_agg(stopping) AS stopping, array_agg(evictions) AS evictions, array_agg(saved) AS saved,
        array_agg(is_script) AS is_script,
        (SELECT json_agg(json_build_array(node.name, node.flavor, flavor.spot, node.cpus, node.memory_bytes,
            node.gpu_ids, EXTRACT(EPOCH FROM node.last_seen_at)::FLOAT8, node.interruption_deadline IS NULL,
            COALESCE(taken.cpus, 0), COALESCE(taken.memory_bytes, 0), taken.gpu_ids))
            FROM nodes node JOIN flavors flavor ON flavor.name = node.flavor
            LEFT JOIN (SELECT node, sum(cpus) AS cpus, sum(memory_bytes) AS memory_bytes,
                json_agg(gpu_ids) AS gpu_ids FROM allocations GROUP BY node) taken ON taken.node = node.name
        ) AS nodes,
        (SELECT json_agg(json_build_array(job_id, for_job_id)) FROM preemptions
            WHERE at > :since AND job_id IN (SELECT job_id FROM allocations)) AS ways,
        (SELECT json_agg(json_build_array(job_id, nodes)) FROM nominations) AS nominations,
        (SELECT json_agg(json_build_array(name, COALESCE(price_per_gpu_hour, 0)::FLOAT8)) FROM flavors)
            AS flavors,
        (SELECT json_agg(json_build_array(project_id, flavor, nominal, borrowing_limit, lending_limit))
            FROM quotas) AS quotas,
        (SELECT json_agg(json_build_array(project_id, weight)) FROM project_shares) AS weights,
        (SELECT json_agg(json_build_array(project_id, gpu_seconds, cpu_seconds)) FROM ({USAGE_QUERY}) used)
            AS usage
    FROM (
        SELECT held.job_id, held.project_id, held.node, held.cpus, held.memory_bytes,
            jsonb_array_length(held.gpu_ids) AS gpus, EXTRACT(EPOCH FROM held.granted_at)::FLOAT8 AS granted,
            job.priority, (asked_seconds - running_seconds)::FLOAT8 AS seconds_left, running_seconds,
            job.desired <> 'run' OR attempt.stop_reason IS NOT NULL AS stopping,
            (SELECT count(*) FROM attempts past WHERE past.job_id = held.job_id AND past.cause = 'preempted')
                AS evictions,
            (SELECT EXTRACT(EPOCH FROM max(saved.created_at))::FLOAT8 FROM checkpoints saved
                WHERE saved.job_id = held.job_id) AS saved,
            COALESCE(attempt.stage = 'train' AND job.spec->>'method' = 'script', false) AS is_script
        FROM allocations held
        JOIN jobs job ON job.id = held.job_id
        LEFT JOIN attempts attempt ON attempt.id = job.current_attempt_id AND attempt.state <> 'ended'
    ) held
    """  # noqa: S608 - made of constants
)


@dataclass(frozen=True)
class Picture:
    """A snapshot, what those who wait are told at present, and what nodes are promised to whom."""

    snapshot: Snapshot
    crowds: Iterable[Crowd]
    nominations: Mapping[str, tuple[str, ...]]


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
    if with_queue:
        await mirror.refresh(session)
    values = {
        "since": now - MEMORY_OF_PREEMPTIONS,
        "now": now,
        "half_life": policy.usage_half_life_seconds,
    }
    row = (await session.execute(_POOL, values)).one()
    nominations = {job_id: tuple(nodes) for job_id, nodes in row.nominations or ()}
    snapshot = Snapshot(
        now_seconds=now.timestamp(),
        nodes=tuple(_node(now.timestamp(), *each) for each in row.nodes or ()),
        queued=mirror.queue(nominations),
        running=_running(row, now.timestamp()),
        projects=_projects(row, {crowd.lane.project for crowd in mirror.crowds()}),
        flavors=tuple(Flavor(name, price) for name, price in row.flavors or ()),
        policy=policy,
    )
    return Picture(snapshot, mirror.crowds(), nominations)


def _running(row: Row[Any], now_seconds: float) -> tuple[Allocation, ...]:
    if not row.jobs:
        return ()
    ways: defaultdict[str, list[str]] = defaultdict(list)
    for job_id, for_job_id in row.ways or ():
        ways[job_id].append(for_job_id)
    found: dict[str, Allocation] = {}
    shares = map(NodeShare, row.places, row.cpus, row.memory, row.gpus)
    columns = (row.jobs, row.projects, row.granted, row.priorities, row.evictions, row.stopping,
        row.seconds_left, row.saved, row.ran, row.is_script)  # fmt: skip
    for share, values in zip(shares, zip(*columns, strict=True), strict=True):
        job_id, project, granted, priority, evictions, stopping, left, saved, ran, is_script = values
        before = found.get(job_id)
        if before is not None:
            placements = sorted((*before.placements, share), key=lambda each: each.node)
            found[job_id] = replace(before, placements=tuple(placements))
            continue
        found[job_id] = Allocation(
            job_id=job_id,
            project=project,
            placements=(share,),
            started_seconds=granted,
            priority=priority,
            evictions=evictions,
            stopping=stopping,
            max_runtime_seconds=None if left is None else max(0.0, left),
            checkpoint_age_seconds=None if saved is None else now_seconds - saved,
            ran_seconds=ran,
            saves=saved is not None or not is_script,
            made_way_for=tuple(sorted(ways[job_id])) if job_id in ways else (),
        )
    return tuple(found.values())


def _node(
    now_seconds: float,
    name: str,
    flavor: str,
    spot: bool,
    cpus: int,
    memory_bytes: int,
    gpu_ids: list[str],
    last_seen_seconds: float,
    stays: bool,
    taken_cpus: int,
    taken_memory_bytes: int,
    taken_gpu_ids: list[list[str]] | None,
) -> Node:
    taken = set(chain.from_iterable(taken_gpu_ids or ()))
    return Node(
        name=name,
        flavor=flavor,
        cpus=cpus,
        memory_bytes=memory_bytes,
        free_cpus=max(0, cpus - taken_cpus),
        free_memory_bytes=max(0, memory_bytes - taken_memory_bytes),
        gpu_ids=tuple(gpu_ids),
        free_gpu_ids=tuple(gpu for gpu in gpu_ids if gpu not in taken),
        spot=spot,
        up=stays and now_seconds - last_seen_seconds < NODE_LOST_AFTER.total_seconds(),
    )


def _projects(row: Row[Any], waiting: Iterable[str]) -> tuple[Project, ...]:
    quotas: defaultdict[str, list[Quota]] = defaultdict(list)
    for project, flavor, nominal, borrowing_limit, lending_limit in row.quotas or ():
        quotas[project].append(Quota(flavor, nominal, borrowing_limit, lending_limit))
    weights = {project: float(weight) for project, weight in row.weights or ()}
    usage = {project: (gpu or 0.0, cpu or 0.0) for project, gpu, cpu in row.usage or ()}
    return tuple(
        Project(name, weights.get(name, 1.0), tuple(quotas.get(name, ())), *usage.get(name, (0.0, 0.0)))
        for name in {*quotas, *weights, *usage, *waiting}
    )
