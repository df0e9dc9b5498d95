"""Why a job is where it is, in words and numbers."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.jobs import repository
from steelyard.jobs.capacity import BYTES_PER_GB
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.specs.views import ExplainView
from steelyard.storage.scopes import pool_view
from steelyard.storage.tables import AllocationRow, AttemptRow, JobRow, NodeRow


async def explain(session: AsyncSession, job: JobRow) -> ExplainView:
    """Explain one job from what the database knows of it, the queue and the pool."""
    state = JobState(job.state)
    attempts = await repository.attempts_of(session, job.id)
    position, waiting = None, list[str]()
    if state is JobState.QUEUED:
        async with pool_view(session):
            position = await repository.queue_position(session, job)
            waiting = await _waiting_for(session, job)
    return ExplainView(
        id=job.id,
        state=state,
        status_reason=job.status_reason,
        summary=_summary(job, state, position),
        queue_position=position,
        waiting_for=waiting,
        attempts=[_attempt_sentence(before, attempt) for before, attempt in _pairs(attempts)],
    )


def _summary(job: JobRow, state: JobState, position: int | None) -> str:
    message = job.status_message or "nothing to add"
    if position is not None:
        return f"queued at position {position} with priority {job.priority}: {message}"
    if state is JobState.PAUSED:
        return f"paused: {message}; 'steelyard resume {job.id}' queues it again"
    if state in TERMINAL_STATES:
        return f"{state.value}: {message}"
    return f"{state.value}: {message}"


async def _waiting_for(session: AsyncSession, job: JobRow) -> list[str]:
    nodes = list(await session.scalars(select(NodeRow).order_by(NodeRow.name)))
    if not nodes:
        return ["a node: no worker has reported one yet; 'steelyard status' shows the workers"]
    rows = await session.execute(
        select(AllocationRow, JobRow.name)
        .join(JobRow, JobRow.id == AllocationRow.job_id)
        .order_by(AllocationRow.granted_at)
    )
    held = [(row[0], row[1]) for row in rows]
    asked = job.spec["resources"]
    return [_node_sentence(node, held, asked, job.project_id) for node in nodes]


def _node_sentence(
    node: NodeRow, held: list[tuple[AllocationRow, str]], asked: dict[str, float], project: str
) -> str:
    mine = [(allocation, name) for allocation, name in held if allocation.node == node.name]
    cpus = node.cpus - sum(allocation.cpus for allocation, _ in mine)
    memory = (node.memory_bytes - sum(allocation.memory_bytes for allocation, _ in mine)) / BYTES_PER_GB
    gpus = len(node.gpu_ids) - sum(len(allocation.gpu_ids) for allocation, _ in mine)
    own = [f"{allocation.job_id} ({name})" for allocation, name in mine if allocation.project_id == project]
    others = ["jobs of other projects"] if len(own) < len(mine) else []
    holders = ", ".join([*own[:5], *others]) or "nobody"
    return (
        f"node {node.name} has free {cpus} of {node.cpus} cpus, {memory:.1f} GB memory,"
        f" {gpus} of {len(node.gpu_ids)} gpus; asked for: {asked['cpus']:g} cpus,"
        f" {asked['memory_gb']:g} GB, {asked['gpus']:g} gpus; held by {holders}"
    )


def _pairs(attempts: Sequence[AttemptRow]) -> list[tuple[AttemptRow | None, AttemptRow]]:
    return [(attempts[index - 1] if index else None, attempt) for index, attempt in enumerate(attempts)]


def _attempt_sentence(before: AttemptRow | None, attempt: AttemptRow) -> str:
    seconds = (
        (attempt.ended_at or attempt.last_report_at or attempt.started_at) - attempt.started_at
    ).total_seconds()
    start = f"attempt {attempt.number} ({attempt.stage})"
    if attempt.resumed_from_step is not None:
        start += f" resumed from step {attempt.resumed_from_step}"
        if before is not None and before.stage == attempt.stage:
            start += f", repeating {max(0, before.last_step - attempt.resumed_from_step)} steps"
    if attempt.state != "ended":
        return f"{start}: {attempt.state} at step {attempt.last_step}, {seconds:.0f} s so far"
    counted = "used a retry" if attempt.counted else "used no retry"
    return f"{start}: ended after {seconds:.0f} s at step {attempt.last_step} ({attempt.cause}, {counted})"
