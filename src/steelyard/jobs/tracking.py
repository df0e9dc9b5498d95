"""A job's run in MLflow: opened when training starts, brought up to date and closed when it has ended."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import update

from steelyard.datasets.report_links import DATASET_REF, report_of_lineage
from steelyard.evals.samples import SampleReader
from steelyard.evals.tracking import (
    bases_of_run,
    changes_from_base,
    evaluation_links,
    evaluations_of_run,
    interval_ends,
)
from steelyard.jobs import repository
from steelyard.jobs.lifecycle import Folders
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import SteelyardError
from steelyard.registry.mlflow import MetricPoint, Mlflow
from steelyard.runtime.tracking import METRICS_NAME, read_metrics
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import JobState
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

_CURVES = frozenset({"eval/loss"})
"""Figures whose last value is that of a curve by the same name, which attempts log step by step."""
_STATUS = {JobState.SUCCEEDED: "FINISHED", JobState.CANCELLED: "KILLED"}


@dataclass(frozen=True)
class TrackedRun:
    """A run and the experiment that it is in."""

    experiment_id: str
    run_id: str


class TrackingService:
    """Mirrors jobs to MLflow. The database is the truth; a call that is repeated changes nothing.

    Args:
        public_url: where browsers reach the api. Empty: links are paths, for a browser that is there already.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        mlflow: Mlflow,
        clock: Clock = utc_now,
        public_url: str = "",
    ) -> None:
        self._database = database
        self._folders = folders
        self._mlflow = mlflow
        self._clock = clock
        self._public_url = public_url.rstrip("/")
        self._opening_families = asyncio.Lock()

    async def try_open(self, job_id: str) -> None:
        """Open the run if MLflow is there. Training doesn't wait for it: what is missed is caught up."""
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
        if job.mlflow_run_id is not None:
            return
        try:
            await self.open(job)
        except SteelyardError:
            return

    async def open(self, job: JobRow) -> TrackedRun:
        """Open the job's run, or find it.

        Raises:
            Unavailable: MLflow doesn't answer.
        """
        experiment_id = await self._mlflow.ensure_experiment(job.project_id)
        key = f"{job.id}/{job.run_number}"
        tags = {
            "mlflow.user": job.created_by,
            "steelyard.job_id": job.id,
            **{f"steelyard.{name}": value for name, value in job.lineage.items()},
            **_data_tags(job, self._public_url),
            **await self._family_tags(job),
        }
        start_ms = int((job.started_at or self._clock()).timestamp() * 1000)
        run_id = await self._mlflow.ensure_run(experiment_id, job.name, key, tags, start_ms)
        if job.mlflow_run_id != run_id:
            await self._mlflow.log_params(run_id, _params(job.spec))
            async with self._database.transaction() as session:
                await session.execute(update(JobRow).where(JobRow.id == job.id).values(mlflow_run_id=run_id))
        return TrackedRun(experiment_id, run_id)

    async def _family_tags(self, job: JobRow) -> dict[str, str]:
        """Put the run of a child below its family's. One worker opens that once for all of them."""
        if job.parent_id is None:
            return {}
        async with self._opening_families:
            async with self._database.transaction() as session:
                parent = await session.get_one(JobRow, job.parent_id)
            run_id = parent.mlflow_run_id or (await self.open(parent)).run_id
        return {"mlflow.parentRunId": run_id, "steelyard.child": str(job.child_key)}

    async def close(self, job_id: str) -> None:
        """Log what the attempts measured, and end the run. A job that never ran has none; of a family, it is
        what its result measured.

        Raises:
            Unavailable: MLflow doesn't answer; try again.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            attempts = await repository.attempts_of(session, job_id)
            measured = await evaluations_of_run(session, job)
            bases = await bases_of_run(session, measured)
        if not attempts and (job.type not in FAMILY_TYPES or job.started_at is None):
            return
        tracked = await self.open(job)
        for attempt in attempts:
            if attempt.launch_key.startswith(f"{job.run_number}:"):
                await self._copy_figures(Path(attempt.attempt_dir) / METRICS_NAME, tracked.run_id)
        now_ms = int(self._clock().timestamp() * 1000)
        told_by_step = _CURVES if attempts else frozenset[str]()
        finals = [
            MetricPoint(key, value, 0, now_ms)
            for key, value in job.metrics.items()
            if key not in told_by_step
        ]
        changes = await asyncio.to_thread(changes_from_base, bases, SampleReader(self._folders.objects))
        told = interval_ends(measured) | changes
        finals += [MetricPoint(key, value, 0, now_ms) for key, value in told.items()]
        await self._mlflow.set_tags(tracked.run_id, evaluation_links(measured))
        if finals:
            await self._mlflow.log_metrics(tracked.run_id, finals)
        status = _STATUS.get(JobState(job.state), "FAILED")
        await self._mlflow.end_run(tracked.run_id, status, _end_ms(job, now_ms))  # pyright: ignore[reportArgumentType]

    async def _copy_figures(self, path: Path, run_id: str) -> None:
        """Log what a trainer wrote down, a piece at a time."""
        start, end = -1, 0
        while end != start:
            start = end
            lines, end = await asyncio.to_thread(read_metrics, path, start)
            points = [
                MetricPoint(key, value, line["step"], line["timestamp_ms"])
                for line in lines
                for key, value in line["values"].items()
            ]
            await self._mlflow.log_metrics(run_id, points)


def _data_tags(job: JobRow, public_url: str) -> dict[str, str]:
    """Link the report of the data; MLflow shows its note as Markdown, so there it can be clicked."""
    path = report_of_lineage(job.project_id, job.lineage)
    if path is None:
        return {}
    url = f"{public_url}{path}"
    return {
        "steelyard.dataset_report": url,
        "mlflow.note.content": f"Trained on [{job.lineage[DATASET_REF]}]({url}).",
    }


def _end_ms(job: JobRow, now_ms: int) -> int:
    return int(job.ended_at.timestamp() * 1000) if job.ended_at else now_ms


def _params(spec: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten a spec; a script's text is in the lineage and not repeated here."""
    flat: dict[str, str] = {}
    for key, value in spec.items():
        name = f"{prefix}{key}"
        if name == "script.source" or value is None:
            continue
        if isinstance(value, dict):
            flat.update(_params(value, f"{name}."))  # pyright: ignore[reportUnknownArgumentType]
        else:
            flat[name] = str(value)
    return flat
