"""Jobs: submit, plan, list, get."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.examples import FINE_TUNE_EXAMPLE
from steelyard.api.permits import permits
from steelyard.jobs.repository import JobFilter
from steelyard.jobs.submission import Submission
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.job import JOB_SPEC
from steelyard.specs.states import JobState
from steelyard.specs.views import (
    AttemptView,
    CheckpointView,
    ExplainView,
    JobSummary,
    JobView,
    ListView,
    PlanView,
)

router = APIRouter(prefix="/v1/projects/{project}/jobs", tags=["jobs"], responses=ERROR_RESPONSES)

_SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": JOB_SPEC.json_schema(ref_template="#/components/schemas/{model}"),
                "examples": {"fine_tune": {"value": FINE_TUNE_EXAMPLE}},
            }
        },
    }
}
_SPEC_BODY["requestBody"]["content"]["application/json"]["schema"].pop("$defs", None)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    openapi_extra={**_SPEC_BODY, **permits(Permission.JOB_SUBMIT)},
)
async def submit(
    project: str,
    request: Request,
    actor: CurrentActor,
    services: CurrentServices,
    key: IdempotencyKey = None,
) -> Response:
    """Accept a job. Any number of requests with one key make one job and get one answer."""
    submission = await services.submission.submit(actor, project, await read_body(request), key)
    return submission_response(submission)


@router.post("/plan", openapi_extra={**_SPEC_BODY, **permits(Permission.JOB_READ)})
async def plan(project: str, request: Request, actor: CurrentActor, services: CurrentServices) -> PlanView:
    """Say what a submission would do, and change nothing."""
    return await services.submission.plan(actor, project, await read_body(request))


@router.get("", openapi_extra=permits(Permission.JOB_READ))
async def list_jobs(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
    state: Annotated[list[JobState] | None, Query()] = None,
    type: str | None = None,  # noqa: A002 - the name of the query's parameter
    name: str | None = None,
    tag: Annotated[list[str] | None, Query(description="`key=value`")] = None,
    parent: Annotated[str | None, Query(description="only what this search or pipeline has made")] = None,
    children: Annotated[bool, Query(description="also what searches and pipelines have made")] = False,
) -> Page[JobSummary]:
    """Return jobs, newest first; those that searches and pipelines have made where they are asked for."""
    filter_ = JobFilter(tuple(state or ()), type, name, parse_tags(tag or []), parent, children)
    return await services.queries.search(actor, project, filter_, limit, after)


@router.get("/{job}", openapi_extra=permits(Permission.JOB_READ))
async def get_job(project: str, job: str, actor: CurrentActor, services: CurrentServices) -> JobView:
    """Return a job whole."""
    return await services.queries.get(actor, project, job)


@router.get("/{job}/attempts", openapi_extra=permits(Permission.JOB_READ))
async def list_attempts(
    project: str, job: str, actor: CurrentActor, services: CurrentServices
) -> ListView[AttemptView]:
    """Return a job's attempts, oldest first."""
    return ListView[AttemptView](data=await services.queries.attempts(actor, project, job))


@router.get("/{job}/checkpoints", openapi_extra=permits(Permission.JOB_READ))
async def list_checkpoints(
    project: str, job: str, actor: CurrentActor, services: CurrentServices
) -> ListView[CheckpointView]:
    """Return a job's checkpoints, newest first."""
    return ListView[CheckpointView](data=await services.queries.checkpoints(actor, project, job))


@router.get("/{job}/explain", openapi_extra=permits(Permission.JOB_READ))
async def explain(project: str, job: str, actor: CurrentActor, services: CurrentServices) -> ExplainView:
    """Say why a job is where it is, and what would move it."""
    return await services.queries.explain(actor, project, job)


def parse_tags(tags: list[str]) -> tuple[tuple[str, str], ...]:
    """Parse `key=value` filters.

    Raises:
        InvalidRequest: one has no `=`.
    """
    pairs: list[tuple[str, str]] = []
    for tag in tags:
        key, found, value = tag.partition("=")
        if not found:
            raise InvalidRequest(f"tag filter {tag!r} has no '='; write key=value", param="tag")
        pairs.append((key, value))
    return tuple(pairs)


def submission_response(submission: Submission) -> Response:
    """Answer a submission, the first time or again."""
    headers = {"Idempotent-Replayed": "true"} if submission.replayed else {}
    return json_response(submission.response, 202, headers)


def json_response(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON text as it stands."""
    return Response(text, status, headers, media_type="application/json")
