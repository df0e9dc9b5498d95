"""The audit trail, for reading."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.governance.audit.selection import Selection
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.audit import AuditEntry

router = APIRouter(prefix="/v1", tags=["audit"], responses=ERROR_RESPONSES)

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
After = Annotated[str | None, Query(description="The `next` of the page before.")]


def selection_of(
    actor: Annotated[str | None, Query(description="`user:ada`, or `ada` for any kind.")] = None,
    object: Annotated[str | None, Query(description="Id of a thing.")] = None,  # noqa: A002 - the word
    object_kind: str | None = None,
    verb: Annotated[str | None, Query(description="`job.cancel`, or `job.*`.")] = None,
    outcome: Literal["accepted", "refused"] | None = None,
    since: Annotated[datetime | None, Query(description="From this moment on.")] = None,
    until: Annotated[datetime | None, Query(description="Before this moment.")] = None,
) -> Selection:
    """Read from the query which acts are meant."""
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidRequest(f"'{name}' needs a time zone, as in 2026-01-31T12:00:00Z", param=name)
    return Selection(actor, object, object_kind, verb, outcome, since=since, until=until)


Which = Annotated[Selection, Depends(selection_of)]


@router.get("/audit", openapi_extra=permits(Permission.AUDIT_READ))
async def search(
    actor: CurrentActor,
    services: CurrentServices,
    selection: Which,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[AuditEntry]:
    """Return all acts of the installation, newest first; for its operators and auditors."""
    return await services.audit.search(actor, None, selection, limit, after)


@router.get("/organizations/{organization}/audit", openapi_extra=permits(Permission.AUDIT_READ))
async def search_organization(
    organization: str,
    actor: CurrentActor,
    services: CurrentServices,
    selection: Which,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[AuditEntry]:
    """Return acts in all projects of an organization, newest first."""
    return await services.audit.search(actor, None, selection, limit, after, organization)


@router.get("/projects/{project}/audit", openapi_extra=permits(Permission.AUDIT_READ))
async def search_project(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    selection: Which,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[AuditEntry]:
    """Return acts in a project, newest first."""
    return await services.audit.search(actor, project, selection, limit, after)
