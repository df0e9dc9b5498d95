"""Organizations, who owns and audits them, and which groups of an identity provider hold which role."""

from fastapi import APIRouter, Request, Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import OrganizationRole, Permission
from steelyard.specs.identity import (
    GroupMappingRequest,
    GroupMappingView,
    MemberView,
    OrganizationRequest,
    OrganizationView,
)
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1/organizations", tags=["organizations"], responses=ERROR_RESPONSES)

_READ_MEMBERS = permits(Permission.MEMBER_READ)
_WRITE = permits(Permission.ORGANIZATION_WRITE)


@router.get("", openapi_extra=permits("authenticated"))
async def list_organizations(actor: CurrentActor, services: CurrentServices) -> ListView[OrganizationView]:
    """Return the organizations that the caller has a part in."""
    return ListView[OrganizationView](data=await services.organizations.search(actor))


@router.post("", status_code=201, openapi_extra={**_WRITE, **body_schema(OrganizationRequest)})
async def create_organization(
    request: Request, actor: CurrentActor, services: CurrentServices
) -> OrganizationView:
    """Make an organization; operators of the installation do."""
    body = parse_body(await read_body(request), OrganizationRequest)
    return await services.organizations.create(actor, body)


@router.get("/{organization}", openapi_extra=permits(Permission.ORGANIZATION_READ))
async def get_organization(
    organization: str, actor: CurrentActor, services: CurrentServices
) -> OrganizationView:
    """Return one organization."""
    return await services.organizations.get(actor, organization)


@router.get("/{organization}/members", openapi_extra=_READ_MEMBERS)
async def list_members(
    organization: str, actor: CurrentActor, services: CurrentServices
) -> ListView[MemberView]:
    """Return who holds a role of the organization itself."""
    return ListView[MemberView](data=await services.memberships.of_organization(actor, organization))


@router.put("/{organization}/members/{principal}/roles/{role}", status_code=204, openapi_extra=_WRITE)
async def grant(
    organization: str,
    principal: str,
    role: OrganizationRole,
    actor: CurrentActor,
    services: CurrentServices,
) -> Response:
    """Give a role of the organization."""
    await services.memberships.grant_in_organization(actor, organization, principal, role)
    return Response(status_code=204)


@router.delete("/{organization}/members/{principal}/roles/{role}", status_code=204, openapi_extra=_WRITE)
async def revoke(
    organization: str,
    principal: str,
    role: OrganizationRole,
    actor: CurrentActor,
    services: CurrentServices,
) -> Response:
    """Take a role of the organization; it keeps one owner at least."""
    await services.memberships.revoke_in_organization(actor, organization, principal, role)
    return Response(status_code=204)


@router.get("/{organization}/groups", openapi_extra=_READ_MEMBERS)
async def list_groups(
    organization: str, actor: CurrentActor, services: CurrentServices
) -> ListView[GroupMappingView]:
    """Return which groups hold which roles."""
    return ListView[GroupMappingView](data=await services.organizations.mappings(actor, organization))


@router.post(
    "/{organization}/groups", status_code=201, openapi_extra={**_WRITE, **body_schema(GroupMappingRequest)}
)
async def map_group(
    organization: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> GroupMappingView:
    """Let everybody in a group of an identity provider hold a role."""
    body = parse_body(await read_body(request), GroupMappingRequest)
    return await services.organizations.map_group(actor, organization, body)


@router.delete("/{organization}/groups/{mapping}", status_code=204, openapi_extra=_WRITE)
async def unmap_group(
    organization: str, mapping: str, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Take a role from a group."""
    await services.organizations.unmap_group(actor, organization, mapping)
    return Response(status_code=204)
