"""Whether an actor may act. Deny by default; what is foreign is not found, not forbidden.

Call these inside the transaction that acts, so that a role taken away is missed from then on. What they
return is the only thing that repositories take, so no query forgets to ask.
"""

from typing import NewType

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import standing
from steelyard.governance.identity import Actor
from steelyard.governance.policy import Verdict, decide, weigh_grant
from steelyard.governance.standing import Found
from steelyard.kit.errors import NotFound, PermissionDenied, SteelyardError, Unauthenticated
from steelyard.specs.access import OrganizationRole, Permission, ProjectRole
from steelyard.storage import scopes

ProjectId = NewType("ProjectId", str)
"""A project that was checked for the actor. Repositories take nothing else, so no query forgets to."""
_OF_ALL_PROJECTS = frozenset({
    Permission.POOL_READ, Permission.POOL_WRITE, Permission.QUOTA_READ, Permission.QUOTA_WRITE,
    Permission.AUDIT_READ, Permission.COST_READ,
})  # fmt: skip
"""What can be asked of the installation that is about the rows of its projects."""
OrganizationId = NewType("OrganizationId", str)
"""An organization that was checked for the actor."""


async def authorize(session: AsyncSession, actor: Actor, project: str, permission: Permission) -> ProjectId:
    """Return the project as a checked id; the transaction sees its rows from then on, and no other's.

    Raises:
        NotFound: the project doesn't exist, or the actor has no part in it.
        PermissionDenied: he may see it but not do this; the message names the role that would allow it.
        Unauthenticated: his account was closed since he was recognized.
    """
    found = await standing.in_project(session, actor, project)
    _require(found, permission, _no_project(project))
    return ProjectId(project)


async def authorize_organization(
    session: AsyncSession, actor: Actor, organization: str, permission: Permission
) -> OrganizationId:
    """Return the organization as a checked id.

    Raises:
        NotFound: the organization doesn't exist, or the actor has no part in it.
        PermissionDenied: he may see it but not do this; the message names the role that would allow it.
        Unauthenticated: his account was closed since he was recognized.
    """
    found = await standing.in_organization(session, actor, organization)
    _require(found, permission, _no_organization(organization))
    return OrganizationId(organization)


async def authorize_installation(session: AsyncSession, actor: Actor, permission: Permission) -> None:
    """Check an act on the whole installation: its pool, its organizations, its users.

    Where it is about jobs of all projects (pool, quotas, audit), the transaction sees all rows from then on.

    Its operators are the owners of the first organization and the local admin; that organization's auditors
    read.

    Raises:
        PermissionDenied: he may not; the message names the role that would allow it.
        Unauthenticated: his account was closed since he was recognized.
    """
    found = await standing.in_installation(session, actor)
    _require(found, permission, PermissionDenied("this is for people and service accounts"))
    if permission in _OF_ALL_PROJECTS:
        writes = permission in (Permission.POOL_WRITE, Permission.QUOTA_WRITE)
        await scopes.enter_installation(session, "write" if writes else "read")


async def require_active(session: AsyncSession, actor: Actor) -> None:
    """Check that somebody may do what everybody may do about himself.

    Raises:
        NotFound: an attempt asks.
        Unauthenticated: his account was closed, or his token revoked, since he was recognized.
    """
    if actor.kind == "system":
        return
    found = await standing.in_installation(session, actor)
    if found.standing.kind not in ("user", "service_account"):
        raise NotFound("nothing here for you")
    if not found.standing.active:
        raise Unauthenticated("this account or token was closed; ask who administers this installation")


async def authorize_grant(session: AsyncSession, actor: Actor, project: str, role: ProjectRole) -> ProjectId:
    """As `authorize` for giving or taking a role in a project: nobody disposes of more than he holds."""
    found = await standing.in_project(session, actor, project)
    _require(found, Permission.MEMBER_WRITE, _no_project(project))
    _require_may_grant(found, role)
    return ProjectId(project)


async def authorize_organization_grant(
    session: AsyncSession, actor: Actor, organization: str, role: ProjectRole | OrganizationRole
) -> OrganizationId:
    """As `authorize_organization` for giving or taking a role: nobody disposes of more than he holds."""
    found = await standing.in_organization(session, actor, organization)
    _require(found, Permission.ORGANIZATION_WRITE, _no_organization(organization))
    _require_may_grant(found, role)
    return OrganizationId(organization)


def _require_may_grant(found: Found | None, role: ProjectRole | OrganizationRole) -> None:
    verdict = weigh_grant(found.standing, role) if found else Verdict("hidden")
    if verdict.outcome != "allow":
        raise PermissionDenied(verdict.reason)


def _no_project(project: str) -> NotFound:
    return NotFound(
        f"no project {project!r}, or none of yours; 'steelyard projects list' names them", param="project"
    )


def _no_organization(organization: str) -> NotFound:
    return NotFound(
        f"no organization {organization!r}, or none of yours; 'steelyard whoami' names them",
        param="organization",
    )


def _require(found: Found | None, permission: Permission, missing: SteelyardError) -> None:
    if found is None:
        raise missing
    verdict = decide(found.standing, permission, found.resource)
    if verdict.outcome == "hidden":
        raise missing
    if verdict.outcome == "gone":
        raise Unauthenticated(f"{verdict.reason}; ask who administers this installation")
    if verdict.outcome == "deny":
        raise PermissionDenied(verdict.reason)
