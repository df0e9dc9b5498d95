"""Who people are at this moment: roles, whether they are active, and whose a project is."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import standing
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import LOCAL_ADMIN_ID, Actor
from steelyard.rollouts.policies import Approver
from steelyard.specs.access import OrganizationRole, Permission, ProjectRole

_ORGANIZATION = text("SELECT organization_id FROM projects WHERE id = :project")
_OTHERS = text(
    "SELECT EXISTS (SELECT 1 FROM principals WHERE kind = 'user' AND id <> :admin AND deleted_at IS NULL)"
)
_MAKER = text("SELECT created_by FROM api_tokens WHERE id = :token")
_IS_USER = text("SELECT EXISTS (SELECT 1 FROM principals WHERE id = :user AND kind = 'user')")


async def organization_of(session: AsyncSession, project: ProjectId) -> str:
    """Return the id of the organization that a project belongs to."""
    return str(await session.scalar(_ORGANIZATION, {"project": project}))


async def is_alone(session: AsyncSession) -> bool:
    """Whether the installation has its one local administrator and nobody else."""
    return not await session.scalar(_OTHERS, {"admin": LOCAL_ADMIN_ID})


async def standing_of(session: AsyncSession, project: ProjectId, user: str) -> Approver:
    """Return how somebody stands in a project now; somebody who is gone is inactive or has no role.

    An owner of the organization counts as an admin of its projects. The local administrator's token says
    nothing about who holds it: where there are other people, it is nobody's word.
    """
    if user == LOCAL_ADMIN_ID:
        alone = await is_alone(session)
        return Approver(user, is_person=alone, is_active=True, roles=frozenset({ProjectRole.ADMIN}))
    found = await standing.in_project(session, Actor(kind="user", id=user), project)
    if found is None:
        return Approver(user, is_person=False, is_active=False, roles=frozenset())
    roles = {role for role in found.standing.roles if isinstance(role, ProjectRole)}
    if OrganizationRole.OWNER in found.standing.roles:
        roles.add(ProjectRole.ADMIN)
    is_user = bool(await session.scalar(_IS_USER, {"user": user}))
    return Approver(user, is_person=is_user, is_active=found.standing.active, roles=frozenset(roles))


async def maker_of_token(session: AsyncSession, actor: Actor) -> str | None:
    """Return who made the token that somebody acts with, where it was not themselves."""
    if actor.token_id is None:
        return None
    maker = await session.scalar(_MAKER, {"token": actor.token_id})
    return None if maker in (None, actor.id) else str(maker)


async def may_override_freeze(session: AsyncSession, actor: Actor, project: ProjectId) -> bool:
    """Whether somebody owns the organization of a project, and their token was made for that too."""
    found = await standing.in_project(session, actor, project)
    if found is None or not found.standing.active:
        return False
    allowed = found.standing.scope.permissions
    if allowed is not None and Permission.ORGANIZATION_WRITE not in allowed:
        return False
    return found.standing.is_local_admin or OrganizationRole.OWNER in found.standing.roles
