"""MLflow behind our door: the same tokens, one's own projects, and no writing without the lease.

MLflow itself listens where only the platform reaches it. Browsers come in by the cookie that
`/session` sets.
"""

import hmac
from collections.abc import AsyncIterator

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from steelyard.api.access import SESSION_COOKIE, CurrentServices, bearer_token, request_id_of
from steelyard.api.bodies import read_body
from steelyard.api.mlflow_gate import Passage, has_ids_in_body, keep_experiments, passage_of
from steelyard.api.permits import permits
from steelyard.api.services import Services
from steelyard.governance.identity import Actor
from steelyard.governance.standing import is_local_admin
from steelyard.kit.errors import NotFound, Unavailable
from steelyard.specs.access import Permission

router = APIRouter(include_in_schema=False)

_HOP_BY_HOP = frozenset(
    {
        "authorization", "connection", "cookie", "host", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "te", "trailers", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_BODY_BYTES = 16 * 1024 * 1024
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


@router.api_route("/mlflow/{path:path}", methods=_METHODS, openapi_extra=permits("mlflow"))
async def forward(path: str, request: Request, services: CurrentServices) -> Response:
    """Forward a request to MLflow, if what it is about is the caller's."""
    actor = await _actor(request, services, bearer_token(request) or _cookie_token(request))
    if is_local_admin(actor) and actor.scope.is_whole:
        return await _forward(services, path, request, None)
    body = await _body_of(path, request)
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    passage = passage_of(request.method, path, query, body or b"")
    if actor.kind == "attempt":
        await _require_own_run(services, actor, passage)
    elif passage.kind == "search_experiments":
        return await _search_experiments(services, actor, path, request, body)
    else:
        await _require_own_projects(services, actor, passage)
    return await _forward(services, path, request, body)


async def _body_of(path: str, request: Request) -> bytes | None:
    """Read the body where the ids are in it; None where it is streamed on."""
    if request.method in _READ_METHODS or not has_ids_in_body(path):
        return None
    return await read_body(request, _MAX_BODY_BYTES)


async def _require_own_run(services: Services, actor: Actor, passage: Passage) -> None:
    """An attempt reaches the run of its job and nothing else, and writes there while it holds the lease."""
    if passage.kind not in ("read", "write") or actor.attempt_id is None:
        raise _foreign()
    project, run_id = await services.reports.tracked_run(actor.attempt_id, writes=passage.kind == "write")
    unnamed = passage.lists or (passage.kind == "write" and not passage.runs)
    if passage.runs - {run_id} or passage.names - {project} or unnamed:
        raise _foreign()
    for experiment in passage.experiments:
        if await services.mlflow_owners.project_of_experiment(experiment) != project:
            raise _foreign()


async def _require_own_projects(services: Services, actor: Actor, passage: Passage) -> None:
    """People reach what is in experiments of their projects."""
    if passage.kind == "page":
        return
    owners = services.mlflow_owners
    projects = {await owners.project_of_run(run) for run in passage.runs}
    projects |= {await owners.project_of_experiment(each) for each in passage.experiments}
    needed = Permission.JOB_READ if passage.kind == "read" else Permission.JOB_CONTROL
    for project in projects | passage.names:
        await services.projects.require(actor, project, needed)


async def _search_experiments(
    services: Services, actor: Actor, path: str, request: Request, body: bytes | None
) -> Response:
    """Answer with the caller's experiments alone."""
    projects = frozenset(project.id for project in await services.projects.search(actor))
    answer = await services.mlflow.send(_outgoing(services, path, request, body))
    if not answer.is_success:
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
    return Response(keep_experiments(answer.content, projects), 200, media_type="application/json")


def _foreign() -> NotFound:
    return NotFound("an attempt's token reaches its own run alone")


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
    return request.cookies.get(SESSION_COOKIE)


def _outgoing(services: Services, path: str, request: Request, body: bytes | None) -> httpx.Request:
    dropped = _HOP_BY_HOP if body is None else _HOP_BY_HOP | {"content-length"}
    headers = [(name, value) for name, value in request.headers.items() if name not in dropped]
    streamed = request.stream() if request.method not in _READ_METHODS else None
    return services.mlflow.build_request(
        request.method,
        f"/mlflow/{path}",
        params=list(request.query_params.multi_items()),
        headers=headers,
        content=streamed if body is None else body,
    )


async def _forward(services: Services, path: str, request: Request, body: bytes | None) -> Response:
    outgoing = _outgoing(services, path, request, body)
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
