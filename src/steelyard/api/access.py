"""Who sent a request: the dependency that every route of a tenant has."""

from typing import Annotated, cast

from fastapi import Depends, Request

from steelyard.api.services import Services
from steelyard.governance.identity import Actor


def services_of(request: Request) -> Services:
    """Return the services of this process."""
    return cast("Services", request.app.state.services)


SESSION_COOKIE = "steelyard_session"


async def actor_of(request: Request) -> Actor:
    """Return who sent the request.

    Raises:
        Unauthenticated: no token, or one that is not known.
    """
    return await _recognize(request, bearer_token(request))


async def reader_of(request: Request) -> Actor:
    """Return who asks for a page: a browser shows its session's cookie. For routes that only read.

    Raises:
        Unauthenticated: neither token nor cookie, or one that is not known.
    """
    return await _recognize(request, bearer_token(request) or request.cookies.get(SESSION_COOKIE))


def bearer_token(request: Request) -> str | None:
    """Return the bearer token of a request."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def request_id_of(request: Request) -> str:
    """Return the id that the request got when it came in."""
    return cast("str", request.state.request_id)


async def _recognize(request: Request, token: str | None) -> Actor:
    actor = await services_of(request).authenticator.authenticate(
        token, request_id_of(request), request.client.host if request.client else None
    )
    request.state.actor = actor
    return actor


CurrentActor = Annotated[Actor, Depends(actor_of)]
CurrentReader = Annotated[Actor, Depends(reader_of)]
CurrentServices = Annotated[Services, Depends(services_of)]
