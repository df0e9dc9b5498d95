"""What promotions must keep to: gates, approval policies, freeze windows; of projects and organizations."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.rollouts.scopes import Scope
from steelyard.specs.access import Permission
from steelyard.specs.policies import (
    ApprovalPolicy,
    FreezeRequest,
    FreezeView,
    GateRequest,
    GateView,
    PolicyView,
)
from steelyard.specs.promotions import Alias
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1", tags=["rules"], responses=ERROR_RESPONSES)

_PROJECT = "/projects/{project}"
_ORGANIZATION = "/organizations/{organization}"
_WRITE = permits(Permission.GATE_WRITE)
_OWN = permits(Permission.ORGANIZATION_WRITE)


def _project_scope(project: str) -> Scope:
    return Scope(project=project)


def _organization_scope(organization: str) -> Scope:
    return Scope(organization=organization)


OfProject = Annotated[Scope, Depends(_project_scope)]
OfOrganization = Annotated[Scope, Depends(_organization_scope)]


@router.get(f"{_PROJECT}/gates", openapi_extra=permits(Permission.MODEL_READ))
async def list_gates(
    project: str,
    actor: CurrentActor,
    services: CurrentServices,
    alias: Annotated[Alias | None, Query(description="Only those before this alias.")] = None,
) -> ListView[GateView]:
    """Return the gates before aliases, the organization's among them."""
    return ListView[GateView](data=await services.configuration.gates(actor, project, alias))


@router.post(f"{_PROJECT}/gates", openapi_extra={**_WRITE, **body_schema(GateRequest)})
async def set_gate(
    scope: OfProject, request: Request, actor: CurrentActor, services: CurrentServices
) -> GateView:
    """Put a gate before an alias. The same one again changes nothing."""
    gate = parse_body(await read_body(request), GateRequest)
    return await services.configuration.set_gate(actor, scope, gate)


@router.delete(f"{_PROJECT}/gates/{{gate}}", status_code=204, openapi_extra=_WRITE)
async def remove_gate(
    scope: OfProject, gate: str, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Take one of the project's own gates away."""
    await services.configuration.remove_gate(actor, scope, gate)
    return Response(status_code=204)


@router.post(f"{_ORGANIZATION}/gates", openapi_extra={**_OWN, **body_schema(GateRequest)})
async def set_organization_gate(
    scope: OfOrganization, request: Request, actor: CurrentActor, services: CurrentServices
) -> GateView:
    """Put a gate before an alias of every project; none of them can loosen it."""
    gate = parse_body(await read_body(request), GateRequest)
    return await services.configuration.set_gate(actor, scope, gate)


@router.delete(f"{_ORGANIZATION}/gates/{{gate}}", status_code=204, openapi_extra=_OWN)
async def remove_organization_gate(
    scope: OfOrganization, gate: str, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Take a gate of the organization away."""
    await services.configuration.remove_gate(actor, scope, gate)
    return Response(status_code=204)


@router.get(f"{_PROJECT}/policies", openapi_extra=permits(Permission.MODEL_READ))
async def list_policies(project: str, actor: CurrentActor, services: CurrentServices) -> ListView[PolicyView]:
    """Return the approval policy of each alias, and where it comes from."""
    return ListView[PolicyView](data=await services.configuration.policies(actor, project))


@router.put(f"{_PROJECT}/policies/{{alias}}", openapi_extra={**_WRITE, **body_schema(ApprovalPolicy)})
async def set_policy(
    scope: OfProject, alias: Alias, request: Request, actor: CurrentActor, services: CurrentServices
) -> ApprovalPolicy:
    """Say who must agree before an alias moves; it holds where it is stricter than the organization's."""
    policy = parse_body(await read_body(request), ApprovalPolicy)
    return await services.configuration.set_policy(actor, scope, alias, policy)


@router.delete(f"{_PROJECT}/policies/{{alias}}", status_code=204, openapi_extra=_WRITE)
async def remove_policy(
    scope: OfProject, alias: Alias, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Forget the project's own policy for an alias."""
    await services.configuration.remove_policy(actor, scope, alias)
    return Response(status_code=204)


@router.put(f"{_ORGANIZATION}/policies/{{alias}}", openapi_extra={**_OWN, **body_schema(ApprovalPolicy)})
async def set_organization_policy(
    scope: OfOrganization, alias: Alias, request: Request, actor: CurrentActor, services: CurrentServices
) -> ApprovalPolicy:
    """Say what every project must ask for at least before an alias moves."""
    policy = parse_body(await read_body(request), ApprovalPolicy)
    return await services.configuration.set_policy(actor, scope, alias, policy)


@router.delete(f"{_ORGANIZATION}/policies/{{alias}}", status_code=204, openapi_extra=_OWN)
async def remove_organization_policy(
    scope: OfOrganization, alias: Alias, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Forget the organization's policy for an alias: the default holds again."""
    await services.configuration.remove_policy(actor, scope, alias)
    return Response(status_code=204)


@router.get(f"{_PROJECT}/freezes", openapi_extra=permits(Permission.MODEL_READ))
async def list_freezes(project: str, actor: CurrentActor, services: CurrentServices) -> ListView[FreezeView]:
    """Return the freeze windows, the organization's among them."""
    return ListView[FreezeView](data=await services.configuration.freezes(actor, project))


@router.post(f"{_PROJECT}/freezes", status_code=201, openapi_extra={**_WRITE, **body_schema(FreezeRequest)})
async def add_freeze(
    scope: OfProject, request: Request, actor: CurrentActor, services: CurrentServices
) -> FreezeView:
    """Let aliases not be promoted for a time; a rollback may always be."""
    freeze = parse_body(await read_body(request), FreezeRequest)
    return await services.configuration.add_freeze(actor, scope, freeze)


@router.delete(f"{_PROJECT}/freezes/{{freeze}}", status_code=204, openapi_extra=_WRITE)
async def remove_freeze(
    scope: OfProject, freeze: str, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Take a freeze window of the project away."""
    await services.configuration.remove_freeze(actor, scope, freeze)
    return Response(status_code=204)


@router.post(
    f"{_ORGANIZATION}/freezes", status_code=201, openapi_extra={**_OWN, **body_schema(FreezeRequest)}
)
async def add_organization_freeze(
    scope: OfOrganization, request: Request, actor: CurrentActor, services: CurrentServices
) -> FreezeView:
    """Let aliases of no project be promoted for a time."""
    freeze = parse_body(await read_body(request), FreezeRequest)
    return await services.configuration.add_freeze(actor, scope, freeze)


@router.delete(f"{_ORGANIZATION}/freezes/{{freeze}}", status_code=204, openapi_extra=_OWN)
async def remove_organization_freeze(
    scope: OfOrganization, freeze: str, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Take a freeze window of the organization away."""
    await services.configuration.remove_freeze(actor, scope, freeze)
    return Response(status_code=204)
