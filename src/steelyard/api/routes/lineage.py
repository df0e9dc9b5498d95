"""Lineage: the graph, the signed statement, its verification, the model card, and reproduction."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.routes.jobs import IdempotencyKey, submission_response
from steelyard.registry.graph import MAX_HOPS
from steelyard.specs.access import Permission
from steelyard.specs.lineage import LineageGraph, ModelVerification, WeightsComparison

router = APIRouter(tags=["lineage"], responses=ERROR_RESPONSES)

_VERSION = "/v1/projects/{project}/models/{name}/versions/{version}"
_READ = permits(Permission.MODEL_READ)


@router.get("/v1/lineage/{project}/{kind}/{ref}", openapi_extra=_READ)
async def graph(
    project: str,
    kind: str,
    ref: str,
    actor: CurrentActor,
    services: CurrentServices,
    hops: Annotated[int, Query(ge=0, le=MAX_HOPS, description="How far from the root.")] = 2,
) -> LineageGraph:
    """Return what lies around a `model` NAME@V, a `job` by id, or a `dataset` NAME@vN."""
    return await services.lineage.graph(actor, project, kind, ref, hops)


@router.get(f"{_VERSION}/statement", openapi_extra=_READ, response_class=Response)
async def statement(
    project: str, name: str, version: int, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Return the signed in-toto statement (DSSE) that was sealed when the version was registered."""
    envelope = await services.models.statement(actor, project, name, version)
    return Response(envelope, media_type="application/vnd.dsse+json")


@router.get(f"{_VERSION}/card", openapi_extra=_READ, response_class=PlainTextResponse)
async def card(
    project: str, name: str, version: int, actor: CurrentActor, services: CurrentServices
) -> PlainTextResponse:
    """Return the model card, as Markdown."""
    text = await services.models.card(actor, project, name, version)
    return PlainTextResponse(text, media_type="text/markdown")


@router.post(f"{_VERSION}/verify", openapi_extra=_READ)
async def verify(
    project: str, name: str, version: int, actor: CurrentActor, services: CurrentServices
) -> ModelVerification:
    """Compute every digest of a version anew. Reads all of its bytes; changes nothing."""
    return await services.verification.verify(actor, project, name, version)


@router.post(f"{_VERSION}/reproduce", status_code=202, openapi_extra=permits(Permission.JOB_SUBMIT))
async def reproduce(
    project: str,
    name: str,
    version: int,
    actor: CurrentActor,
    services: CurrentServices,
    key: IdempotencyKey = None,
) -> Response:
    """Submit the job that made a version once more; answers as a submission does."""
    return submission_response(await services.reproduction.reproduce(actor, project, name, version, key))


@router.get(f"{_VERSION}/reproductions/{{job}}", openapi_extra=_READ)
async def compare(
    project: str, name: str, version: int, job: str, actor: CurrentActor, services: CurrentServices
) -> WeightsComparison:
    """Compare what a finished reproduction made with the version, file by file."""
    return await services.reproduction.compare(actor, project, name, version, job)
