"""Webhooks of a project."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.views import ListView
from steelyard.specs.webhooks import DeliveryView, WebhookRequest, WebhookView

router = APIRouter(prefix="/v1/projects/{project}/webhooks", tags=["webhooks"], responses=ERROR_RESPONSES)

_WRITE = permits(Permission.GATE_WRITE)


@router.get("", openapi_extra=_WRITE)
async def list_webhooks(
    project: str, actor: CurrentActor, services: CurrentServices
) -> ListView[WebhookView]:
    """Return a project's webhooks, without their secrets."""
    return ListView[WebhookView](data=await services.webhooks.search(actor, project))


@router.post("", status_code=201, openapi_extra={**_WRITE, **body_schema(WebhookRequest)})
async def add_webhook(
    project: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> WebhookView:
    """Send events to an address. The answer holds the secret of the signatures, this once."""
    webhook = parse_body(await read_body(request), WebhookRequest)
    return await services.webhooks.add(actor, project, webhook)


@router.delete("/{webhook}", status_code=204, openapi_extra=_WRITE)
async def remove_webhook(
    project: str, webhook: str, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Send nothing more there."""
    await services.webhooks.remove(actor, project, webhook)
    return Response(status_code=204)


@router.get("/{webhook}/deliveries", openapi_extra=_WRITE)
async def list_deliveries(
    project: str,
    webhook: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[DeliveryView]:
    """Return what was sent to a webhook, newest first, and what became of it."""
    return await services.webhooks.deliveries(actor, project, webhook, limit, after)
