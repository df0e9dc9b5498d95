"""Places in the pool: how a job gets one, is asked to leave it, and gives it back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute import usage
from steelyard.compute.hints import wake_scheduler
from steelyard.compute.scheduler.decisions import Grant
from steelyard.compute.settings import read_settings
from steelyard.governance.ledger import accounting
from steelyard.jobs.commands import SIGNAL_TOPIC
from steelyard.jobs.events import Happening, append_event, append_events
from steelyard.specs.blocks import upgrade_spot
from steelyard.specs.states import JobState, Reason
from steelyard.storage.outbox import enqueue, enqueue_all
from steelyard.storage.tables import AllocationRow, AttemptRow, FlavorRow, JobRow, NodeRow


class _Queued(NamedTuple):
    id: str
    project_id: str
    run_number: int


class _Running(NamedTuple):
    id: str
    project_id: str
    run_number: int
    current_attempt_id: str | None


class _Alive(NamedTuple):
    id: str
    stop_reason: str | None


async def take_places(session: AsyncSession, grants: Sequence[Grant], now: datetime) -> list[str]:
    """Give queued jobs what the scheduler granted them, each all of it or nothing; return who got it.

    Nothing gets a job for which that is no longer possible: a person was quicker, it holds a place already,
    or a node is being taken away. Whoever changes a job at this moment is not waited for. However many there
    are, it takes the same few statements.
    """
    if not grants:
        return []
    queued = await _lock_queued(session, [grant.job_id for grant in grants])
    held = await _hold_nodes(session, {each.node for grant in grants for each in grant.placements})
    taken = [
        (queued[grant.job_id], grant)
        for grant in grants
        if grant.job_id in queued and held.issuperset(each.node for each in grant.placements)
    ]
    if not taken:
        return []
    await session.execute(
        insert(AllocationRow), [row for job, grant in taken for row in _rows(job, grant, now)]
    )
    await session.execute(
        update(JobRow)
        .where(JobRow.id.in_([job.id for job, _ in taken]))
        .values(status_reason=None, status_message="granted a place; starting"),
        execution_options={"synchronize_session": False},
    )
    await append_events(session, "job.admitted", [_admitted(job, grant) for job, grant in taken])
    signals = [(job.id, {"run_number": job.run_number, "signal": "admitted"}) for job, _ in taken]
    await enqueue_all(session, SIGNAL_TOPIC, signals)
    return [job.id for job, _ in taken]


async def ask_to_leave(
    session: AsyncSession, job: JobRow, reason: Reason, message: str, now: datetime
) -> bool:
    """Ask a job, whose row is locked, to save, leave its place and queue again; False where it is leaving.

    A running trainer hears of it with its next report, or by SIGTERM from its watcher or through the
    workflow, whichever is first. Where no attempt is alive the place is given back at once, and the launch
    that was to come finds none.
    """
    attempt = await session.scalar(
        select(AttemptRow)
        .where(AttemptRow.id == job.current_attempt_id, AttemptRow.state != "ended")
        .with_for_update()
    )
    if job.desired != "run" or (attempt is not None and attempt.stop_reason is not None):
        return False
    await append_event(session, job, "job.leaving", message, level="warn", data={"reason": reason})
    if attempt is None:
        await give_back(session, job.id, now)
        return True
    await session.execute(update(AttemptRow).where(AttemptRow.id == attempt.id).values(stop_reason=reason))
    payload = {"run_number": job.run_number, "signal": "preempt", "attempt_id": attempt.id}
    await enqueue(session, SIGNAL_TOPIC, job.id, payload)
    return True


async def ask_all_to_leave(
    session: AsyncSession, messages: Mapping[str, str], reason: Reason, now: datetime
) -> dict[str, str]:
    """As `ask_to_leave`, for several jobs by id with what each is told, in a few statements however many.

    Returns:
        The projects of those that were asked. Left out are those that are leaving already, and those that
        somebody changes at this moment.
    """
    jobs = {job.id: job for job in await _lock_running(session, messages)}
    attempts = await _lock_attempts(session, [job.current_attempt_id for job in jobs.values()])
    asked = [
        job
        for job in jobs.values()
        if (attempt := attempts.get(job.id)) is None or attempt.stop_reason is None
    ]
    if not asked:
        return {}
    happened = [Happening(job.project_id, job.id, messages[job.id], {"reason": reason}) for job in asked]
    await append_events(session, "job.leaving", happened, level="warn")
    alive = [(job, attempts[job.id].id) for job in asked if job.id in attempts]
    if alive:
        await session.execute(
            update(AttemptRow)
            .where(AttemptRow.id.in_([attempt_id for _, attempt_id in alive]))
            .values(stop_reason=reason),
            execution_options={"synchronize_session": False},
        )
        await enqueue_all(session, SIGNAL_TOPIC, [_preempt_signal(job, each) for job, each in alive])
    for job in asked:
        if job.id not in attempts:
            await give_back(session, job.id, now)
    return {job.id: job.project_id for job in asked}


async def leave_unfit_place(session: AsyncSession, job: JobRow, now: datetime) -> bool:
    """Give back a place that a job, whose row is locked, must not be launched on; the queue finds another.

    That is one on a node that is being taken away, and for a last retry one on spot capacity, unless the job
    wants nothing else.
    """
    rows = await session.execute(
        select(NodeRow.name, NodeRow.interruption_deadline, FlavorRow.spot)
        .join(AllocationRow, AllocationRow.node == NodeRow.name)
        .join(FlavorRow, FlavorRow.name == NodeRow.flavor)
        .where(AllocationRow.job_id == job.id)
    )
    resources, limits = job.spec["resources"], job.spec["limits"]
    prefers = upgrade_spot(resources["spot"]) == "prefer"
    is_last = prefers and 0 < limits["max_retries"] <= job.retries_used
    for name, deadline, spot in rows:
        if deadline is not None:
            why = f"node {name} is being taken away"
        elif spot and is_last:
            why = f"its last retry runs on demand, and {name} is spot capacity"
        else:
            continue
        await append_event(session, job, "job.moving", f"{why}; it waits for another place")
        await give_back(session, job.id, now)
        return True
    return False


async def give_back(session: AsyncSession, job_id: str, now: datetime) -> None:
    """Free what a job holds, if it holds anything, and charge its project for it."""
    half_life_seconds = (await read_settings(session)).policy.usage_half_life_seconds
    await usage.charge(session, now, half_life_seconds, job_id)
    await accounting.leave_places(session, job_id, now)
    await session.execute(delete(AllocationRow).where(AllocationRow.job_id == job_id))
    await wake_scheduler(session)


async def _lock_queued(session: AsyncSession, job_ids: Sequence[str]) -> dict[str, _Queued]:
    rows = await session.execute(
        select(JobRow.id, JobRow.project_id, JobRow.run_number)
        .where(JobRow.id.in_(job_ids), JobRow.state == JobState.QUEUED, JobRow.desired == "run")
        .where(~select(AllocationRow.job_id).where(AllocationRow.job_id == JobRow.id).exists())
        .order_by(JobRow.id)
        .with_for_update(of=JobRow, skip_locked=True)
    )
    return {row.id: _Queued(row.id, row.project_id, row.run_number) for row in rows}


async def _lock_running(session: AsyncSession, job_ids: Iterable[str]) -> list[_Running]:
    rows = await session.execute(
        select(JobRow.id, JobRow.project_id, JobRow.run_number, JobRow.current_attempt_id)
        .where(JobRow.id.in_(list(job_ids)), JobRow.desired == "run")
        .order_by(JobRow.id)
        .with_for_update(skip_locked=True)
    )
    return [_Running(*row) for row in rows]


async def _lock_attempts(session: AsyncSession, ids: Iterable[str | None]) -> dict[str, _Alive]:
    """Return the attempts that haven't ended, by job."""
    rows = await session.execute(
        select(AttemptRow.job_id, AttemptRow.id, AttemptRow.stop_reason)
        .where(AttemptRow.id.in_([each for each in ids if each is not None]), AttemptRow.state != "ended")
        .order_by(AttemptRow.id)
        .with_for_update()
    )
    return {row.job_id: _Alive(row.id, row.stop_reason) for row in rows}


def _preempt_signal(job: _Running, attempt_id: str) -> tuple[str, dict[str, Any]]:
    return job.id, {"run_number": job.run_number, "signal": "preempt", "attempt_id": attempt_id}


async def _hold_nodes(session: AsyncSession, names: Iterable[str]) -> set[str]:
    """Keep nodes from being taken away until the transaction ends; not those on their way."""
    found = await session.scalars(
        select(NodeRow.name)
        .where(NodeRow.name.in_(list(names)), NodeRow.interruption_deadline.is_(None))
        .order_by(NodeRow.name)
        .with_for_update(read=True, key_share=False)
    )
    return set(found)


def _rows(job: _Queued, grant: Grant, now: datetime) -> Iterator[dict[str, Any]]:
    for placement in grant.placements:
        yield {
            "job_id": job.id,
            "node": placement.node,
            "project_id": job.project_id,
            "run_number": job.run_number,
            "cpus": placement.cpus,
            "memory_bytes": placement.memory_bytes,
            "gpu_ids": list(placement.gpu_ids),
            "granted_at": now,
            "charged_until": now,
        }


def _admitted(job: _Queued, grant: Grant) -> Happening:
    nodes = [placement.node for placement in grant.placements]
    message = f"granted a place on {', '.join(nodes)}" + (", borrowed" if grant.borrowed else "")
    return Happening(job.project_id, job.id, message, {"nodes": nodes, "borrowed": grant.borrowed})
