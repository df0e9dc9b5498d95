"""Sign-in through an identity provider: away, back, and the exchange of a command's code."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from steelyard.api.access import CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.routes.sessions import local_path, set_session_cookie
from steelyard.api.services import Services
from steelyard.governance.oidc.login import LoginService
from steelyard.kit.errors import NotFound, Unauthenticated
from steelyard.specs.login import LoginExchange, LoginInformation, SessionGrant

router = APIRouter(tags=["sessions"], responses=ERROR_RESPONSES)

TICKET_COOKIE = "steelyard_login"
CLI_SESSION_SECONDS = 12 * 3600
_TICKET_SECONDS = 600
_PUBLIC = permits("public")


@router.get("/v1/login", openapi_extra=_PUBLIC)
async def describe_login(services: CurrentServices) -> LoginInformation:
    """Say whether one can sign in through a provider here, and which."""
    login = services.login
    return LoginInformation(enabled=login is not None, issuer=login.issuer if login else None)


@router.get("/login", include_in_schema=False, openapi_extra=_PUBLIC)
async def depart(
    request: Request,
    services: CurrentServices,
    to: str = "/mlflow/",
    port: Annotated[int | None, Query(ge=1024, le=65535)] = None,
    challenge: str | None = None,
) -> Response:
    """Send a browser to the provider. With `port` and `challenge` a command waits for the outcome."""
    departure = await _login(services).depart(local_path(to), port, challenge)
    answer = RedirectResponse(departure.url, status_code=303)
    # Lax, not strict: the provider's redirect back comes from another site.
    answer.set_cookie(
        TICKET_COOKIE, departure.ticket, _TICKET_SECONDS, httponly=True, samesite="lax", path="/login",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return _uncached(answer)


@router.get("/login/callback", include_in_schema=False, openapi_extra=_PUBLIC)
async def arrive(
    request: Request,
    services: CurrentServices,
    state: str = "",
    code: str = "",
    error: str | None = None,
) -> Response:
    """Take a browser back from the provider."""
    if error is not None or not code:
        raise Unauthenticated(f"the provider signed nobody in ({(error or 'no code')[:100]}); begin again")
    ticket = request.cookies.get(TICKET_COOKIE, "")
    arrival = await _login(services).arrive(ticket, state, code)
    if arrival.loopback_url is not None:
        answer: Response = RedirectResponse(arrival.loopback_url, status_code=303)
    else:
        # A page, not a redirect: a strict cookie isn't sent along a chain that began at another site.
        answer = HTMLResponse(_onward(local_path(arrival.to)))
        set_session_cookie(request, answer, services, arrival.principal_id)
    answer.delete_cookie(TICKET_COOKIE, path="/login")
    return _uncached(answer)


@router.post("/v1/login/exchange", openapi_extra=_PUBLIC)
async def exchange(body: LoginExchange, services: CurrentServices) -> SessionGrant:
    """Exchange the code that a command got at its local port for a session token."""
    principal_id = _login(services).exchange(body.code, body.verifier)
    token = services.session_tokens.issue(principal_id, CLI_SESSION_SECONDS)
    return SessionGrant(token=token, principal=principal_id, expires_in_seconds=CLI_SESSION_SECONDS)


def _login(services: Services) -> LoginService:
    if services.login is None:
        raise NotFound(
            "no identity provider is configured here; use a token, or set STEELYARD_OIDC_ISSUER and "
            "STEELYARD_OIDC_CLIENT_ID on the server"
        )
    return services.login


def _uncached(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def _onward(path: str) -> str:
    quoted = path.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return (
        f'<!doctype html><meta http-equiv="refresh" content="0;url={quoted}"><title>Signed in</title>'
        f'<p>Signed in. <a href="{quoted}">Go on</a>.'
    )
