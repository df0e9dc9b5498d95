"""Browser sessions: a link that is good for minutes, exchanged for a cookie that is good for a day."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from steelyard.api.access import CurrentActor, CurrentServices, request_id_of
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.client.models import SessionLink
from steelyard.kit.errors import InvalidRequest, PermissionDenied

router = APIRouter(tags=["sessions"], responses=ERROR_RESPONSES)

COOKIE = "steelyard_session"
_LINK_SECONDS = 15 * 60
_COOKIE_SECONDS = 24 * 3600


@router.post("/v1/sessions")
async def make_link(
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    to: Annotated[str, Query(description="Path on this server to go to then.")] = "/mlflow/",
) -> SessionLink:
    """Make a link that signs a browser in as the caller."""
    if actor.kind != "user":
        raise PermissionDenied("only people open browser sessions")
    query = urlencode({"code": services.session_tokens.issue(_LINK_SECONDS), "to": _local(to)})
    return SessionLink(url=f"{request.base_url}session?{query}", expires_in_seconds=_LINK_SECONDS)


@router.get("/session", include_in_schema=False)
async def open_session(
    request: Request, services: CurrentServices, code: str, to: str = "/mlflow/"
) -> Response:
    """Exchange a link's code for a cookie, and go on."""
    source = request.client.host if request.client else None
    services.authenticator.authenticate(code, request_id_of(request), source)
    answer = RedirectResponse(_local(to), status_code=303)
    token = services.session_tokens.issue(_COOKIE_SECONDS)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, token, _COOKIE_SECONDS, httponly=True, samesite="strict", path="/", secure=secure
    )
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _local(path: str) -> str:
    """Refuse to send a browser to another site."""
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        raise InvalidRequest("'to' must be a path on this server, such as /mlflow/", param="to")
    return path
