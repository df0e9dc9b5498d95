"""Bringing what an attempt wrote to the bucket: checkpoints while it trains, its model at the end.

The worker on the attempt's node does it, so a training process holds no key to the bucket, never waits for
it, and may leave as soon as its files are on the disk. Where there is no bucket, nothing of this happens.

A checkpoint counts once it is whole in the bucket: files, then manifest, then the row. Dying in between
leaves a row that says `uploading`; whoever watches the attempt next goes on where it was.
"""

import asyncio
import contextlib
import os
import re
import shutil
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy import update

from steelyard.jobs import repository
from steelyard.jobs.checkpoints import complete_checkpoints, report_of
from steelyard.jobs.events import append_event
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.outages import note_answer, note_outage
from steelyard.jobs.reports import PUBLISHED, index_checkpoint
from steelyard.kit.errors import SteelyardError
from steelyard.runtime.layout import checkpoints_dir
from steelyard.specs.outcome import Outcome, OutcomeKind
from steelyard.specs.reports import CheckpointReport
from steelyard.storage.bucket import BucketUnavailable, DamagedFile
from steelyard.storage.database import Database
from steelyard.storage.object_folder import ObjectFolder
from steelyard.storage.tables import CheckpointRow, JobRow

_LOOK_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 60.0
_AT_ONCE = 4
_STAGE = "outgoing"
_MODEL = re.compile(r"^models/e\d{5,}$")
_log = structlog.get_logger()


@dataclass(frozen=True)
class _Place:
    """An attempt's files on this node."""

    attempt_id: str
    epoch: int
    job_id: str
    job_dir: Path
    objects: ObjectFolder


Finish = Callable[[Outcome | None], Awaitable[None]]
"""Brings what is left of an attempt that has gone for certain: the newest checkpoint first, then its model.

A folder that isn't what its manifest says stays where it is, and doesn't count. Raises BucketUnavailable: try
again; the job says so meanwhile. Not where the job is to be cancelled.
"""


class StoringService:
    """Brings files to the bucket, four at once in one worker; the others wait their turn."""

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="to the bucket")

    @contextlib.asynccontextmanager
    async def keeping_up(self, attempt_id: str) -> AsyncGenerator[Finish]:
        """Bring checkpoints to the bucket in the background while the block runs, always the newest next.

        What its trainer deletes before its turn is passed over, so a slow bucket makes the newest checkpoint
        there older, and never makes a queue longer than `save_total_limit`.
        """
        place = await self._place(attempt_id)
        if place is None:
            yield _nothing_to_finish
            return
        over = asyncio.Event()
        task = asyncio.create_task(self._keep_up(place, over))

        async def finish(outcome: Outcome | None) -> None:
            # What is under way gets to its end: to begin it once more would take longer.
            over.set()
            await task
            await self._finish(place, outcome)

        try:
            yield finish
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _finish(self, place: _Place, outcome: Outcome | None) -> None:
        try:
            seen = set[str]()
            await self._bring_next(place, seen, gone=True)
            if outcome is not None and outcome.kind is OutcomeKind.SUCCEEDED:
                await self._bring_model(place, outcome.model_dir)
            while await self._bring_next(place, seen, gone=True):
                pass
            await self._adopt(place, seen)
        except BucketUnavailable as error:
            if await self._tell_trouble(place, error) != "cancel":
                raise
        await self._forget_superseded(place)

    async def _keep_up(self, place: _Place, over: asyncio.Event) -> None:
        seen = set[str]()
        pause_seconds = _LOOK_SECONDS
        while not over.is_set():
            try:
                if await self._bring_next(place, seen, gone=False):
                    continue
                pause_seconds = _LOOK_SECONDS
            except SteelyardError as error:
                await self._tell_trouble(place, error)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await over.wait()

    async def _bring_next(self, place: _Place, seen: set[str], *, gone: bool) -> bool:
        """Bring the newest finished checkpoint that isn't in `seen`, and add it; whether there was one."""
        report = await asyncio.to_thread(_newest, place, seen)
        if report is None:
            return False
        try:
            await self._run(_push_sealed if gone else _push_staged, place, report)
        except (OSError, ValidationError, DamagedFile) as error:
            # Superseded and deleted meanwhile, or not what it should be: it never counts.
            _log.info("a checkpoint was passed over", path=report.path, job=place.job_id, error=str(error))
            if gone and isinstance(error, DamagedFile):
                await self._tell_damage(place, report, error)
        else:
            await self._publish(place, report)
        seen.add(report.path)
        return True

    async def _adopt(self, place: _Place, seen: set[str]) -> None:
        """Publish what got to the bucket and not into the index: its bringer died, perhaps with its node."""
        for report in await asyncio.to_thread(_stored, place):
            if report.path not in seen:
                await self._publish(place, report)

    async def _bring_model(self, place: _Place, model_dir: str | None) -> None:
        if model_dir is None or not _MODEL.fullmatch(model_dir):
            return
        try:
            await self._run(place.objects.push_folder, place.job_dir / model_dir)
        except (OSError, ValidationError, DamagedFile) as error:
            # Registration looks at it, and says so to the user.
            _log.warning("a model is damaged", job=place.job_id, error=str(error))

    async def _run(self, work: object, *arguments: object) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, work, *arguments)  # pyright: ignore[reportArgumentType]

    async def _publish(self, place: _Place, report: CheckpointReport) -> None:
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, place.job_id)
            attempt = await repository.find_attempt(session, place.attempt_id)
            if attempt.state == "ended" or job.epoch != place.epoch:
                return
            if await index_checkpoint(session, attempt, job, report):
                await append_event(
                    session, job, PUBLISHED, f"checkpoint at step {report.step} is in the object store",
                    data={"step": report.step, "size_bytes": report.size_bytes},
                )  # fmt: skip
            note_answer(job)

    async def _tell_damage(self, place: _Place, report: CheckpointReport, error: DamagedFile) -> None:
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, place.job_id)
            await append_event(
                session, job, "checkpoint.damaged",
                f"the checkpoint at step {report.step} can't be brought to the object store: {error.message}",
                level="warn", data={"step": report.step, "fault": error.message},
            )  # fmt: skip

    async def _forget_superseded(self, place: _Place) -> None:
        """What never got to the bucket, and whose writer has gone, counts as deleted."""
        async with self._database.transaction() as session:
            await repository.lock_job(session, place.job_id)
            await session.execute(
                update(CheckpointRow)
                .where(
                    CheckpointRow.job_id == place.job_id,
                    CheckpointRow.epoch <= place.epoch,
                    CheckpointRow.status == "uploading",
                )
                .values(status="deleted")
            )
        await asyncio.to_thread(shutil.rmtree, place.job_dir / _STAGE, ignore_errors=True)

    async def _tell_trouble(self, place: _Place, error: SteelyardError) -> str:
        """Say once what is the matter; return what people want of the job."""
        with contextlib.suppress(SteelyardError):
            async with self._database.transaction() as session:
                job = await repository.lock_job(session, place.job_id)
                await note_outage(session, job, error)
                return job.desired
        return "run"

    async def _place(self, attempt_id: str) -> _Place | None:
        objects = await asyncio.to_thread(lambda: self._folders.store)
        if objects.bucket is None:
            return None
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id)
            job = await session.get_one(JobRow, attempt.job_id)
        return _Place(attempt_id, attempt.epoch, job.id, self._folders.job(job.project_id, job.id), objects)


async def _nothing_to_finish(outcome: Outcome | None) -> None:
    del outcome


def _newest(place: _Place, seen: set[str]) -> CheckpointReport | None:
    found = complete_checkpoints(place.job_dir, place.epoch)
    return next((report for report in reversed(found) if report.path not in seen), None)


def _stored(place: _Place) -> list[CheckpointReport]:
    found = place.objects.sealed_below(checkpoints_dir(place.job_dir) / f"e{place.epoch:05d}")
    reports = [
        report_of(place.job_dir, path, manifest)
        for path, manifest in found.items()
        if manifest.epoch == place.epoch
    ]
    return sorted(reports, key=lambda report: report.step)


def _push_sealed(place: _Place, report: CheckpointReport) -> None:
    place.objects.push_folder(place.job_dir / report.path)


def _push_staged(place: _Place, report: CheckpointReport) -> None:
    """Push from links of our own: the trainer may delete its folder while this goes on."""
    source = place.job_dir / report.path
    staged = place.job_dir / _STAGE / uuid.uuid4().hex
    try:
        shutil.copytree(source, staged, symlinks=True, copy_function=_link)
        place.objects.push_folder(staged, source)
    except shutil.Error as error:
        raise FileNotFoundError(f"{source} changed while it was looked at") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _link(source: str, target: str) -> str:
    os.link(source, target, follow_symlinks=False)
    return target
