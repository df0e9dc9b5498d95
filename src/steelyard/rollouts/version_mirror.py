"""Model versions in MLflow: made from our files, and made again where they are gone there."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, update

from steelyard.governance import audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import SYSTEM
from steelyard.kit.errors import Conflict
from steelyard.registry.mlflow import Mlflow
from steelyard.registry.model_files import model_files
from steelyard.rollouts.events import announce
from steelyard.rollouts.mirror_tags import ARTIFACT, is_same, tags_of, wrong_tags
from steelyard.storage.database import Database
from steelyard.storage.tables import ModelVersionRow


@dataclass(frozen=True)
class RunPlace:
    """A run in MLflow and the experiment that it is in."""

    experiment_id: str
    run_id: str


class VersionMirror:
    """Makes MLflow hold the versions that we have. PostgreSQL is the truth.

    MLflow gives out its numbers itself, and no number twice. So ours and MLflow's may differ; which of its
    numbers stands for a version is in that version's row, and what points to it goes by that row.

    Any number may be at work: of two that made the same version, the one that comes second to the row takes
    its own away again.
    """

    def __init__(self, database: Database, mlflow: Mlflow, objects: Path | None = None) -> None:
        self._database = database
        self._mlflow = mlflow
        self._objects = objects

    async def ensure(self, project: ProjectId, name: str, number: int) -> None:
        """Let MLflow hold a version, with its files and tags, whatever somebody did to it there.

        Raises:
            Unavailable: MLflow or the bucket doesn't answer; try again.
            Conflict: our own files are damaged, and MLflow gets no damaged ones.
        """
        async with self._database.transaction() as session:
            version = await session.get_one(ModelVersionRow, (project, name, number))
        model = f"{project}.{name}"
        if version.mlflow_version is not None:
            there = await self._mlflow.version(model, version.mlflow_version)
            if there is not None and is_same(version.mlflow_run_id, there):
                await self._mlflow.tag_version(model, there.number, wrong_tags(tags_of(version), there.tags))
                return
        files = await asyncio.to_thread(model_files, version, self._objects)
        damage = await asyncio.to_thread(files.pull)
        if damage is not None:
            raise Conflict(f"{name}@{number} can't be made again in MLflow: {damage.message}")
        await self.make(version, await self._run_of(version))

    async def make(self, version: ModelVersionRow, run: RunPlace) -> None:
        """Copy a version's files to MLflow and register them there.

        Args:
            version: as it was read; its files were verified.

        Raises:
            Unavailable: MLflow doesn't answer; try again.
        """
        model = f"{version.project_id}.{version.name}"
        folder = (await asyncio.to_thread(model_files, version, self._objects)).folder
        source = await self._mlflow.upload_folder(run.experiment_id, run.run_id, folder, ARTIFACT)
        tags = tags_of(version)
        made = await self._mlflow.ensure_model_version(model, source, run.run_id, tags)
        await self._mlflow.tag_version(model, made.number, wrong_tags(tags, made.tags))
        if not await self._note(version, made.number, run.run_id):
            await self._mlflow.remove_version(model, made.number)

    async def _run_of(self, version: ModelVersionRow) -> RunPlace:
        """Return the run that made a version, which is made anew if even that is gone."""
        experiment_id = await self._mlflow.ensure_experiment(version.project_id)
        key = f"{version.job_id}/{version.run_number}"
        tags = {"steelyard.job_id": version.job_id}
        start_ms = int(version.created_at.timestamp() * 1000)
        run_id = await self._mlflow.ensure_run(experiment_id, version.name, key, tags, start_ms)
        return RunPlace(experiment_id, run_id)

    async def _note(self, version: ModelVersionRow, made: str, run_id: str) -> bool:
        """Write down what stands for a version in MLflow; False where another has written down another."""
        row = ModelVersionRow
        which = (
            row.project_id == version.project_id,
            row.name == version.name,
            row.version == version.version,
        )
        async with self._database.transaction() as session:
            noted = await session.scalar(
                update(row)
                .where(*which, row.mlflow_version.is_not_distinct_from(version.mlflow_version))
                .values(mlflow_version=made, mlflow_run_id=run_id)
                .returning(row.version)
            )
            if noted is None:
                return await session.scalar(select(row.mlflow_version).where(*which)) == made
            if version.mlflow_version not in (None, made):
                words = f"MLflow has {version.name}@{version.version} as its version {made} now"
                detail = {
                    "version": version.version,
                    "mlflow_version": made,
                    "mlflow_version_before": version.mlflow_version,
                }
                project = ProjectId(version.project_id)
                await announce(session, project, version.name, "version.renumbered", words, data=detail)
                await audit.record(
                    session, SYSTEM, "version.renumber", "model", f"{version.name}@{version.version}",
                    project_id=project, detail=detail,
                )  # fmt: skip
        return True
