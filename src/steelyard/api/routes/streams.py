"""Events and logs, as lists and as streams that follow a job."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.services import Services
from steelyard.compute.tails import find_tail
from steelyard.governance.identity import Actor
from steelyard.jobs.events import CHANNEL
from steelyard.kit.errors import SteelyardError
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.views import EventView
from steelyard.storage.notifications import wait_for_hint

router = APIRouter(prefix="/v1/projects/{project}/jobs/{job}", tags=["events"], responses=ERROR_RESPONSES)

_POLL_SECONDS = 5.0
_LOG_POLL_SECONDS = 0.5


@router.get("/events", openapi_extra=permits(Permission.JOB_READ))
async def list_events(
    project: str,
    job: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[EventView]:
    """Return what happened to a job, oldest first."""
    page, _ = await services.queries.events(actor, project, job, after, limit)
    return page


@router.get("/events/stream", response_class=StreamingResponse, openapi_extra=permits(Permission.JOB_READ))
async def stream_events(
    project: str,
    job: str,
    actor: CurrentActor,
    services: CurrentServices,
    after: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Follow a job's events (server-sent events); ends with `event: end` when the job is over."""
    start = last_event_id or after
    await services.queries.events(actor, project, job, start, 1)
    return StreamingResponse(
        _event_stream(services, actor, project, job, start),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/logs", response_class=StreamingResponse, openapi_extra=permits(Permission.JOB_READ))
async def read_logs(
    request: Request,
    project: str,
    job: str,
    actor: CurrentActor,
    services: CurrentServices,
    attempt: int | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    follow: bool = False,
    tail_lines: Annotated[int | None, Query(ge=0, le=100_000)] = None,
) -> StreamingResponse:
    """Return an attempt's log from a byte offset on; `follow` waits for more until the attempt has ended."""
    folder, _ = await services.queries.log_folder(actor, project, job, attempt)
    if tail_lines is not None:
        offset = await find_tail(services.executor, folder, tail_lines)
    return StreamingResponse(
        _log_stream(request, services, actor, project, job, attempt, offset, follow=follow),
        media_type="text/plain; charset=utf-8",
        headers={"X-Log-Offset": str(offset), "Cache-Control": "no-store"},
    )


async def _event_stream(
    services: Services, actor: Actor, project: str, job: str, after: str | None
) -> AsyncIterator[str]:
    async with services.listener.subscription(CHANNEL, job) as hint:
        while True:
            try:
                page, ended = await services.queries.events(actor, project, job, after, MAX_LIMIT)
            except SteelyardError as error:
                if not error.retryable:
                    return
                page, ended = Page[EventView](data=[], has_more=False), False
            for event in page.data:
                after = str(event.id)
                yield f"id: {event.id}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
            if page.has_more:
                continue
            if ended:
                yield "event: end\ndata: {}\n\n"
                return
            yield ": ping\n\n"
            await wait_for_hint(hint, _POLL_SECONDS)


async def _log_stream(
    request: Request,
    services: Services,
    actor: Actor,
    project: str,
    job: str,
    attempt: int | None,
    offset: int,
    *,
    follow: bool,
) -> AsyncIterator[bytes]:
    while True:
        folder, ended = await services.queries.log_folder(actor, project, job, attempt)
        async for chunk in services.executor.read_log(folder, offset):
            offset = chunk.offset + len(chunk.data)
            yield chunk.data
        if ended or not follow or await request.is_disconnected():
            return
        await asyncio.sleep(_LOG_POLL_SECONDS)
