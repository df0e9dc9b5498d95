"""What somebody is to a project, an organization, or the installation: one query, each time anew.

So a role that was granted or taken away counts from the next request on, in the middle of a job too.
"""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.identity import LOCAL_ADMIN_ID, Actor
from steelyard.governance.policy import InstallationRole, Resource, Role, Standing
from steelyard.specs.access import OrganizationRole, ProjectRole

_IN_PROJECT = text(
    "SELECT standing.*, CASE WHEN :everywhere OR cardinality(project_roles || organization_roles ||"
    " installation_roles) > 0 THEN set_config('steelyard.project', project_id, true) ||"
    " set_config('steelyard.project_organization', organization_id, true) END"
    " FROM standing_in_project(:project, :principal, :token, :signed_in_at) standing"
)
_IN_ORGANIZATION = text(
    "SELECT standing.*, CASE WHEN :everywhere OR cardinality(organization_roles) > 0"
    " THEN set_config('steelyard.organization', organization_id, true) END"
    " FROM standing_in_organization(:organization, :principal, :token, :signed_in_at) standing"
)
_IN_INSTALLATION = text(
    "SELECT is_active_principal(:principal, :token, :signed_in_at),"
    " roles_in_organization(first_organization(), :principal)"
)
_OF_INSTALLATION = {
    OrganizationRole.OWNER: InstallationRole.OPERATOR,
    OrganizationRole.AUDITOR: InstallationRole.AUDITOR,
}


class Found(NamedTuple):
    """A resource, and what somebody is to it."""

    resource: Resource
    standing: Standing


async def in_project(session: AsyncSession, actor: Actor, project: str) -> Found | None:
    """Return the project and the actor's standing in it; None where there is no such project.

    Lets the rest of the transaction see that project's rows, if the actor has any part in it.
    """
    rows = await session.execute(_IN_PROJECT, {**_identity(actor), "project": project})
    row = rows.one_or_none()
    if row is None:
        return None
    roles: set[Role] = {ProjectRole(role) for role in row.project_roles}
    roles |= {OrganizationRole(role) for role in row.organization_roles}
    roles |= _installation_roles(row.installation_roles)
    is_member = bool(row.project_roles or row.organization_roles)
    standing = _standing(actor, roles, active=row.active, is_member=is_member)
    return Found(Resource("project", row.project_id, row.archived), standing)


async def in_organization(session: AsyncSession, actor: Actor, organization: str) -> Found | None:
    """Return the organization and the actor's standing in it; None where there is no such organization.

    Lets the rest of the transaction see the rows of its projects, if the actor holds a role of its own.
    """
    rows = await session.execute(_IN_ORGANIZATION, {**_identity(actor), "organization": organization})
    row = rows.one_or_none()
    if row is None:
        return None
    roles: set[Role] = {OrganizationRole(role) for role in row.organization_roles}
    roles |= _installation_roles(row.installation_roles)
    is_member = bool(row.is_member or row.organization_roles)
    standing = _standing(actor, roles, active=row.active, is_member=is_member)
    return Found(Resource("organization", row.organization_id), standing)


async def in_installation(session: AsyncSession, actor: Actor) -> Found:
    """Return the actor's standing in the installation as a whole."""
    active, roles = (await session.execute(_IN_INSTALLATION, _identity(actor))).one()
    standing = _standing(actor, _installation_roles(roles), active=active, is_member=False)
    return Found(Resource("installation", "installation"), standing)


def is_local_admin(actor: Actor) -> bool:
    """Whether this is who holds the installation's own token. Nobody else is ever given that id."""
    return actor.kind == "user" and actor.id == LOCAL_ADMIN_ID


def _identity(actor: Actor) -> dict[str, object]:
    """Return under which name roles are held (an attempt or a stranger holds none), and by which key."""
    return {
        "principal": actor.id if actor.kind in ("user", "service_account") else "",
        "token": actor.token_id,
        "signed_in_at": actor.signed_in_at,
        "everywhere": is_local_admin(actor) or actor.kind == "system",
    }


def _installation_roles(roles: list[str]) -> set[Role]:
    return {_OF_INSTALLATION[OrganizationRole(role)] for role in roles}


def _standing(actor: Actor, roles: set[Role], *, active: bool, is_member: bool) -> Standing:
    return Standing(
        kind=actor.kind,
        active=active,
        roles=frozenset(roles),
        is_member=is_member,
        is_local_admin=is_local_admin(actor),
        scope=actor.scope,
    )
