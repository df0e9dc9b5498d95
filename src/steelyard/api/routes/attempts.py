"""What training processes call. The token of an attempt reaches these routes of its own attempt alone."""

from fastapi import APIRouter, Request

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import parse_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.reports import (
    AttemptReport,
    CheckpointReport,
    Directives,
    EventReport,
    ResultReport,
)
from steelyard.specs.views import ErrorResponse

router = APIRouter(
    prefix="/v1/attempts/{attempt_id}",
    tags=["attempts"],
    responses={
        **ERROR_RESPONSES,
        409: {"model": ErrorResponse, "description": "`stale_lease`: write nothing more and exit."},
    },
)


@router.post("/report", openapi_extra=permits("attempt"))
async def report(
    attempt_id: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> Directives:
    """Store progress, renew the lease, and answer what the trainer is to do."""
    return await services.reports.report(actor, attempt_id, parse_body(await request.body(), AttemptReport))


@router.post("/checkpoints", openapi_extra=permits("attempt"))
async def publish_checkpoint(
    attempt_id: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> Directives:
    """Enter a complete checkpoint into the index."""
    return await services.reports.publish_checkpoint(
        actor, attempt_id, parse_body(await request.body(), CheckpointReport)
    )


@router.post("/result", status_code=204, openapi_extra=permits("attempt"))
async def publish_result(
    attempt_id: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> None:
    """Store how the attempt ended."""
    await services.reports.publish_result(actor, attempt_id, parse_body(await request.body(), ResultReport))


@router.post("/events", status_code=204, openapi_extra=permits("attempt"))
async def publish_event(
    attempt_id: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> None:
    """Append an event to the job's."""
    await services.reports.publish_event(actor, attempt_id, parse_body(await request.body(), EventReport))
