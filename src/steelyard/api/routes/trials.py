"""Trials of a search."""

from typing import Annotated

from fastapi import APIRouter, Query

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.api.routes.jobs import Limit
from steelyard.kit.paging import DEFAULT_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.trials import TrialOrder, TrialView

router = APIRouter(prefix="/v1/projects/{project}/jobs", tags=["jobs"], responses=ERROR_RESPONSES)


@router.get("/{job}/trials", openapi_extra=permits(Permission.JOB_READ))
async def list_trials(
    project: str,
    job: str,
    actor: CurrentActor,
    services: CurrentServices,
    limit: Limit = DEFAULT_LIMIT,
    after: Annotated[str | None, Query(description="Number of the last trial seen.")] = None,
    sort: Annotated[TrialOrder, Query(description="`value`: the best first.")] = "number",
    curves: Annotated[bool, Query(description="With the curve of each, as far as it is kept.")] = False,
) -> Page[TrialView]:
    """Return the trials of a search: state, values, and what each is worth."""
    return await services.trials.trials(actor, project, job, limit, after, sort, curves=curves)
