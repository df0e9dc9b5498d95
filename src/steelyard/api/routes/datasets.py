"""Datasets: ingest, derive, list, show, delete, and rows back out."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse

from steelyard.api.access import CurrentActor, CurrentReader, CurrentServices
from steelyard.api.bodies import parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.datasets.service import version_view
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.access import Permission
from steelyard.specs.datasets import DatasetVersionView, VersionDiff, VersionVerification
from steelyard.specs.ingests import (
    DatasetDeletion,
    DatasetSummary,
    DeriveRequest,
    IngestRequest,
    IngestView,
    RowsView,
)
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1/projects/{project}", tags=["datasets"], responses=ERROR_RESPONSES)

DatasetName = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Split = Literal["train", "validation"]
# A report shows what somebody else wrote: nothing in it runs, or is taken for another kind of file.
_OF_OTHERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


@router.post("/datasets/{name}/ingests", status_code=202, openapi_extra={
    **permits(Permission.DATASET_WRITE),
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/IngestRequest"}}},
    }
})  # fmt: skip
async def request_ingest(
    project: str, name: DatasetName, request: Request, actor: CurrentActor, services: CurrentServices
) -> IngestView:
    """Turn uploads into the next version of a dataset."""
    body = parse_body(await read_body(request), IngestRequest, InvalidSpec)
    return await services.datasets.request_ingest(actor, project, name, body)


@router.post("/datasets/{name}/derivations", status_code=202, openapi_extra={
    **permits(Permission.DATASET_WRITE),
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DeriveRequest"}}},
    }
})  # fmt: skip
async def request_derivation(
    project: str, name: DatasetName, request: Request, actor: CurrentActor, services: CurrentServices
) -> IngestView:
    """Make the next version of a dataset out of versions that are there: filtered, or mixed."""
    body = parse_body(await read_body(request), DeriveRequest, InvalidSpec)
    return await services.datasets.request_derivation(actor, project, name, body)


@router.delete("/datasets/{ref}", openapi_extra=permits(Permission.DATASET_DELETE))
async def delete_version(
    project: str, ref: str, actor: CurrentActor, services: CurrentServices
) -> DatasetDeletion:
    """Delete `name@vN`: gone where nothing refers to it, else a tombstone."""
    return await services.deletion.delete(actor, project, ref)


@router.get("/ingests/{ingest}", openapi_extra=permits(Permission.DATASET_READ))
async def get_ingest(project: str, ingest: str, actor: CurrentActor, services: CurrentServices) -> IngestView:
    """Return an ingest as it is now."""
    return await services.datasets.get_ingest(actor, project, ingest)


@router.post("/ingests/{ingest}/cancel", openapi_extra=permits(Permission.DATASET_WRITE))
async def cancel_ingest(
    project: str, ingest: str, actor: CurrentActor, services: CurrentServices
) -> IngestView:
    """Stop an ingest before it makes a version; the same ingest, asked for again, goes on where it was."""
    return await services.datasets.cancel_ingest(actor, project, ingest)


@router.get("/datasets", openapi_extra=permits(Permission.DATASET_READ))
async def list_datasets(
    project: str, actor: CurrentActor, services: CurrentServices
) -> ListView[DatasetSummary]:
    """Return a project's datasets by name."""
    return ListView[DatasetSummary](data=await services.datasets.search(actor, project))


@router.get("/datasets/{ref}", openapi_extra=permits(Permission.DATASET_READ))
async def get_version(
    project: str, ref: str, actor: CurrentActor, services: CurrentServices
) -> DatasetVersionView:
    """Return a version: `name@vN`, or the newest of `name`."""
    return version_view(await services.datasets.resolve(actor, project, ref))


@router.get(
    "/datasets/{ref}/rows", response_class=FileResponse, openapi_extra=permits(Permission.DATASET_READ)
)
async def export_rows(
    project: str, ref: str, actor: CurrentActor, services: CurrentServices, split: Split | None = None
) -> FileResponse:
    """Return all rows of a version, or of one split, as JSON Lines in TRL's columns."""
    version = await services.datasets.resolve(actor, project, ref)
    path = await services.dataset_files.export(version, split)
    return FileResponse(path, media_type="application/jsonl")


@router.get("/datasets/{ref}/head", openapi_extra=permits(Permission.DATASET_READ))
async def head(
    project: str,
    ref: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 5,
    split: Split = "train",
) -> RowsView:
    """Return the first rows of a version."""
    version = await services.datasets.resolve(actor, project, ref)
    return RowsView(data=await services.dataset_files.head(version, split, limit))


@router.get(
    "/datasets/{ref}/report", response_class=FileResponse, openapi_extra=permits(Permission.DATASET_READ)
)
async def report(
    project: str,
    ref: str,
    actor: CurrentReader,
    services: CurrentServices,
    form: Literal["json", "html"] = "json",
) -> FileResponse:
    """Return what the ingest did: JSON, or a page with pictures. A signed-in browser may open it."""
    version = await services.datasets.resolve(actor, project, ref)
    media_type = "application/json" if form == "json" else "text/html"
    path = await asyncio.to_thread(services.examinations.report, version, form)
    return FileResponse(path, media_type=media_type, headers=_OF_OTHERS)


@router.get("/datasets/{ref}/verification", openapi_extra=permits(Permission.DATASET_READ))
async def verify(
    project: str, ref: str, actor: CurrentActor, services: CurrentServices
) -> VersionVerification:
    """Read all of a version again, and say whether it is what its digest says."""
    return await services.examinations.verify(await services.datasets.resolve(actor, project, ref))


@router.get("/datasets/{ref}/diff", openapi_extra=permits(Permission.DATASET_READ))
async def diff(
    project: str, ref: str, actor: CurrentActor, services: CurrentServices, against: str
) -> VersionDiff:
    """Say what came and went since the version `against`."""
    old = await services.datasets.resolve(actor, project, against)
    return await services.examinations.diff(old, await services.datasets.resolve(actor, project, ref))
