"""API tokens: one's own, and those of users who can't sign in yet."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.identity import TokenGrant, TokenRequest, TokenRevocation, TokenView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1", tags=["tokens"], responses=ERROR_RESPONSES)

_OWN = permits("authenticated")
_BODY = body_schema(TokenRequest)


@router.get("/tokens", openapi_extra=_OWN)
async def list_tokens(actor: CurrentActor, services: CurrentServices) -> ListView[TokenView]:
    """Return the caller's tokens, newest first."""
    return ListView[TokenView](data=await services.tokens.search_own(actor))


@router.post("/tokens", status_code=201, openapi_extra={**_OWN, **_BODY})
async def create_token(request: Request, actor: CurrentActor, services: CurrentServices) -> TokenGrant:
    """Make a token for the caller. Its secret is in this answer and nowhere after."""
    return await services.tokens.create_own(actor, parse_body(await read_body(request), TokenRequest))


@router.delete("/tokens/{token}", openapi_extra=_OWN)
async def revoke_token(
    token: str,
    actor: CurrentActor,
    services: CurrentServices,
    keep_made: Annotated[bool, Query(description="Let tokens that were made with it be.")] = False,
) -> TokenRevocation:
    """Revoke one's own token, or one of an account that one is set over, and all that were made with it."""
    return await services.tokens.revoke(actor, token, keep_made=keep_made)


@router.get("/users/{user}/tokens", openapi_extra=permits(Permission.ORGANIZATION_READ))
async def list_tokens_of_user(
    user: str, actor: CurrentActor, services: CurrentServices
) -> ListView[TokenView]:
    """Return a user's tokens, newest first."""
    return ListView[TokenView](data=await services.tokens.search_of_user(actor, user))


@router.post(
    "/users/{user}/tokens",
    status_code=201,
    openapi_extra={**permits(Permission.ORGANIZATION_WRITE), **_BODY},
)
async def create_token_for_user(
    user: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> TokenGrant:
    """Make a token for a user who can't sign in yet; the local admin does."""
    body = parse_body(await read_body(request), TokenRequest)
    return await services.tokens.create_for_user(actor, user, body)
