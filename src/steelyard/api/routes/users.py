"""The caller himself, and the users of the installation."""

from fastapi import APIRouter, Request

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.identity import MeView, UserRequest, UserView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1", tags=["users"], responses=ERROR_RESPONSES)

_WRITE = permits(Permission.ORGANIZATION_WRITE)


@router.get("/me", openapi_extra=permits("authenticated"))
async def me(actor: CurrentActor, services: CurrentServices) -> MeView:
    """Return who the caller is, and what he has a part in."""
    return await services.users.me(actor)


@router.get("/users", openapi_extra=permits(Permission.ORGANIZATION_READ))
async def list_users(actor: CurrentActor, services: CurrentServices) -> ListView[UserView]:
    """Return all users of the installation, for its operators and auditors."""
    return ListView[UserView](data=await services.users.search(actor))


@router.post("/users", status_code=201, openapi_extra={**_WRITE, **body_schema(UserRequest)})
async def create_user(request: Request, actor: CurrentActor, services: CurrentServices) -> UserView:
    """Make a user before his first sign-in."""
    body = parse_body(await read_body(request), UserRequest)
    return await services.users.create(actor, body)


@router.post("/users/{user}/disable", openapi_extra=_WRITE)
async def disable(user: str, actor: CurrentActor, services: CurrentServices) -> UserView:
    """Shut a user out, sessions and tokens too."""
    return await services.users.disable(actor, user)


@router.post("/users/{user}/enable", openapi_extra=_WRITE)
async def enable(user: str, actor: CurrentActor, services: CurrentServices) -> UserView:
    """Let a disabled user in again."""
    return await services.users.enable(actor, user)


@router.delete("/users/{user}", openapi_extra=_WRITE)
async def delete(user: str, actor: CurrentActor, services: CurrentServices) -> UserView:
    """Close an account for ever; jobs of his go on, and stay under his name."""
    return await services.users.delete(actor, user)
