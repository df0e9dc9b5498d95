"""Reproduction: a model's job run again from its lineage, and the weights set side by side."""

import asyncio
import json

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.jobs.finished_models import finished_model
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.submission import Submission, SubmissionService
from steelyard.kit.errors import Conflict, InvalidRequest, NotFound
from steelyard.registry import repository
from steelyard.registry.model_files import model_files
from steelyard.runtime.manifests import read_manifest
from steelyard.specs.access import Permission
from steelyard.specs.lineage import WeightsComparison
from steelyard.specs.manifest import Manifest
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

LINEAGE_KEY = "reproduces"
"""Entry of a job's lineage that names the version it repeats; what it makes is not registered."""


class ReproductionService:
    """Runs jobs again and compares."""

    def __init__(self, database: Database, submission: SubmissionService, folders: Folders) -> None:
        self._database = database
        self._submission = submission
        self._folders = folders

    async def reproduce(
        self, actor: Actor, project: str, name: str, version: int, key: str | None
    ) -> Submission:
        """Submit the job that made a version once more, with the same spec and data.

        Raises:
            NotFound: no such version in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_SUBMIT)
            record = await repository.get_record(session, checked, name, version)
        body = json.dumps(record.job.spec).encode()
        return await self._submission.submit(
            actor, project, body, key, further_lineage={LINEAGE_KEY: f"{name}@{version}"}
        )

    async def compare(
        self, actor: Actor, project: str, name: str, version: int, job_id: str
    ) -> WeightsComparison:
        """Compare what a reproduction made with the version, file by file.

        Raises:
            NotFound: no such version or job in the project.
            InvalidRequest: the job repeats something else.
            Conflict: it hasn't ended, or it failed.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            record = await repository.get_record(session, checked, name, version)
            job = await session.get(JobRow, job_id)
        if job is None or job.project_id != checked:
            raise NotFound(f"no job {job_id!r} in project {project!r}", param="job")
        if job.lineage.get(LINEAGE_KEY) != f"{name}@{version}":
            raise InvalidRequest(f"job {job_id} doesn't repeat {name}@{version}", param="job")
        if job.state != JobState.SUCCEEDED or job.model_dir is None:
            ended = "failed" if job.state in TERMINAL_STATES else f"is {job.state} still"
            raise Conflict(f"job {job_id} {ended}; 'steelyard get {job_id}' says more")
        folder = await finished_model(self._folders, job)
        assert folder is not None
        files = await asyncio.to_thread(model_files, record.version, self._folders.objects)
        damage = await asyncio.to_thread(files.pull)
        if damage is not None:
            raise Conflict(f"{name}@{version} can't be compared: {damage.message}")
        sealed = await asyncio.to_thread(read_manifest, files.folder)
        found = await asyncio.to_thread(read_manifest, folder)
        differing = _differing(sealed, found)
        return WeightsComparison(
            job_id=job_id,
            identical=not differing and found.digest() == record.version.manifest_digest,
            sealed_digest=record.version.manifest_digest,
            found_digest=found.digest(),
            differing_files=differing,
        )


def _differing(sealed: Manifest, found: Manifest) -> list[str]:
    names = sealed.files.keys() | found.files.keys()
    return sorted(name for name in names if sealed.files.get(name) != found.files.get(name))
