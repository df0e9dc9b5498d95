"""The end of an attempt, written down once: cause, cost, checkpoints that it left, figures."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.executor import Observation
from steelyard.governance.ledger import accounting
from steelyard.jobs import repository
from steelyard.jobs.checkpoints import complete_checkpoints
from steelyard.jobs.events import append_event
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.recovery import UNCOUNTED_REASONS, AttemptEnd, is_counted
from steelyard.jobs.reports import index_checkpoint
from steelyard.jobs.stages import stage_after
from steelyard.jobs.views import job_main_stage, progress_of
from steelyard.kit.clock import Clock, utc_now
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason
from steelyard.storage.bucket_settings import uses_bucket
from steelyard.storage.database import Database
from steelyard.storage.tables import AttemptRow, JobRow


@dataclass(frozen=True)
class StopOrder:
    """Where an attempt is, and why it is to leave."""

    folder: str
    reason: str


class EndingService:
    """Records ends. The first record of an attempt stands; later ones return it."""

    def __init__(self, database: Database, folders: Folders, clock: Clock = utc_now) -> None:
        self._database = database
        self._folders = folders
        self._clock = clock

    async def end_attempt(self, attempt_id: str, observation: Observation) -> AttemptEnd:
        """Record that no process of the attempt runs any more, and how it ended.

        Args:
            observation: with phase ENDED or LOST.
        """
        outcome = observation.outcome or _lost_outcome(observation)
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id)
            job = await repository.lock_job(session, attempt.job_id)
            await session.refresh(attempt)
            if attempt.state != "ended":
                await self._index_leftovers(session, attempt, job)
                self._write(attempt, job, outcome, _cause(attempt, job, outcome))
                await _tell(session, attempt, job)
                await accounting.end_attempt(session, attempt_id, self._clock())
        return _end_of(attempt, job)

    async def note_running(self, attempt_id: str, node: str | None, pid: int | None) -> None:
        """Store where the attempt's processes are."""
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id, lock=True)
            attempt.node = node or attempt.node
            attempt.pid = pid

    async def recorded_end(self, attempt_id: str) -> AttemptEnd | None:
        """Return the end of an attempt, if it was recorded."""
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id)
            job = await repository.lock_job(session, attempt.job_id)
            return _end_of(attempt, job) if attempt.state == "ended" else None

    async def request_stop(self, attempt_id: str, reason: str) -> StopOrder:
        """Store why the attempt is to leave; the first reason stands, and is returned with its folder."""
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id, lock=True)
            first = attempt.stop_reason or reason
            attempt.stop_reason = first
            if attempt.state != "ended":
                attempt.state = "stopping"
            return StopOrder(attempt.attempt_dir, first)

    async def _index_leftovers(self, session: AsyncSession, attempt: AttemptRow, job: JobRow) -> None:
        """Adopt checkpoints that were finished while the api was away; their writer has gone for certain.

        Where there is a bucket, `StoringService` has done that with what got there.
        """
        if uses_bucket():
            return
        folder = self._folders.job(job.project_id, job.id)
        for report in complete_checkpoints(folder, attempt.epoch):
            await index_checkpoint(session, attempt, job, report)
            attempt.last_step = max(attempt.last_step, report.step)

    def _write(self, attempt: AttemptRow, job: JobRow, outcome: Outcome, cause: str) -> None:
        now = self._clock()
        attempt.last_step = max(attempt.last_step, outcome.step)
        if attempt.stage == job_main_stage(job):
            job.progress = progress_of(job, attempt).model_dump(exclude={"eta_seconds", "phase"})
        attempt.state = "ended"
        attempt.ended_at = now
        attempt.outcome = outcome.model_dump(mode="json")
        attempt.cause = cause
        attempt.message = outcome.message
        attempt.counted = is_counted(outcome.kind, cause)
        job.running_seconds += _seconds(attempt.started_at, now)
        job.retries_used += int(attempt.counted)
        job.evictions += int(outcome.kind is not OutcomeKind.SUCCEEDED and cause in UNCOUNTED_REASONS)
        job.metrics = {**job.metrics, **outcome.metrics}
        if outcome.kind is OutcomeKind.SUCCEEDED and outcome.model_dir is not None:
            job.model_dir = outcome.model_dir
        if outcome.kind is OutcomeKind.SUCCEEDED:
            job.stage = stage_after(attempt.stage, job.spec)
        job.updated_at = now


def _cause(attempt: AttemptRow, job: JobRow, outcome: Outcome) -> str:
    """Return why the attempt ended: what the platform asked for, before what the trainer says of it."""
    if outcome.kind is OutcomeKind.SUCCEEDED:
        return Reason.COMPLETED
    if attempt.stop_reason is not None and (
        outcome.kind is OutcomeKind.CHECKPOINTED or outcome.reason is Reason.PROCESS_KILLED
    ):
        return attempt.stop_reason
    if outcome.kind is OutcomeKind.CHECKPOINTED and job.desired != "run":
        return Reason.PAUSED_BY_USER if job.desired == "pause" else Reason.CANCELLED_BY_USER
    return outcome.reason


def _lost_outcome(observation: Observation) -> Outcome:
    return Outcome(
        kind=OutcomeKind.FAILED,
        exit_code=ExitCode.TRANSIENT,
        reason=Reason.NODE_LOST,
        message=observation.message or "the attempt's processes vanished without a word; it is started again",
    )


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())


async def _tell(session: AsyncSession, attempt: AttemptRow, job: JobRow) -> None:
    bad = attempt.counted
    await append_event(
        session,
        job,
        "attempt.ended",
        f"attempt {attempt.number} ({attempt.stage}) ended at step {attempt.last_step}: {attempt.message}",
        level="warn" if bad else "info",
        data={"attempt": attempt.number, "cause": attempt.cause, "counted": bad},
    )


def _end_of(attempt: AttemptRow, job: JobRow) -> AttemptEnd:
    outcome = Outcome.model_validate(attempt.outcome)
    return AttemptEnd(
        attempt_id=attempt.id,
        kind=outcome.kind,
        cause=attempt.cause or outcome.reason,
        message=attempt.message or outcome.message,
        retries_used=job.retries_used,
        evictions=job.evictions,
    )
