"""Aliases of models: asking for a move, deciding on it, rolling back, and what was when."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.routes.jobs import IdempotencyKey
from steelyard.api.services import Services
from steelyard.governance.identity import Actor
from steelyard.kit.errors import SteelyardError
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.rollouts.events import CHANNEL
from steelyard.specs.access import Permission
from steelyard.specs.promotions import (
    Alias,
    DecisionRequest,
    PromoteRequest,
    PromotionState,
    PromotionSummary,
    PromotionView,
    RegistryEventView,
    RollbackRequest,
    TransitionView,
)
from steelyard.specs.views import ErrorResponse
from steelyard.storage.notifications import wait_for_hint

router = APIRouter(
    prefix="/v1/projects/{project}",
    tags=["promotions"],
    responses={
        **ERROR_RESPONSES,
        403: {"model": ErrorResponse, "description": "Not yours to decide; the message says why."},
        409: {
            "model": ErrorResponse,
            "description": "Things are not so, or no longer; the message says how.",
        },
    },
)

_POLL_SECONDS = 5.0

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
After = Annotated[str | None, Query(description="The `next` of the page before.")]
States = Annotated[list[PromotionState] | None, Query(alias="state", description="Repeatable.")]
Moment = Annotated[datetime, Query(description="With a time zone, as 2026-01-31T12:00:00Z.")]


@router.post(
    "/models/{name}/promotions",
    status_code=202,
    openapi_extra={**permits(Permission.MODEL_PROMOTE), **body_schema(PromoteRequest)},
)
async def promote(
    project: str,
    name: str,
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    key: IdempotencyKey = None,
) -> PromotionView:
    """Ask that an alias point to a version: gates, then approvals, then the move.

    One that is under way already is answered in place of a second one.
    """
    wish = parse_body(await read_body(request), PromoteRequest)
    return await services.promotions.request(actor, project, name, wish, key)


@router.post(
    "/models/{name}/rollbacks",
    status_code=201,
    openapi_extra={**permits(Permission.MODEL_ROLLBACK), **body_schema(RollbackRequest)},
)
async def roll_back(
    project: str,
    name: str,
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    key: IdempotencyKey = None,
) -> TransitionView:
    """Return an alias to the version before, or to a named one that it pointed to. At once; no gate."""
    wish = parse_body(await read_body(request), RollbackRequest)
    return await services.rollbacks.roll_back(actor, project, name, wish, key)


@router.get("/models/{name}/aliases/{alias}/history", openapi_extra=permits(Permission.MODEL_READ))
async def list_transitions(
    project: str,
    name: str,
    alias: Alias,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[TransitionView]:
    """Return every move of an alias, newest first."""
    return await services.history.transitions(actor, project, name, alias, limit, after)


@router.get("/models/{name}/aliases/{alias}/at", openapi_extra=permits(Permission.MODEL_READ))
async def get_transition_at(
    project: str, name: str, alias: Alias, time: Moment, actor: CurrentActor, services: CurrentServices
) -> TransitionView:
    """Return which version an alias pointed to at a moment: the move that decided it."""
    return await services.history.at(actor, project, name, alias, time)


@router.get("/models/{name}/events", openapi_extra=permits(Permission.MODEL_READ))
async def list_events(
    project: str,
    name: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[RegistryEventView]:
    """Return a model's events, oldest first."""
    return await services.history.events(actor, project, name, limit, after)


@router.get(
    "/models/{name}/events/stream",
    response_class=StreamingResponse,
    openapi_extra=permits(Permission.MODEL_READ),
)
async def stream_events(
    project: str,
    name: str,
    actor: CurrentActor,
    services: CurrentServices,
    after: After = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Follow a model's events (server-sent events), from the first one after `after` or `Last-Event-ID`."""
    start = last_event_id or after
    await services.models.get(actor, project, name)
    await services.history.events(actor, project, name, 1, start)
    return StreamingResponse(
        _event_stream(services, actor, project, name, start),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/promotions", openapi_extra=permits(Permission.APPROVAL_READ))
async def list_promotions(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    states: States = None,
    model: str | None = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[PromotionSummary]:
    """Return promotions, newest first; `state=awaiting_approval` is the inbox."""
    return await services.approvals.search(
        actor, project, states=tuple(states or ()), model=model, limit=limit, after=after
    )


@router.get("/promotions/{promotion}", openapi_extra=permits(Permission.APPROVAL_READ))
async def get_promotion(
    project: str, promotion: str, actor: CurrentActor, services: CurrentServices
) -> PromotionView:
    """Return what an approver reads: the gates with their numbers, and the binding to approve."""
    return await services.approvals.get(actor, project, promotion)


@router.post(
    "/promotions/{promotion}/approve",
    openapi_extra={**permits(Permission.APPROVAL_DECIDE), **body_schema(DecisionRequest)},
)
async def approve(
    project: str, promotion: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> PromotionView:
    """Agree to exactly what `binding` stands for."""
    decision = parse_body(await read_body(request), DecisionRequest)
    return await services.approvals.decide(actor, project, promotion, "approve", decision)


@router.post(
    "/promotions/{promotion}/reject",
    openapi_extra={**permits(Permission.APPROVAL_DECIDE), **body_schema(DecisionRequest)},
)
async def reject(
    project: str, promotion: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> PromotionView:
    """Refuse; one refusal ends a promotion."""
    decision = parse_body(await read_body(request), DecisionRequest)
    return await services.approvals.decide(actor, project, promotion, "reject", decision)


@router.post("/promotions/{promotion}/withdraw", openapi_extra=permits(Permission.MODEL_PROMOTE))
async def withdraw(
    project: str, promotion: str, actor: CurrentActor, services: CurrentServices
) -> PromotionView:
    """Take one's own request back."""
    return await services.approvals.withdraw(actor, project, promotion)


async def _event_stream(
    services: Services, actor: Actor, project: str, name: str, after: str | None
) -> AsyncIterator[str]:
    """Whoever loses the right to read is read to no further: each look asks anew."""
    async with services.listener.subscription(CHANNEL, f"{project}/{name}") as hint:
        while True:
            try:
                page = await services.history.events(actor, project, name, MAX_LIMIT, after)
            except SteelyardError as error:
                if not error.retryable:
                    return
                page = Page[RegistryEventView](data=[], has_more=False)
            for event in page.data:
                after = str(event.id)
                yield f"id: {event.id}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
            if page.has_more:
                continue
            yield ": ping\n\n"
            await wait_for_hint(hint, _POLL_SECONDS)
