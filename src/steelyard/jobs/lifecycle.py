"""A job's moves, as the workflow makes them. Each is one transaction, and safe to make again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.ledger.accounting import leave_places, settle_places
from steelyard.jobs import repository
from steelyard.jobs.checkpoints import choose_checkpoint
from steelyard.jobs.costs import meter_attempt, refusal_to_run
from steelyard.jobs.events import append_event
from steelyard.jobs.holds import hold_for_budget
from steelyard.jobs.moves import make_move, set_state
from steelyard.jobs.outages import note_outage
from steelyard.jobs.places import leave_unfit_place
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.ids import new_id
from steelyard.specs.states import JobState, Reason, may_move
from steelyard.storage.bucket import BucketUnavailable
from steelyard.storage.database import Database
from steelyard.storage.object_folder import ObjectFolder
from steelyard.storage.tables import AllocationRow, AttemptRow, CheckpointRow, JobRow


@dataclass(frozen=True)
class Orders:
    """What people want of a job now, and where it stands. `moved` tells whether the asked move was made."""

    moved: bool
    state: JobState
    desired: str
    sequence: int


@dataclass(frozen=True)
class Launch:
    """An attempt that may be launched. None of it where the job may not run now."""

    orders: Orders
    attempt_id: str | None


@dataclass(frozen=True)
class Folders:
    """Where jobs and attempts keep their files on this node."""

    objects: Path
    attempts: Path

    @property
    def store(self) -> ObjectFolder:
        """The store that `objects` is the folder of. Ask for it in a thread: it may open a bucket."""
        return ObjectFolder.at(self.objects)

    def job(self, project_id: str, job_id: str) -> Path:
        """Folder of a job: checkpoints and models."""
        return self.objects / "projects" / project_id / "jobs" / job_id

    def attempt(self, attempt_id: str) -> Path:
        """Folder of one attempt: orders, log, outcome."""
        return self.attempts / attempt_id


class LifecycleService:
    """Moves jobs from state to state on the workflow's behalf.

    A move that the state machine doesn't allow, because a person's command came first, is not made; the
    answer says what is wanted, and the workflow does that instead.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        executor: str,
        lease_seconds: float,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._folders = folders
        self._executor = executor
        self._lease = timedelta(seconds=lease_seconds)
        self._clock = clock

    async def move(
        self,
        job_id: str,
        run_number: int,
        target: JobState,
        reason: str | None,
        message: str,
        *,
        release: bool = False,
    ) -> Orders:
        """Move a job to `target`, and give back what it holds if `release`.

        A job of another run, or in a state that doesn't lead to `target`, stays as it is.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            if job.run_number != run_number or not may_move(JobState(job.state), target):
                return _orders(job, moved=False)
            await make_move(session, job, target, reason, message, self._clock(), release=release)
            return _orders(job, moved=True)

    async def start_attempt(self, job_id: str, run_number: int, launch_key: str, stage: str) -> Launch:
        """Make the attempt of one launch: a new epoch, so that every older attempt is fenced off from now on.

        The same `launch_key` gives the same attempt. No attempt is made while a person wants the job to
        stop, or while it holds no allocation.

        Raises:
            BucketUnavailable, StorageFull: the checkpoint to go on from can't be fetched; try again.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            made = await repository.attempt_by_launch(session, job_id, launch_key)
            if made is not None:
                if made.state != "ended" and job.state == JobState.QUEUED:
                    set_state(job, JobState.STARTING, None, f"attempt {made.number} goes on", self._clock())
                return Launch(_orders(job, moved=True), made.id)
            rows = await repository.checkpoints_of(session, job_id)
            named = job.resume_checkpoint_id
            folder = self._folders.job(job.project_id, job_id)
        try:
            objects = await asyncio.to_thread(lambda: self._folders.store)
            verified = await choose_checkpoint(objects, folder, rows, named)
        except BucketUnavailable as error:
            async with self._database.transaction() as session:
                await note_outage(session, await repository.lock_job(session, job_id), error)
            raise
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            allocations = await repository.allocations_of(session, job_id)
            if job.run_number != run_number or job.desired != "run" or not allocations:
                return Launch(_orders(job, moved=False), None)
            if await leave_unfit_place(session, job, self._clock()):
                return Launch(_orders(job, moved=False), None)
            refusal = await refusal_to_run(session, job, self._clock())
            if refusal is not None and await hold_for_budget(session, job, refusal, self._clock()):
                return Launch(_orders(job, moved=False), None)
            await self._mark_damaged(session, job, verified.damaged)
            checkpoint = verified.chosen if stage == "train" else None
            attempt = self._new_attempt(job, launch_key, stage, allocations, checkpoint)
            session.add(attempt)
            if job.state != JobState.RUNNING or stage == "train":
                set_state(
                    job, JobState.STARTING, None, f"attempt {attempt.number} is starting", self._clock()
                )
            else:
                job.status_reason, job.status_message = Reason.EVALUATING, "evaluating"
            await append_event(
                session, job, "attempt.started", _start_sentence(attempt), data={"attempt": attempt.number}
            )
            await leave_places(session, job_id, attempt.started_at)
            await meter_attempt(session, job, attempt.id, attempt.started_at, self._lease)
            await settle_places(session, job_id, attempt.started_at)
            return Launch(_orders(job, moved=True), attempt.id)

    def _new_attempt(
        self,
        job: JobRow,
        launch_key: str,
        stage: str,
        allocations: Sequence[AllocationRow],
        checkpoint: CheckpointRow | None,
    ) -> AttemptRow:
        attempt_id = new_id("att")
        job.epoch += 1
        job.attempts_count += 1
        job.current_attempt_id = attempt_id
        return AttemptRow(
            id=attempt_id,
            project_id=job.project_id,
            job_id=job.id,
            number=job.attempts_count,
            launch_key=launch_key,
            stage=stage,
            epoch=job.epoch,
            state="starting",
            executor=self._executor,
            node=allocations[0].node,
            attempt_dir=str(self._folders.attempt(attempt_id)),
            resumed_from_step=checkpoint.step if checkpoint else None,
            resumed_checkpoint_path=checkpoint.path if checkpoint else None,
            first_step=checkpoint.step if checkpoint else 0,
            last_step=checkpoint.step if checkpoint else 0,
            checkpoint_requested=False,
            counted=False,
            gpus=sum(len(allocation.gpu_ids) for allocation in allocations),
            started_at=self._clock(),
        )

    async def _mark_damaged(
        self, session: AsyncSession, job: JobRow, damaged: tuple[tuple[CheckpointRow, str], ...]
    ) -> None:
        for row, fault in damaged:
            current = await session.get_one(CheckpointRow, row.id)
            current.status = "damaged"
            await append_event(
                session,
                job,
                "checkpoint.damaged",
                f"the checkpoint at step {row.step} is damaged ({fault}); the one before it is used",
                level="warn",
                data={"step": row.step, "checkpoint": row.id, "fault": fault},
            )


def _orders(job: JobRow, *, moved: bool) -> Orders:
    return Orders(moved, JobState(job.state), job.desired, job.command_sequence)


def _start_sentence(attempt: AttemptRow) -> str:
    start = f"attempt {attempt.number} ({attempt.stage}) starts on {attempt.node}"
    if attempt.resumed_from_step is None:
        return start
    return f"{start} from the checkpoint at step {attempt.resumed_from_step}"
