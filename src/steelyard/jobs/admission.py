"""Admission: the scheduler's decisions carried into the database, by one leader at a time."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.scheduler import decide
from steelyard.compute.scheduler.decisions import Decisions, Grant, Preemption, Waiting
from steelyard.compute.scheduler.snapshot import (
    Allocation,
    Node,
    NodeShare,
    Policy,
    Project,
    QueuedJob,
    Snapshot,
    SpotPolicy,
)
from steelyard.jobs.capacity import BYTES_PER_GB
from steelyard.jobs.commands import SIGNAL_TOPIC
from steelyard.jobs.events import append_event
from steelyard.kit.clock import Clock, utc_now
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import AllocationRow, AttemptRow, FlavorRow, JobRow, NodeRow

_LEADER_LOCK = 7_316_111
_NODE_LOST_AFTER = timedelta(seconds=60)
_QUEUE_LIMIT = 10_000
_EXPLAINED_POSITIONS = 50


class AdmissionService:
    """Rounds of the scheduler.

    A round is one transaction under an advisory lock, so that there is one leader and a dead one is
    replaced by whoever comes next.
    """

    def __init__(self, database: Database, policy: Policy | None = None, clock: Clock = utc_now) -> None:
        self._database = database
        self._policy = policy or Policy()
        self._clock = clock
        self._nominated: dict[str, tuple[str, ...]] = {}

    async def run_round(self) -> int:
        """Look at the pool and the queue, grant what can be granted; return how many jobs were."""
        async with self._database.transaction() as session:
            leader = await session.scalar(
                text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LEADER_LOCK}
            )
            if not leader:
                return 0
            queued = await _queued(session)
            if not queued:
                return 0
            decisions = decide(await self._snapshot(session, queued))
            self._nominated = {item.job_id: item.nodes for item in decisions.nominations}
            await self._apply(session, decisions, {job.id: job for job in queued})
            return len(decisions.grants)

    async def report_node(
        self,
        name: str,
        executor: str,
        cpus: int,
        memory_bytes: int,
        gpu_ids: tuple[str, ...],
        flavor: str,
    ) -> None:
        """Note that a node is there, and what it has. Its agent says so again and again."""
        values: dict[str, Any] = {
            "executor": executor,
            "flavor": flavor,
            "cpus": cpus,
            "memory_bytes": memory_bytes,
            "gpu_ids": list(gpu_ids),
            "last_seen_at": self._clock(),
        }
        async with self._database.transaction() as session:
            await session.execute(upsert(FlavorRow).values(name=flavor).on_conflict_do_nothing())
            await session.execute(
                upsert(NodeRow)
                .values(name=name, **values)
                .on_conflict_do_update(index_elements=["name"], set_=values)
            )

    async def _snapshot(self, session: AsyncSession, queued: list[JobRow]) -> Snapshot:
        now = self._clock()
        held = await _held(session)
        nodes = list(await session.scalars(select(NodeRow)))
        spot = set(await session.scalars(select(FlavorRow.name).where(FlavorRow.spot)))
        return Snapshot(
            now_seconds=now.timestamp(),
            nodes=tuple(_node(node, held, now, node.flavor in spot) for node in nodes),
            queued=tuple(self._queued_job(job) for job in queued),
            running=tuple(_running(job, rows, stopping) for job, rows, stopping in held),
            projects=tuple(Project(name=name) for name in {job.project_id for job in queued}),
            policy=self._policy,
        )

    def _queued_job(self, job: JobRow) -> QueuedJob:
        asked = job.spec["resources"]
        return QueuedJob(
            id=job.id,
            project=job.project_id,
            submitted_seconds=job.created_at.timestamp(),
            cpus=asked["cpus"],
            memory_bytes=int(asked["memory_gb"] * BYTES_PER_GB),
            gpus=asked["gpus"],
            nodes=job.spec.get("distributed", {}).get("num_nodes", 1),
            priority=job.priority,
            spot=SpotPolicy.PREFER if asked["spot"] else SpotPolicy.NEVER,
            retries_left=job.spec["limits"]["max_retries"] - job.retries_used,
            evictions=job.evictions,
            max_runtime_seconds=job.spec["limits"]["max_runtime_seconds"] - job.running_seconds,
            nominated_nodes=self._nominated.get(job.id, ()),
        )

    async def _apply(self, session: AsyncSession, decisions: Decisions, queued: dict[str, JobRow]) -> None:
        for grant in decisions.grants:
            await _grant(session, queued[grant.job_id], grant)
        for preemption in decisions.preemptions:
            await _preempt(session, preemption)
        for waiting in decisions.waiting:
            await _explain_waiting(session, queued[waiting.job_id], waiting)


async def _queued(session: AsyncSession) -> list[JobRow]:
    """Lock and return the queue's head; a job that a person is just changing is passed over this round."""
    return list(
        await session.scalars(
            select(JobRow)
            .where(JobRow.state == JobState.QUEUED, JobRow.desired == "run")
            .where(~select(AllocationRow.job_id).where(AllocationRow.job_id == JobRow.id).exists())
            .order_by(JobRow.priority.desc(), JobRow.id)
            .limit(_QUEUE_LIMIT)
            .with_for_update(skip_locked=True)
        )
    )


Held = tuple[JobRow, list[AllocationRow], bool]


async def _held(session: AsyncSession) -> list[Held]:
    rows = await session.execute(
        select(AllocationRow, JobRow, AttemptRow.stop_reason)
        .join(JobRow, JobRow.id == AllocationRow.job_id)
        .outerjoin(AttemptRow, AttemptRow.id == JobRow.current_attempt_id)
    )
    jobs: dict[str, JobRow] = {}
    allocations: defaultdict[str, list[AllocationRow]] = defaultdict(list)
    stopping: dict[str, bool] = {}
    for allocation, job, stop_reason in rows:
        jobs[job.id] = job
        allocations[job.id].append(allocation)
        stopping[job.id] = stop_reason is not None or job.desired != "run"
    return [(job, allocations[job_id], stopping[job_id]) for job_id, job in jobs.items()]


def _node(node: NodeRow, held: list[Held], now: datetime, spot: bool) -> Node:
    mine = [row for _, rows, _ in held for row in rows if row.node == node.name]
    taken = {gpu for row in mine for gpu in row.gpu_ids}
    return Node(
        name=node.name,
        flavor=node.flavor,
        cpus=node.cpus,
        memory_bytes=node.memory_bytes,
        free_cpus=max(0, node.cpus - sum(row.cpus for row in mine)),
        free_memory_bytes=max(0, node.memory_bytes - sum(row.memory_bytes for row in mine)),
        gpu_ids=tuple(node.gpu_ids),
        free_gpu_ids=tuple(gpu for gpu in node.gpu_ids if gpu not in taken),
        spot=spot,
        up=now - node.last_seen_at < _NODE_LOST_AFTER,
    )


def _running(job: JobRow, rows: list[AllocationRow], stopping: bool) -> Allocation:
    return Allocation(
        job_id=job.id,
        project=job.project_id,
        placements=tuple(NodeShare(row.node, row.cpus, row.memory_bytes, len(row.gpu_ids)) for row in rows),
        started_seconds=min(row.granted_at for row in rows).timestamp(),
        priority=job.priority,
        evictions=job.evictions,
        stopping=stopping,
        max_runtime_seconds=job.spec["limits"]["max_runtime_seconds"] - job.running_seconds,
    )


async def _grant(session: AsyncSession, job: JobRow, grant: Grant) -> None:
    for placement in grant.placements:
        await session.execute(
            insert(AllocationRow).values(
                job_id=job.id,
                node=placement.node,
                project_id=job.project_id,
                run_number=job.run_number,
                cpus=placement.cpus,
                memory_bytes=placement.memory_bytes,
                gpu_ids=list(placement.gpu_ids),
            )
        )
    job.status_reason, job.status_message = None, "granted a place; starting"
    nodes = ", ".join(placement.node for placement in grant.placements)
    await append_event(session, job, "job.admitted", f"granted a place on {nodes}")
    await enqueue(session, SIGNAL_TOPIC, job.id, {"run_number": job.run_number, "signal": "admitted"})


async def _preempt(session: AsyncSession, preemption: Preemption) -> None:
    """Ask a running job to save and leave; it goes back into the queue by itself."""
    job = await session.get_one(JobRow, preemption.job_id)
    marked = await session.scalar(
        update(AttemptRow)
        .where(
            AttemptRow.id == job.current_attempt_id,
            AttemptRow.state != "ended",
            AttemptRow.stop_reason.is_(None),
        )
        .values(stop_reason=Reason.PREEMPTED)
        .returning(AttemptRow.id)
    )
    if marked is None:
        return
    message = f"makes room for {preemption.for_job} ({preemption.reason}); it saves and is queued again"
    await append_event(session, job, "job.preempting", message, level="warn")
    await enqueue(
        session,
        SIGNAL_TOPIC,
        job.id,
        {"run_number": job.run_number, "signal": "preempt", "attempt_id": marked},
    )


async def _explain_waiting(session: AsyncSession, job: JobRow, waiting: Waiting) -> None:
    """Keep why a job waits. Far from the head only a new reason is written: places shift all the time."""
    sentence = waiting.sentence
    near = waiting.position <= _EXPLAINED_POSITIONS
    if job.status_reason != waiting.code or (near and job.status_message != sentence):
        await session.execute(
            update(JobRow)
            .where(JobRow.id == job.id)
            .values(status_reason=waiting.code, status_message=sentence)
        )
