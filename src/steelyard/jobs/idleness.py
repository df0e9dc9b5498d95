"""GPUs that are held and not used: attempts are warned, then saved and queued again, or paused."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute import usage
from steelyard.compute.settings import read_settings
from steelyard.compute.snapshots import MEMORY_OF_PREEMPTIONS
from steelyard.governance.identity import SYSTEM
from steelyard.jobs.commands import apply_verb
from steelyard.jobs.events import append_event
from steelyard.jobs.places import ask_to_leave
from steelyard.kit.clock import Clock, utc_now
from steelyard.specs.pool import IdlePolicy
from steelyard.specs.states import JobState, Reason, Verb, refuse_verb
from steelyard.storage.database import Database
from steelyard.storage.tables import (
    AttemptActivityRow,
    AttemptRow,
    JobRow,
    PreemptionRow,
    ProjectShareRow,
)

_LOCK = 7_316_112
_SILENT_AFTER = timedelta(seconds=60)
_Found = tuple[AttemptRow, AttemptActivityRow | None, dict[str, Any] | None]
Step = Literal["none", "warn", "requeue", "stop"]


@dataclass(frozen=True)
class Activity:
    """What is known of an attempt's work: the step that counts from, since when, and the last warning."""

    step: int
    step_at: datetime
    busy_at: datetime
    warned_at: datetime | None = None


@dataclass(frozen=True)
class Sight:
    """An attempt as it is now. `training`: past loading and not at its end; `utilisation` 0 to 1, or None."""

    step: int
    training: bool
    utilisation: float | None


def judge(before: Activity, sight: Sight, now: datetime, policy: IdlePolicy) -> tuple[Activity, Step]:
    """Return what is known now, and what is due. A pure function."""
    after = before
    advanced = sight.step - before.step >= policy.min_steps
    if advanced or sight.step < before.step:
        after = replace(after, step=sight.step, step_at=now)
    measured = sight.utilisation
    busy = advanced if measured is None else measured >= policy.min_gpu_utilisation
    if busy or not sight.training:
        return replace(after, busy_at=now, warned_at=None), "none"
    if policy.action == "none" or now - after.busy_at < timedelta(seconds=policy.window_seconds):
        return after, "none"
    if after.warned_at is None:
        return replace(after, warned_at=now), "warn"
    if policy.action == "warn" or now - after.warned_at < timedelta(seconds=policy.warning_seconds):
        return after, "none"
    return after, policy.action


class IdleKeeper:
    """Rounds over all attempts that hold GPUs. One worker at a time does them; each may die at any line."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def run_round(self) -> int:
        """Look at each attempt, and do what is due; return to how many something was done."""
        now = self._clock()
        async with self._database.transaction() as session:
            if not await session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
                return 0
            policy = (await read_settings(session)).policy
            due: list[tuple[AttemptRow, Step]] = []
            for found in await _attempts(session):
                step = await _note(session, found, policy.idle, now)
                if step != "none":
                    due.append((found[0], step))
            for attempt, step in due:
                await _do(session, attempt, step, now)
            await _forget(session, now)
        async with self._database.transaction() as session:
            await usage.charge(session, now, policy.usage_half_life_seconds)
        return len(due)


async def _attempts(session: AsyncSession) -> Sequence[_Found]:
    rows = await session.execute(
        select(AttemptRow, AttemptActivityRow, ProjectShareRow.idle)
        .join(JobRow, JobRow.current_attempt_id == AttemptRow.id)
        .outerjoin(AttemptActivityRow, AttemptActivityRow.attempt_id == AttemptRow.id)
        .outerjoin(ProjectShareRow, ProjectShareRow.project_id == AttemptRow.project_id)
        .where(
            AttemptRow.state == "running",
            AttemptRow.gpus > 0,
            AttemptRow.stop_reason.is_(None),
            JobRow.desired == "run",
        )
        .order_by(AttemptRow.job_id)
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def _note(session: AsyncSession, row: _Found, default: IdlePolicy, now: datetime) -> Step:
    """Write down what an attempt does; return what is due. Of one that is silent nothing is known."""
    attempt, known, own = row
    policy = default if own is None else IdlePolicy.model_validate(own, strict=False)
    if attempt.last_report_at is None or now - attempt.last_report_at > _SILENT_AFTER:
        return "none"
    before = (
        Activity(known.step, known.step_at, known.busy_at, known.warned_at)
        if known is not None
        else Activity(attempt.last_step, now, now)
    )
    sight = Sight(attempt.last_step, attempt.phase == "training", attempt.gpu_utilisation)
    after, step = judge(before, sight, now, policy)
    values = {
        "step": after.step,
        "step_at": after.step_at,
        "busy_at": after.busy_at,
        "warned_at": after.warned_at,
    }
    await session.execute(
        upsert(AttemptActivityRow)
        .values(attempt_id=attempt.id, project_id=attempt.project_id, **values)
        .on_conflict_do_update(index_elements=["attempt_id"], set_=values)
    )
    return step


async def _do(session: AsyncSession, attempt: AttemptRow, step: Step, now: datetime) -> None:
    job = await session.scalar(
        select(JobRow).where(JobRow.id == attempt.job_id).with_for_update(skip_locked=True)
    )
    if job is None or job.current_attempt_id != attempt.id:
        return
    figure = (
        f"at step {attempt.last_step}"
        if attempt.gpu_utilisation is None
        else f"its GPUs worked {attempt.gpu_utilisation:.0%} of the time"
    )
    idle = f"attempt {attempt.number} holds {attempt.gpus} GPUs and hardly uses them ({figure})"
    if step == "warn":
        await append_event(
            session, job, "attempt.idle", f"{idle}; it loses them if that goes on", level="warn",
            data={"attempt": attempt.number, "gpu_utilisation": attempt.gpu_utilisation},
        )  # fmt: skip
    elif step == "requeue":
        await ask_to_leave(session, job, Reason.IDLE, f"{idle}; it saves and is queued again", now)
    elif refuse_verb(Verb.PAUSE, JobState(job.state)) is None:
        attempt.stop_reason = Reason.IDLE
        await apply_verb(session, SYSTEM, job, Verb.PAUSE, now, arguments=Reason.IDLE)
        job.status_reason = Reason.IDLE
        job.status_message = f"{idle}; it saves and pauses until somebody resumes it"


async def _forget(session: AsyncSession, now: datetime) -> None:
    """Drop what nobody needs any more."""
    await session.execute(delete(PreemptionRow).where(PreemptionRow.at < now - MEMORY_OF_PREEMPTIONS))
    await session.execute(
        delete(AttemptActivityRow).where(
            AttemptActivityRow.attempt_id.in_(select(AttemptRow.id).where(AttemptRow.state == "ended"))
        )
    )
