"""What people ask of jobs: cancel, pause, resume, retry, priority, and cancel for many."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.routes.jobs import IdempotencyKey, json_response, parse_tags
from steelyard.jobs.repository import JobFilter
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.access import Permission
from steelyard.specs.base import Message, Spec
from steelyard.specs.views import ErrorResponse, JobView, ListView

router = APIRouter(
    prefix="/v1/projects/{project}/jobs",
    tags=["commands"],
    responses={
        **ERROR_RESPONSES,
        409: {
            "model": ErrorResponse,
            "description": "The job's state doesn't allow it; the message names it.",
        },
    },
)


class RetryRequest(Spec):
    """Where a retry starts. Nothing given: the newest good checkpoint."""

    checkpoint: str | None = None
    """Id of a checkpoint."""
    step: int | None = None
    """Step of a checkpoint."""


class PriorityRequest(Spec):
    """A new place in the queue."""

    priority: Annotated[int, Field(ge=0, le=1000)]


class BulkCancelRequest(Spec):
    """Which jobs to cancel: the listed ones, those with a tag, or all that are not over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tag": "team=support"}]})

    ids: Annotated[list[str], Field(max_length=1000)] = []
    tag: str | None = None
    all: bool = False


class BulkResult(Message):
    """What became of one job of a bulk request."""

    id: str
    accepted: bool
    message: str


@router.post("/cancel", status_code=202, openapi_extra=permits(Permission.JOB_CONTROL))
async def cancel_many(
    project: str, body: BulkCancelRequest, actor: CurrentActor, services: CurrentServices
) -> ListView[BulkResult]:
    """Cancel many jobs at once."""
    if not body.ids and body.tag is None and not body.all:
        raise InvalidRequest("say which jobs: ids, tag, or all", param="ids")
    filter_ = JobFilter(tags=parse_tags([body.tag] if body.tag else []))
    results = await services.commands.cancel_many(actor, project, filter_, body.ids)
    return ListView[BulkResult](
        data=[BulkResult(id=job, accepted=accepted, message=message) for job, accepted, message in results]
    )


@router.post(
    "/{job}/cancel", status_code=202, response_model=JobView, openapi_extra=permits(Permission.JOB_CONTROL)
)
async def cancel(
    project: str, job: str, actor: CurrentActor, services: CurrentServices, key: IdempotencyKey = None
) -> Response:
    """Stop a job at a step's end and end it."""
    return json_response(await services.commands.cancel(actor, project, job, key), 202)


@router.post(
    "/{job}/pause", status_code=202, response_model=JobView, openapi_extra=permits(Permission.JOB_CONTROL)
)
async def pause(
    project: str, job: str, actor: CurrentActor, services: CurrentServices, key: IdempotencyKey = None
) -> Response:
    """Stop a job at a step's end with a checkpoint, and free its slot."""
    return json_response(await services.commands.pause(actor, project, job, key), 202)


@router.post(
    "/{job}/resume", status_code=202, response_model=JobView, openapi_extra=permits(Permission.JOB_CONTROL)
)
async def resume(
    project: str, job: str, actor: CurrentActor, services: CurrentServices, key: IdempotencyKey = None
) -> Response:
    """Queue a paused job again."""
    return json_response(await services.commands.resume(actor, project, job, key), 202)


@router.post(
    "/{job}/retry",
    status_code=202,
    response_model=JobView,
    openapi_extra={
        **permits(Permission.JOB_CONTROL),
        "requestBody": {
            "required": False,
            "content": {"application/json": {"schema": RetryRequest.model_json_schema()}},
        },
    },
)
async def retry(
    project: str,
    job: str,
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    key: IdempotencyKey = None,
) -> Response:
    """Run an ended job again, from its newest or a named checkpoint."""
    body = parse_body(await read_body(request) or b"{}", RetryRequest)
    answer = await services.commands.retry(actor, project, job, body.checkpoint, body.step, key)
    return json_response(answer, 202)


@router.post(
    "/{job}/priority", status_code=202, response_model=JobView, openapi_extra=permits(Permission.JOB_CONTROL)
)
async def set_priority(
    project: str,
    job: str,
    body: PriorityRequest,
    actor: CurrentActor,
    services: CurrentServices,
    key: IdempotencyKey = None,
) -> Response:
    """Change a job's place in the queue."""
    return json_response(await services.commands.set_priority(actor, project, job, body.priority, key), 202)
