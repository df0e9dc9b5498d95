"""Costs by project, user, type, tag, flavor, job and day."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.governance.ledger.costs import Question
from steelyard.kit.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from steelyard.specs.access import Permission
from steelyard.specs.budgets import CostReport, LedgerEntry, LedgerVerification

router = APIRouter(prefix="/v1", tags=["costs"], responses=ERROR_RESPONSES)


def question_of(
    group_by: Annotated[
        list[str] | None,
        Query(description="project, user, type, flavor, job, day, tag:KEY; repeated, or with commas."),
    ] = None,
    since: Annotated[date | None, Query(description="First day, UTC. Else this month's.")] = None,
    until: Annotated[date | None, Query(description="Last day, UTC, included. Else this month's.")] = None,
) -> Question:
    """Read from the query what is asked."""
    words = tuple(word.strip() for item in group_by or [] for word in item.split(",") if word.strip())
    return Question(words, since, until)


Asked = Annotated[Question, Depends(question_of)]


@router.get("/projects/{project}/costs", openapi_extra=permits(Permission.COST_READ))
async def report(project: str, actor: CurrentActor, services: CurrentServices, question: Asked) -> CostReport:
    """Return a project's costs, in groups, with a forecast where the days are not over."""
    return await services.costs.report(actor, project, question)


@router.get("/organizations/{organization}/costs", openapi_extra=permits(Permission.COST_READ))
async def report_organization(
    organization: str, actor: CurrentActor, services: CurrentServices, question: Asked
) -> CostReport:
    """Return the costs of all projects of an organization."""
    return await services.costs.report_organization(actor, organization, question)


@router.get("/projects/{project}/ledger", openapi_extra=permits(Permission.COST_READ))
async def entries(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    job: Annotated[str | None, Query(description="Only what was posted for this job.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
) -> Page[LedgerEntry]:
    """Return transactions of the ledger with their postings, newest first."""
    return await services.costs.entries(actor, project, job, limit, after)


@router.get("/projects/{project}/ledger/verification", openapi_extra=permits(Permission.COST_READ))
async def verify(project: str, actor: CurrentActor, services: CurrentServices) -> LedgerVerification:
    """Add up the ledger anew, and compare it with all sums that are kept."""
    return await services.costs.verify(actor, project)
