"""Browser sessions: a link that is good for minutes, exchanged for a cookie that is good for a day."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from steelyard.api.access import SESSION_COOKIE, CurrentActor, CurrentServices, request_id_of
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.services import Services
from steelyard.client.models import SessionLink
from steelyard.kit.errors import InvalidRequest

router = APIRouter(tags=["sessions"], responses=ERROR_RESPONSES)

_LINK_SECONDS = 15 * 60
_COOKIE_SECONDS = 24 * 3600


@router.post("/v1/sessions", openapi_extra=permits("authenticated"))
async def make_link(
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    to: Annotated[str, Query(description="Path on this server to go to then.")] = "/mlflow/",
) -> SessionLink:
    """Make a link that signs a browser in as the caller."""
    await services.users.begin_session(actor, "session.create")
    code = services.session_tokens.issue(
        actor.id, _LINK_SECONDS, began=actor.signed_in_at, token_id=actor.token_id
    )
    query = urlencode({"code": code, "to": local_path(to)})
    return SessionLink(url=f"{request.base_url}session?{query}", expires_in_seconds=_LINK_SECONDS)


@router.get("/session", include_in_schema=False, openapi_extra=permits("public"))
async def open_session(
    request: Request, services: CurrentServices, code: str, to: str = "/mlflow/"
) -> Response:
    """Exchange a link's code for a cookie, and go on."""
    source = request.client.host if request.client else None
    actor = await services.authenticator.authenticate(code, request_id_of(request), source)
    if actor.signed_in_at is None:
        raise InvalidRequest("'code' is what a link of 'steelyard open' carries", param="code")
    await services.users.begin_session(actor, "session.open")
    answer = RedirectResponse(local_path(to), status_code=303)
    set_session_cookie(request, answer, services, actor.id, began=actor.signed_in_at, token_id=actor.token_id)
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.delete("/v1/sessions", status_code=204, openapi_extra=permits("authenticated"))
async def sign_out(actor: CurrentActor, services: CurrentServices) -> Response:
    """End all sessions of the caller, this one too. API tokens stay."""
    await services.users.sign_out(actor)
    answer = Response(status_code=204)
    answer.delete_cookie(SESSION_COOKIE, path="/")
    return answer


def set_session_cookie(
    request: Request,
    answer: Response,
    services: Services,
    principal_id: str,
    *,
    began: datetime | None = None,
    token_id: str | None = None,
) -> None:
    """Sign a browser in as somebody whom the caller has recognized; `began` and `token_id` as for `issue`."""
    token = services.session_tokens.issue(principal_id, _COOKIE_SECONDS, began=began, token_id=token_id)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        SESSION_COOKIE, token, _COOKIE_SECONDS, httponly=True, samesite="strict", path="/", secure=secure
    )


def local_path(path: str) -> str:
    """Refuse to send a browser to another site."""
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        raise InvalidRequest("'to' must be a path on this server, such as /mlflow/", param="to")
    return path
