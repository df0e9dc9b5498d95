"""Why a job is where it is, in words and numbers."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.settings import read_settings, scheduler_policy
from steelyard.compute.snapshots import read_picture
from steelyard.jobs import repository
from steelyard.jobs.children import read_kin
from steelyard.jobs.waiting import Outlook, look_ahead
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import JobState, Reason
from steelyard.specs.views import ExplainView
from steelyard.storage.scopes import pool_view
from steelyard.storage.tables import AttemptRow, JobRow


async def explain(session: AsyncSession, job: JobRow, now: datetime) -> ExplainView:
    """Explain one job from what the database knows of it, the queue and the pool."""
    if job.type in FAMILY_TYPES:
        return await _explain_family(session, job, now)
    state = JobState(job.state)
    attempts = await repository.attempts_of(session, job.id)
    outlook = await _outlook(session, job, now) if state is JobState.QUEUED else None
    reason = outlook.reason if outlook is not None else None
    return ExplainView(
        id=job.id,
        state=state,
        status_reason=reason.code.value if reason is not None else job.status_reason,
        summary=_summary(job, state, outlook),
        queue_position=reason.position if reason is not None else None,
        waiting_for=list(outlook.sentences) if outlook is not None else [],
        attempts=[_attempt_sentence(before, attempt) for before, attempt in _pairs(attempts)],
    )


async def _explain_family(session: AsyncSession, job: JobRow, now: datetime) -> ExplainView:
    """Say how many children do what, why the first that waits does, and what has become of the others."""
    state = JobState(job.state)
    kin = [each.child for each in await read_kin(session, job)]
    counts = await repository.child_counts(session, job)
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    waiting = next((child for child in kin if child.state is JobState.QUEUED), None)
    held = [child for child in kin if child.state is JobState.PAUSED and state is JobState.RUNNING]
    sentences = [
        f"{child.key} is paused: {child.message}; 'steelyard resume {child.job_id}' lets it go on"
        for child in held
    ]
    if waiting is not None:
        row = await session.get_one(JobRow, waiting.job_id)
        view = await explain(session, row, now)
        sentences += [f"{waiting.key} ({waiting.job_id}) is the first that waits: {view.summary}"]
        sentences += view.waiting_for
    return ExplainView(
        id=job.id,
        state=state,
        status_reason=job.status_reason,
        summary=f"{_summary(job, state, None)}; children: {told or 'none yet'}",
        queue_position=None,
        waiting_for=sentences,
        attempts=[],
    )


async def _outlook(session: AsyncSession, job: JobRow, now: datetime) -> Outlook | None:
    policy = scheduler_policy((await read_settings(session)).policy)
    async with pool_view(session):
        picture = await read_picture(session, now, policy)
    if not picture.snapshot.nodes:
        return Outlook(
            None, ("a node: no worker has reported one yet; 'steelyard status' shows the workers",)
        )
    return await asyncio.to_thread(look_ahead, picture.snapshot, job.id)


def _summary(job: JobRow, state: JobState, outlook: Outlook | None) -> str:
    message = job.status_message or "nothing to add"
    if outlook is not None and outlook.reason is not None:
        reason = outlook.reason
        return f"queued at position {reason.position} with priority {job.priority}: {reason.sentence}"
    if outlook is not None:
        return f"queued with priority {job.priority}: the next round of the scheduler starts it"
    if state is JobState.PAUSED and job.status_reason == Reason.BUDGET_EXHAUSTED:
        return f"paused: {message}. A higher limit ('steelyard budget set') or the next period brings it"
    if state is JobState.PAUSED:
        return f"paused: {message}; 'steelyard resume {job.id}' queues it again"
    return f"{state.value}: {message}"


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
