"""Registration: gates first, then one version in our database, then its mirror in MLflow."""

import asyncio
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.samples import SampleReader
from steelyard.governance import audit
from steelyard.governance.audit.notes import Signer
from steelyard.governance.identity import SYSTEM
from steelyard.jobs import repository
from steelyard.jobs.events import append_event
from steelyard.jobs.finished_models import keep_model
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.reproduction import LINEAGE_KEY
from steelyard.jobs.specs import launched_block
from steelyard.jobs.tracking import TrackingService
from steelyard.jobs.weighing import weigh_job
from steelyard.kit.clock import Clock, utc_now
from steelyard.registry.mlflow import Mlflow
from steelyard.registry.sealing import publish_statement, seal_version, statement_file
from steelyard.rollouts.version_mirror import RunPlace, VersionMirror
from steelyard.runtime.manifests import read_manifest
from steelyard.specs.gates import Verdict
from steelyard.specs.manifest import Manifest
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow, LineageStatementRow, ModelRow, ModelVersionRow


@dataclass(frozen=True)
class Registered:
    """Whether the model was taken, or why not."""

    accepted: bool
    reason: str | None = None
    message: str = ""


class RegistrationService:
    """Registers models. A run of a job makes at most one version, however often it is tried."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        mlflow: Mlflow,
        tracking: TrackingService,
        signer: Signer,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._folders = folders
        self._versions = VersionMirror(database, mlflow, folders.objects)
        self._tracking = tracking
        self._signer = signer
        self._clock = clock
        self._reader = SampleReader(folders.objects)

    async def register(self, job_id: str) -> Registered:
        """Judge the job's gates and register its model.

        Raises:
            Unavailable: the bucket or MLflow doesn't answer; what is done stands, and the rest is done when
                this is called again.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            if job.state == JobState.RUNNING:
                job.status_reason, job.status_message = Reason.REGISTERING, "registering the model"
        if job.model_dir is None:
            return await self._judge(job, None) or Registered(True)
        folder = self._folders.job(job.project_id, job.id) / job.model_dir
        damage = await keep_model(self._folders, folder)
        if damage is not None:
            message = f"the finished model is damaged ({damage.message}); 'steelyard retry' makes it again"
            return Registered(False, Reason.MODEL_DAMAGED, message)
        manifest = await asyncio.to_thread(read_manifest, folder)
        refusal = await self._judge(job, manifest)
        if refusal is not None:
            return refusal
        if LINEAGE_KEY in job.lineage:
            return Registered(True)
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            version = await repository.model_version_of(session, job)
            if version is None:
                version = await self._add_version(session, job, manifest)
            sealed = await session.get_one(
                LineageStatementRow, (version.project_id, version.name, version.version)
            )
        await publish_statement(folder, sealed.envelope)
        await asyncio.to_thread(lambda: self._folders.store.push_file(statement_file(folder)))
        await self._mirror(job, version)
        return Registered(True)

    async def _judge(self, job: JobRow, manifest: Manifest | None) -> Registered | None:
        digest = manifest.digest() if manifest else None
        judgement = await weigh_job(self._database, self._reader, job, digest)
        if judgement is None or judgement.verdict is Verdict.PASS:
            return None
        told = "not registered: " if manifest else "the gates do not pass: "
        return Registered(False, Reason.GATE_FAILED, told + "; ".join(judgement.reasons))

    async def _add_version(self, session: AsyncSession, job: JobRow, manifest: Manifest) -> ModelVersionRow:
        digest = manifest.digest()
        name = _model_name(await self._named_by(session, job))
        number = await session.scalar(
            upsert(ModelRow)
            .values(project_id=job.project_id, name=name, latest_version=1)
            .on_conflict_do_update(
                index_elements=["project_id", "name"],
                set_={"latest_version": ModelRow.latest_version + 1},
            )
            .returning(ModelRow.latest_version)
        )
        version = ModelVersionRow(
            project_id=job.project_id,
            name=name,
            version=number or 1,
            job_id=job.id,
            run_number=job.run_number,
            path=str(self._folders.job(job.project_id, job.id) / (job.model_dir or "")),
            manifest_digest=digest,
            lineage={**job.lineage, "job": job.id, "model": digest},
            metrics=job.metrics,
            created_at=self._clock(),
        )
        session.add(version)
        await seal_version(session, job, version, manifest, self._signer)
        await append_event(
            session, job, "model.registered", f"registered as {name}@{version.version}",
            data={"name": name, "version": version.version, "digest": digest},
        )  # fmt: skip
        await audit.record(
            session, SYSTEM, "model.register", "model", f"{name}@{version.version}",
            project_id=job.project_id, after_digest=digest, detail={"job": job.id},
        )  # fmt: skip
        return version

    async def _named_by(self, session: AsyncSession, job: JobRow) -> JobRow:
        """Return the job whose name a model gets: a family's, where its child registers nothing itself."""
        if job.parent_id is None or (job.child_order or {}).get("registers"):
            return job
        return await session.get_one(JobRow, job.parent_id)

    async def _mirror(self, job: JobRow, version: ModelVersionRow) -> None:
        if version.mlflow_version is None:
            tracked = await self._tracking.open(job)
            await self._versions.make(version, RunPlace(tracked.experiment_id, tracked.run_id))


def _model_name(job: JobRow) -> str:
    named: dict[str, str] | None = job.spec.get("register_as") or launched_block(job).get("register_as")
    return named["model_name"] if named else job.name
