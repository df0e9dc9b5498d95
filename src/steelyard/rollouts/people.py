"""Who people are at this moment: roles, whether they are active, and whose a project is."""

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.errors import NotFound
from steelyard.rollouts.policies import Approver
from steelyard.specs.access import Permission, ProjectRole

_LOCAL_ADMIN = "admin"
_ORGANIZATION = "default"


async def organization_of(_session: AsyncSession, _project: ProjectId) -> str:
    """Return the id of the organization that a project belongs to."""
    return _ORGANIZATION


async def is_alone(_session: AsyncSession) -> bool:
    """Whether the installation has its one local administrator and nobody else."""
    return True


async def standing_of(_session: AsyncSession, _project: ProjectId, user: str) -> Approver:
    """Return how somebody stands in a project now; somebody who is gone is inactive and has no role."""
    known = user == _LOCAL_ADMIN
    return Approver(
        id=user,
        is_person=known,
        is_active=known,
        roles=frozenset({ProjectRole.ADMIN}) if known else frozenset(),
    )


async def may_override_freeze(_session: AsyncSession, actor: Actor, _project: ProjectId) -> bool:
    """Whether somebody owns the organization of a project."""
    return actor.kind == "user"


async def authorize_organization(
    _session: AsyncSession, actor: Actor, organization: str, _permission: Permission
) -> str:
    """Return the organization as a checked id."""
    if actor.kind != "user" or organization != _ORGANIZATION:
        raise NotFound(f"no organization {organization!r}")
    return organization
