"""Budgets of projects, and where they stand."""

from fastapi import APIRouter, Request, Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.budgets import BudgetSpec, BudgetView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1", tags=["budgets"], responses=ERROR_RESPONSES)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": BudgetSpec.model_json_schema()}},
    }
}


@router.get("/projects/{project}/budget", openapi_extra=permits(Permission.COST_READ))
async def get_budget(project: str, actor: CurrentActor, services: CurrentServices) -> BudgetView:
    """Return a project's budget, what is spent and reserved, and what is expected at the period's end."""
    return await services.budgets.get(actor, project)


@router.put("/projects/{project}/budget", openapi_extra={**_BODY, **permits(Permission.BUDGET_WRITE)})
async def put_budget(
    project: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> BudgetView:
    """Set a project's budget, in place of the one it had."""
    budget = parse_body(await read_body(request), BudgetSpec)
    return await services.budgets.put(actor, project, budget)


@router.delete("/projects/{project}/budget", status_code=204, openapi_extra=permits(Permission.BUDGET_WRITE))
async def delete_budget(project: str, actor: CurrentActor, services: CurrentServices) -> Response:
    """Let a project use what it will. It is metered all the same."""
    await services.budgets.remove(actor, project)
    return Response(status_code=204)


@router.get("/organizations/{organization}/budgets", openapi_extra=permits(Permission.COST_READ))
async def list_budgets(
    organization: str, actor: CurrentActor, services: CurrentServices
) -> ListView[BudgetView]:
    """Return where each project of an organization stands."""
    return ListView[BudgetView](data=await services.budgets.search(actor, organization))
