"""Projects and their members."""

from fastapi import APIRouter, Request, Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission, ProjectRole
from steelyard.specs.identity import MemberView, ProjectRequest, ProjectView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1", tags=["projects"], responses=ERROR_RESPONSES)

_WRITE = permits(Permission.ORGANIZATION_WRITE)


@router.get("/projects", openapi_extra=permits("authenticated"))
async def list_projects(actor: CurrentActor, services: CurrentServices) -> ListView[ProjectView]:
    """Return the projects that the caller has a part in."""
    return ListView[ProjectView](data=await services.projects.search(actor))


@router.post(
    "/organizations/{organization}/projects",
    status_code=201,
    openapi_extra={**_WRITE, **body_schema(ProjectRequest)},
)
async def create_project(
    organization: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> ProjectView:
    """Make a project."""
    body = parse_body(await read_body(request), ProjectRequest)
    return await services.projects.create(actor, organization, body)


@router.get("/projects/{project}", openapi_extra=permits(Permission.JOB_READ))
async def get_project(project: str, actor: CurrentActor, services: CurrentServices) -> ProjectView:
    """Return one project."""
    return await services.projects.get(actor, project)


@router.post("/projects/{project}/archive", openapi_extra=_WRITE)
async def archive(project: str, actor: CurrentActor, services: CurrentServices) -> ProjectView:
    """Let a project, all of whose jobs are over, only be read from now on."""
    return await services.projects.archive(actor, project)


@router.post("/projects/{project}/restore", openapi_extra=_WRITE)
async def restore(project: str, actor: CurrentActor, services: CurrentServices) -> ProjectView:
    """Let an archived project be used again."""
    return await services.projects.restore(actor, project)


@router.get("/projects/{project}/members", openapi_extra=permits(Permission.MEMBER_READ))
async def list_members(project: str, actor: CurrentActor, services: CurrentServices) -> ListView[MemberView]:
    """Return who holds a role in the project itself; owners and auditors of its organization aren't named."""
    return ListView[MemberView](data=await services.memberships.of_project(actor, project))


@router.put(
    "/projects/{project}/members/{principal}/roles/{role}",
    status_code=204,
    openapi_extra=permits(Permission.MEMBER_WRITE),
)
async def grant(
    project: str, principal: str, role: ProjectRole, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Give a role in the project; nobody gives more than he holds."""
    await services.memberships.grant(actor, project, principal, role)
    return Response(status_code=204)


@router.delete(
    "/projects/{project}/members/{principal}/roles/{role}",
    status_code=204,
    openapi_extra=permits(Permission.MEMBER_WRITE),
)
async def revoke(
    project: str, principal: str, role: ProjectRole, actor: CurrentActor, services: CurrentServices
) -> Response:
    """Take a role in the project, from the next request on."""
    await services.memberships.revoke(actor, project, principal, role)
    return Response(status_code=204)
