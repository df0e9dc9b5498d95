"""What training processes report. The lease epoch fences every write: only the newest attempt's count."""

import contextlib
import re
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ScalarSelect, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from steelyard.governance.identity import Actor
from steelyard.governance.ledger import accounting
from steelyard.jobs import repository
from steelyard.jobs.curves import take_points
from steelyard.jobs.events import append_event
from steelyard.jobs.metering import MeteringService, Renewal
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest, NotFound, StaleLease
from steelyard.kit.ids import new_id
from steelyard.specs.reports import (
    AttemptReport,
    CheckpointReport,
    Directives,
    EventReport,
    ResultReport,
)
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.scopes import attempt_scope
from steelyard.storage.tables import AttemptMeterRow, AttemptRow, CheckpointRow, JobRow

Status = Literal["uploading", "available"]
PUBLISHED = "checkpoint.published"
"""Event: from now on the job can go on from this checkpoint."""
_CHECKPOINT_PATH = re.compile(r"^checkpoints/e(\d{5})/step-(\d{8})$")


class ReportService:
    """Takes the reports of attempts, renews their leases, and hands them their directives.

    Args:
        lease_seconds: how long a lease holds after each report.
        awaits_bucket: whether a checkpoint counts only once it is in the bucket (`jobs.storing`).
    """

    def __init__(
        self,
        database: Database,
        lease_seconds: float,
        clock: Clock = utc_now,
        *,
        awaits_bucket: bool = False,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._metering = MeteringService(database, lease_seconds, clock)
        self._clock = clock
        self._status: Status = "uploading" if awaits_bucket else "available"

    async def report(self, actor: Actor, attempt_id: str, report: AttemptReport) -> Directives:
        """Store progress, and a trial's curve, and renew the lease; an attempt that is metered pays for it.

        Raises:
            NotFound: the actor is not this attempt.
            StaleLease: a newer attempt has taken over, or this one has ended.
        """
        with _acting_as(actor, attempt_id):
            now = self._clock()
            async with self._database.transaction() as session:
                row = (
                    await session.execute(
                        update(AttemptRow)
                        .where(
                            AttemptRow.id == attempt_id,
                            AttemptRow.epoch == report.epoch,
                            AttemptRow.state != "ended",
                            AttemptRow.job_id == JobRow.id,
                            AttemptRow.epoch == JobRow.epoch,
                        )
                        .values(
                            **_progress(report),
                            last_report_at=now,
                            lease_expires_at=func.coalesce(
                                _meter_column(AttemptMeterRow.leased_until),
                                now + timedelta(seconds=self._lease_seconds),
                            ),
                        )
                        .returning(
                            AttemptRow.state,
                            AttemptRow.stop_reason,
                            AttemptRow.checkpoint_requested,
                            JobRow.id,
                            JobRow.parent_id,
                            JobRow.state.label("job_state"),
                            JobRow.desired,
                            _meter_column(AttemptMeterRow.posted_until).label("posted_until"),
                            _meter_column(AttemptMeterRow.leased_until).label("leased_until"),
                        )
                    )
                ).first()
                if row is None:
                    raise await _stale(session, attempt_id)
                if row.parent_id is not None and report.points:
                    await take_points(session, attempt_id, report.points, row.parent_id)
            if row.state == "starting" or row.job_state == JobState.STARTING:
                await self._mark_running(attempt_id, row.id)
            lease = await self._renew(attempt_id, row.id, row.posted_until, row.leased_until)
            return Directives(
                lease_seconds=lease.lease_seconds,
                stop=lease.stop or row.desired != "run" or row.stop_reason is not None,
                checkpoint=row.checkpoint_requested,
            )

    async def publish_checkpoint(self, actor: Actor, attempt_id: str, report: CheckpointReport) -> Directives:
        """Enter a checkpoint into the index. Doing it again changes nothing. Raises as `report`.

        Raises:
            InvalidRequest: the path is not one that this attempt may write.
        """
        with _acting_as(actor, attempt_id):
            match = _CHECKPOINT_PATH.match(report.path)
            if match is None or int(match[1]) != report.epoch or int(match[2]) != report.step:
                raise InvalidRequest(
                    "a checkpoint's path is checkpoints/e<epoch>/step-<step> of its own attempt", param="path"
                )
            async with self._database.transaction() as session:
                attempt, job = await _hold_lease(session, attempt_id, report.epoch)
                if await index_checkpoint(session, attempt, job, report, self._status):
                    await append_event(
                        session, job, PUBLISHED, f"checkpoint at step {report.step}",
                        data={"step": report.step, "size_bytes": report.size_bytes},
                    )  # fmt: skip
                attempt.checkpoint_requested = False
                leased_until = await session.scalar(
                    select(AttemptMeterRow.leased_until).where(AttemptMeterRow.attempt_id == attempt_id)
                )
            return Directives(lease_seconds=self._lease_left(leased_until), stop=job.desired != "run")

    async def publish_result(self, actor: Actor, attempt_id: str, report: ResultReport) -> None:
        """Store the outcome in the attempt's own words. The executor says when it has really gone."""
        with _acting_as(actor, attempt_id):
            async with self._database.transaction() as session:
                attempt, _ = await _hold_lease(session, attempt_id, report.epoch)
                attempt.outcome = report.outcome.model_dump(mode="json")
                await accounting.end_attempt(session, attempt_id, self._clock())

    async def publish_event(self, actor: Actor, attempt_id: str, report: EventReport) -> None:
        """Append an event to the job's. Raises as `report`."""
        with _acting_as(actor, attempt_id):
            async with self._database.transaction() as session:
                _, job = await _hold_lease(session, attempt_id, report.epoch)
                await append_event(
                    session, job, report.type, report.message, level=report.level, data=report.data
                )

    async def tracked_run(self, attempt_id: str, *, writes: bool) -> tuple[str, str | None]:
        """Return the project of an attempt and the MLflow run of its job, None where that has none yet.

        Args:
            attempt_id: the caller's own.
            writes: the caller is about to write there, which needs the lease.

        Raises:
            StaleLease: it doesn't hold the lease any more.
        """
        with attempt_scope(attempt_id):
            async with self._database.transaction() as session:
                attempt = await repository.find_attempt(session, attempt_id)
                job = await session.get_one(JobRow, attempt.job_id)
                if writes and (attempt.state == "ended" or attempt.epoch != job.epoch):
                    raise await _stale(session, attempt_id)
                return job.project_id, job.mlflow_run_id

    async def _renew(
        self, attempt_id: str, job_id: str, posted_until: datetime | None, leased_until: datetime | None
    ) -> Renewal:
        """Post what the attempt has used, if it is time; else its lease goes on as it is."""
        renewal = None
        if self._metering.is_due(posted_until):
            renewal = await self._metering.renew(attempt_id, job_id)
        return renewal or Renewal(self._lease_left(leased_until), stop=False)

    def _lease_left(self, leased_until: datetime | None) -> float:
        return self._lease_seconds if leased_until is None else self._metering.lease_left(leased_until)

    async def _mark_running(self, attempt_id: str, job_id: str) -> None:
        """Move attempt and job on. A transaction of its own, because the job is locked before its attempt."""
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            attempt = await repository.find_attempt(session, attempt_id)
            if attempt.state == "starting":
                attempt.state = "running"
            if job.state != JobState.STARTING or attempt.epoch != job.epoch:
                return
            job.state = JobState.RUNNING
            job.status_reason = Reason.TRAINING if attempt.stage == "train" else Reason.EVALUATING
            job.status_message = "training" if attempt.stage == "train" else "evaluating"
            job.updated_at = self._clock()
            job.started_at = job.started_at or self._clock()
            await append_event(session, job, "job.running", "the trainer has reported")


async def index_checkpoint(
    session: AsyncSession,
    attempt: AttemptRow,
    job: JobRow,
    report: CheckpointReport,
    status: Status = "available",
) -> bool:
    """Enter a checkpoint into the index; whether it became available now.

    What was `uploading` becomes available by being entered as that. Available rows beyond the limit are
    marked as deleted.
    """
    entered = await session.scalar(
        upsert(CheckpointRow)
        .values(
            id=new_id("ckpt"),
            project_id=attempt.project_id,
            job_id=attempt.job_id,
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            epoch=attempt.epoch,
            step=report.step,
            path=report.path,
            manifest_digest=report.manifest_digest,
            size_bytes=report.size_bytes,
            status=status,
        )
        .on_conflict_do_update(
            index_elements=["job_id", "path"],
            set_={"status": status},
            where=(CheckpointRow.status == "uploading")
            & (CheckpointRow.manifest_digest == report.manifest_digest)
            & (literal(status) == "available"),
        )
        .returning(CheckpointRow.id)
    )
    if status != "available":
        return False
    if entered is not None:
        job.resume_checkpoint_id = None
    rows = await repository.checkpoints_of(session, job.id)
    usable = [row for row in rows if row.status == "available"]
    for row in usable[job.spec.get("checkpoint", {}).get("save_total_limit", 3) :]:
        row.status = "deleted"
    return entered is not None


async def _hold_lease(session: AsyncSession, attempt_id: str, epoch: int) -> tuple[AttemptRow, JobRow]:
    """Lock the job, and return it with the attempt, if the attempt holds its lease."""
    attempt = await repository.find_attempt(session, attempt_id)
    job = await repository.lock_job(session, attempt.job_id)
    await session.refresh(attempt)
    if attempt.state == "ended" or attempt.epoch != epoch or job.epoch != epoch:
        raise await _stale(session, attempt_id)
    return attempt, job


async def _stale(session: AsyncSession, attempt_id: str) -> StaleLease | NotFound:
    attempt = await session.get(AttemptRow, attempt_id)
    if attempt is None:
        return NotFound(f"no attempt {attempt_id!r}")
    job = await session.get_one(JobRow, attempt.job_id)
    return StaleLease(
        f"attempt {attempt_id} (epoch {attempt.epoch}) no longer holds the lease of {job.id}, whose epoch is"
        f" {job.epoch}; write nothing more and exit",
        epoch=job.epoch,
    )


def _meter_column(column: InstrumentedAttribute[datetime]) -> ScalarSelect[datetime]:
    """Return a column of the meter of the attempt that is being updated; NULL where it isn't metered."""
    return (
        select(column)
        .where(AttemptMeterRow.attempt_id == AttemptRow.id, ~AttemptMeterRow.closed)
        .correlate(AttemptRow)
        .scalar_subquery()
    )


@contextlib.contextmanager
def _acting_as(actor: Actor, attempt_id: str) -> Generator[None]:
    """Check that the actor is this attempt; within the block it sees the rows of its project."""
    if actor.attempt_id != attempt_id:
        raise NotFound(f"no attempt {attempt_id!r}")
    with attempt_scope(attempt_id):
        yield


def _progress(report: AttemptReport) -> dict[str, object]:
    """Columns that a report sets; what it leaves out stays as it was."""
    values: dict[str, object] = {"phase": report.phase}
    if report.step or report.phase == "training":
        values["last_step"] = report.step
    for name in ("total_steps", "loss", "tokens_per_second", "eta_seconds", "gpu_utilisation"):
        value = getattr(report, name)
        if value is not None:
            values[name] = value
    return values
