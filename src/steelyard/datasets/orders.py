"""What the engine is told to build: inputs, and parents with their manifests, as they were when asked for."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets import catalogue
from steelyard.governance.access import ProjectId
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.ingests import DeriveRequest
from steelyard.storage.tables import IngestRow


@dataclass(frozen=True)
class IngestOrder:
    """What the engine needs to build a version. `done` where it was published, or given up, before."""

    done: bool
    project_id: str = ""
    inputs: list[str] = field(default_factory=list[str])
    """Paths of uploads, and URIs."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    """Path of an upload -> what messages call it."""
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    parent: dict[str, Any] | None = None
    """`ref` and `manifest` of the version that the rows are appended to."""
    derive: dict[str, Any] | None = None
    """`where`, `rows`, and `parents` with `ref`, `weight` and `manifest`."""
    decontaminate: bool = False


async def pin_derivation(session: AsyncSession, project: ProjectId, request: DeriveRequest) -> dict[str, Any]:
    """Return a derivation's terms with every parent pinned to a version.

    Raises:
        InvalidRequest: a parent isn't there; `param` says which.
    """
    if request.parent is not None:
        ref = await _pinned(session, project, request.parent, "parent")
        parents = [{"ref": ref, "weight": 1.0}]
        return {"where": request.where, "parents": parents, "decontaminate": request.decontaminate}
    parents = [
        {"ref": await _pinned(session, project, part.ref, f"mix.{place}.ref"), "weight": part.weight}
        for place, part in enumerate(request.mix)
    ]
    return {"rows": request.rows, "parents": parents, "decontaminate": request.decontaminate}


async def order_of(session: AsyncSession, row: IngestRow, paths: dict[str, str]) -> IngestOrder:
    """Return the order of an ingest whose uploads lie at `paths`, by their ids."""
    project = ProjectId(row.project_id)
    derive: dict[str, Any] | None = row.uploads.get("derive")
    if derive is not None:
        parents = [
            {**parent, **await _manifest(session, project, parent["ref"])} for parent in derive["parents"]
        ]
        return IngestOrder(
            False,
            row.project_id,
            derive={**derive, "parents": parents},
            decontaminate=bool(derive.get("decontaminate")),
        )
    ref = row.uploads.get("append_to")
    return IngestOrder(
        False,
        row.project_id,
        inputs=[*paths.values(), *row.uploads.get("uris", [])],
        names={paths[upload]: name for upload, name in row.uploads.get("names", {}).items()},
        spec=row.spec,
        parent=await _manifest(session, project, ref) if ref else None,
        decontaminate=bool(row.uploads.get("decontaminate")),
    )


async def _manifest(session: AsyncSession, project: ProjectId, ref: str) -> dict[str, Any]:
    found = await catalogue.resolve(session, project, ref, deleted_too=True)
    return {"ref": found.ref, "manifest": found.manifest}


async def _pinned(session: AsyncSession, project: ProjectId, ref: str, param: str) -> str:
    try:
        return (await catalogue.resolve(session, project, ref, hold=True)).ref
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=param) from error
