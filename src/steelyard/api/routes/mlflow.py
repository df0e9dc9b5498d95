"""MLflow behind our door: the same tokens, and attempts that lost their lease can write nothing.

MLflow itself listens where only the platform reaches it. Browsers come in by the cookie that
`/session` sets.
"""

import hmac
from collections.abc import AsyncIterator

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from steelyard.api.access import CurrentServices, bearer_token, request_id_of
from steelyard.api.permits import permits
from steelyard.api.routes.sessions import COOKIE
from steelyard.api.services import Services
from steelyard.governance.identity import Actor
from steelyard.kit.errors import NotFound, Unavailable

router = APIRouter(include_in_schema=False)

_HOP_BY_HOP = frozenset(
    {
        "authorization", "connection", "cookie", "host", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "te", "trailers", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ATTEMPT_PATHS = ("api/2.0/mlflow/runs/", "api/2.0/mlflow-artifacts/", "api/2.0/mlflow/experiments/get")
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


@router.api_route("/mlflow/{path:path}", methods=_METHODS, openapi_extra=permits("mlflow"))
async def forward(path: str, request: Request, services: CurrentServices) -> Response:
    """Forward a request to MLflow."""
    actor = await _actor(request, services, bearer_token(request) or _cookie_token(request))
    if actor.kind == "attempt":
        await _require_attempt_may(services, actor, path, request.method)
    return await _forward(services, path, request)


async def _actor(request: Request, services: Services, token: str | None) -> Actor:
    source = request.client.host if request.client else None
    return await services.authenticator.authenticate(token, request_id_of(request), source)


def _cookie_token(request: Request) -> str | None:
    """Return the session's token, unless another site made the browser send a write."""
    origin = request.headers.get("origin")
    if origin is not None and request.method not in _READ_METHODS:
        own = str(request.base_url).rstrip("/")
        if not hmac.compare_digest(origin, own):
            return None
    return request.cookies.get(COOKIE)


async def _require_attempt_may(services: Services, actor: Actor, path: str, method: str) -> None:
    if not path.startswith(_ATTEMPT_PATHS):
        raise NotFound("an attempt's token reaches its own run alone")
    if method not in _READ_METHODS and actor.attempt_id is not None:
        await services.reports.require_lease(actor.attempt_id)


async def _forward(services: Services, path: str, request: Request) -> Response:
    headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
    outgoing = services.mlflow.build_request(
        request.method,
        f"/mlflow/{path}",
        params=list(request.query_params.multi_items()),
        headers=headers,
        content=request.stream() if request.method not in _READ_METHODS else None,
    )
    try:
        answer = await services.mlflow.send(outgoing, stream=True)
    except httpx.TransportError as error:
        raise Unavailable(
            "MLflow doesn't answer; it takes half a minute to start, and training goes on without it"
        ) from error
    kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
    return StreamingResponse(_body(answer), answer.status_code, kept)


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
