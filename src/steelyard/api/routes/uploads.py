"""Uploads: files that become datasets, in one piece or in parts."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.ingests import UploadOrder, UploadState, UploadView

router = APIRouter(prefix="/v1/projects/{project}/uploads", tags=["datasets"], responses=ERROR_RESPONSES)

_WRITE = permits(Permission.DATASET_WRITE)
_BYTES: dict[str, Any] = {
    **_WRITE,
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
}
_ORDER: dict[str, Any] = {
    **_WRITE,
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UploadOrder"}}},
    },
}
Digest = Annotated[str, Header(alias="X-Content-Digest", pattern=r"^sha256:[0-9a-f]{64}$")]
Number = Annotated[int, Path(ge=1, le=10_000)]


@router.post("", status_code=201, openapi_extra=_BYTES)
async def upload(
    project: str,
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    filename: Annotated[str, Query(max_length=200)],
    digest: Annotated[str | None, Header(alias="X-Content-Digest")] = None,
) -> UploadView:
    """Send one file, streamed; `X-Content-Digest: sha256:<hex>` has it checked."""
    pieces: AsyncIterator[bytes] = request.stream()
    return await services.uploads.receive(actor, project, filename, pieces, digest)


@router.post("/parts", openapi_extra=_ORDER)
async def begin(
    project: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> UploadState:
    """Begin a file that comes in parts, or take up the one with the same name and bytes."""
    order = parse_body(await read_body(request), UploadOrder)
    return await services.multipart.begin(actor, project, order)


@router.get("/{upload}", openapi_extra=_WRITE)
async def look(project: str, upload: str, actor: CurrentActor, services: CurrentServices) -> UploadState:
    """Return which parts are there."""
    return await services.multipart.look(actor, project, upload)


@router.put("/{upload}/parts/{number}", openapi_extra=_BYTES)
async def receive(
    project: str,
    upload: str,
    number: Number,
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    digest: Digest,
) -> UploadState:
    """Send a part; sent again, it changes nothing."""
    pieces: AsyncIterator[bytes] = request.stream()
    return await services.multipart.receive(actor, project, upload, number, pieces, digest)


@router.post("/{upload}/complete", openapi_extra=_WRITE)
async def complete(project: str, upload: str, actor: CurrentActor, services: CurrentServices) -> UploadState:
    """Check the whole file; from then on it is an upload like any other. Takes a second a gigabyte."""
    return await services.multipart.complete(actor, project, upload)
