"""Service accounts of an organization."""

from fastapi import APIRouter, Request

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.identity import (
    ServiceAccountRequest,
    ServiceAccountView,
    TokenGrant,
    TokenRequest,
    TokenView,
)
from steelyard.specs.views import ListView

router = APIRouter(
    prefix="/v1/organizations/{organization}/service-accounts",
    tags=["service accounts"],
    responses=ERROR_RESPONSES,
)

_READ = permits(Permission.MEMBER_READ)
_WRITE = permits(Permission.ORGANIZATION_WRITE)


@router.get("", openapi_extra=_READ)
async def list_accounts(
    organization: str, actor: CurrentActor, services: CurrentServices
) -> ListView[ServiceAccountView]:
    """Return an organization's service accounts."""
    return ListView[ServiceAccountView](data=await services.service_accounts.search(actor, organization))


@router.post("", status_code=201, openapi_extra={**_WRITE, **body_schema(ServiceAccountRequest)})
async def create_account(
    organization: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> ServiceAccountView:
    """Make a service account; it holds no role yet."""
    body = parse_body(await read_body(request), ServiceAccountRequest)
    return await services.service_accounts.create(actor, organization, body)


@router.post("/{account}/disable", openapi_extra=_WRITE)
async def disable(
    organization: str, account: str, actor: CurrentActor, services: CurrentServices
) -> ServiceAccountView:
    """Refuse all of its tokens."""
    return await services.service_accounts.disable(actor, organization, account)


@router.post("/{account}/enable", openapi_extra=_WRITE)
async def enable(
    organization: str, account: str, actor: CurrentActor, services: CurrentServices
) -> ServiceAccountView:
    """Let a disabled account in again."""
    return await services.service_accounts.enable(actor, organization, account)


@router.delete("/{account}", openapi_extra=_WRITE)
async def delete(
    organization: str, account: str, actor: CurrentActor, services: CurrentServices
) -> ServiceAccountView:
    """Close an account for ever."""
    return await services.service_accounts.delete(actor, organization, account)


@router.get("/{account}/tokens", openapi_extra=_READ)
async def list_tokens(
    organization: str, account: str, actor: CurrentActor, services: CurrentServices
) -> ListView[TokenView]:
    """Return an account's tokens, newest first."""
    found = await services.tokens.search_of_account(actor, organization, account)
    return ListView[TokenView](data=found)


@router.post("/{account}/tokens", status_code=201, openapi_extra={**_WRITE, **body_schema(TokenRequest)})
async def create_token(
    organization: str, account: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> TokenGrant:
    """Make a token for an account. Its secret is in this answer and nowhere after."""
    body = parse_body(await read_body(request), TokenRequest)
    return await services.tokens.create_for_account(actor, organization, account, body)
