"""Models that the platform made itself, by name: `models/NAME@VERSION` and `checkpoints/ID`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.model_names import PREFIXES, checkpoint_id, parse_version
from steelyard.kit.errors import InvalidSpec
from steelyard.registry.model_files import folder_of
from steelyard.storage.tables import CheckpointRow, JobRow, ModelVersionRow

ADAPTER_CONFIG = "adapter_config.json"
"""In a model's folder: it is an adapter, which needs the base that its job trained from."""


@dataclass(frozen=True)
class KnownModel:
    """A model of the project: its folder on this node, where it may have to be fetched to first; what its
    manifest says; and what it was trained from.
    """

    name: str
    folder: Path
    digest: str
    base_name: str
    base_revision: str | None
    method: str
    """Of the job that made it."""


async def find_model(
    session: AsyncSession, project: ProjectId, folders: Folders, name: str | None
) -> KnownModel | None:
    """Return the model of a name; None where the name isn't one of the platform's own.

    Raises:
        InvalidSpec: no such version or checkpoint in the project.
    """
    if name is None or not name.startswith(PREFIXES):
        return None
    if version := parse_version(name):
        return await _find_version(session, project, folders, name, *version)
    if checkpoint := checkpoint_id(name):
        return await _find_checkpoint(session, project, folders, name, checkpoint)
    raise InvalidSpec(
        f"{name!r} names no model; write models/NAME@VERSION or checkpoints/ckpt_...",
        param="model.name_or_path",
    )


async def _find_version(
    session: AsyncSession, project: ProjectId, folders: Folders, name: str, model: str, version: int
) -> KnownModel:
    row = await session.get(ModelVersionRow, (project, model, version))
    if row is None:
        raise _missing(project, name, "steelyard models list")
    job = await session.get_one(JobRow, row.job_id)
    return _known(name, folder_of(row, folders.objects), row.manifest_digest, job)


async def _find_checkpoint(
    session: AsyncSession, project: ProjectId, folders: Folders, name: str, checkpoint: str
) -> KnownModel:
    row = await session.scalar(
        select(CheckpointRow).where(CheckpointRow.project_id == project, CheckpointRow.id == checkpoint)
    )
    if row is None or row.status != "available":
        raise _missing(project, name, "steelyard get JOB")
    job = await session.get_one(JobRow, row.job_id)
    return _known(name, folders.job(project, job.id) / row.path, row.manifest_digest, job)


def _known(name: str, folder: Path, digest: str, job: JobRow) -> KnownModel:
    base: dict[str, Any] = job.spec.get("model") or {}
    revision = job.prepared.get("model_revision") or base.get("revision")
    method = str(job.spec.get("method", ""))
    return KnownModel(name, folder, digest, str(base.get("name_or_path", "")), revision, method)


def _missing(project: ProjectId, name: str, command: str) -> InvalidSpec:
    return InvalidSpec(
        f"no {name!r} in project {project!r}; '{command}' shows what there is", param="model.name_or_path"
    )
