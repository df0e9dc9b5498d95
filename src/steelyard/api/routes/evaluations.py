"""Evaluations and suites of a project."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.evaluations import (
    MAX_SUITE_BYTES,
    SUITE_NAME,
    EvaluationComparison,
    EvaluationSummary,
    EvaluationView,
    SuiteUpload,
    SuiteView,
)
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1/projects/{project}", tags=["evaluations"], responses=ERROR_RESPONSES)

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
After = Annotated[str | None, Query(description="The `next` of the page before.")]
SuitePath = Annotated[str, Path(pattern=rf"^{SUITE_NAME}$")]
Digest = Annotated[
    str | None, Query(pattern=r"^sha256:[0-9a-f]{64}$", description="One version. Unset: the newest.")
]
# Base64 takes four bytes for three; names and digests need a little more.
_MAX_BODY_BYTES = MAX_SUITE_BYTES * 4 // 3 + (1 << 20)


@router.get("/evaluations", openapi_extra=permits(Permission.EVALUATION_READ))
async def list_evaluations(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    job: Annotated[str | None, Query(description="Of this job alone.")] = None,
    suite: Annotated[str | None, Query(description="In this suite alone.")] = None,
) -> Page[EvaluationSummary]:
    """Return evaluations, newest first."""
    return await services.evaluations.search(actor, project, limit, after, job=job, suite=suite)


@router.get("/evaluations/compare", openapi_extra=permits(Permission.EVALUATION_READ))
async def compare(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    a: Annotated[str, Query(max_length=256, description="Evaluation id, `NAME@V`, or job id.")],
    b: Annotated[str, Query(max_length=256, description="As `a`; differences are B minus A.")],
) -> EvaluationComparison:
    """Set two models side by side on the samples that both saw."""
    return await services.evaluations.compare(actor, project, a, b)


@router.get("/evaluations/{evaluation}", openapi_extra=permits(Permission.EVALUATION_READ))
async def get_evaluation(
    project: str, evaluation: str, actor: CurrentActor, services: CurrentServices
) -> EvaluationView:
    """Return one evaluation, with its figures, settings and digests."""
    return await services.evaluations.get(actor, project, evaluation)


@router.get(
    "/evaluations/{evaluation}/samples",
    openapi_extra=permits(Permission.EVALUATION_READ),
    response_class=FileResponse,
)
async def get_samples(
    project: str, evaluation: str, actor: CurrentActor, services: CurrentServices
) -> FileResponse:
    """Return the per-sample records as a Parquet file."""
    path = await services.evaluations.samples(actor, project, evaluation)
    return FileResponse(path, media_type="application/vnd.apache.parquet", filename=f"{evaluation}.parquet")


@router.get("/suites", openapi_extra=permits(Permission.EVALUATION_READ))
async def list_suites(project: str, actor: CurrentActor, services: CurrentServices) -> ListView[SuiteView]:
    """Return the suites of the project and its organization, by name, newest first."""
    return ListView[SuiteView](data=await services.suites.search(actor, project))


@router.post(
    "/suites", status_code=201, openapi_extra={**permits(Permission.SUITE_WRITE), **body_schema(SuiteUpload)}
)
async def add_suite(
    project: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> SuiteView:
    """Keep a suite; the same files under the same name are one version."""
    upload = parse_body(await read_body(request, _MAX_BODY_BYTES), SuiteUpload)
    return await services.suites.add(actor, project, upload)


@router.get("/suites/{name}", openapi_extra=permits(Permission.EVALUATION_READ))
async def get_suite(
    project: str, name: SuitePath, actor: CurrentActor, services: CurrentServices, digest: Digest = None
) -> SuiteView:
    """Return a version of a suite."""
    return await services.suites.get(actor, project, name, digest)


@router.delete("/suites/{name}", openapi_extra=permits(Permission.SUITE_WRITE))
async def remove_suite(
    project: str, name: SuitePath, actor: CurrentActor, services: CurrentServices, digest: Digest = None
) -> SuiteView:
    """Let no new job name a version; results and pinned jobs keep it."""
    return await services.suites.remove(actor, project, name, digest)
