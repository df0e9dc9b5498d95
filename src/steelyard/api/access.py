"""Who sent a request: the dependency that every route of a tenant has."""

from typing import Annotated, cast

from fastapi import Depends, Request

from steelyard.api.services import Services
from steelyard.governance.identity import Actor


def services_of(request: Request) -> Services:
    """Return the services of this process."""
    return cast("Services", request.app.state.services)


async def actor_of(request: Request) -> Actor:
    """Return who sent the request.

    Raises:
        Unauthenticated: no token, or one that is not known.
    """
    actor = await services_of(request).authenticator.authenticate(
        bearer_token(request), request_id_of(request), request.client.host if request.client else None
    )
    request.state.actor = actor
    return actor


def bearer_token(request: Request) -> str | None:
    """Return the bearer token of a request."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def request_id_of(request: Request) -> str:
    """Return the id that the request got when it came in."""
    return cast("str", request.state.request_id)


CurrentActor = Annotated[Actor, Depends(actor_of)]
CurrentServices = Annotated[Services, Depends(services_of)]
