"""Organizations: made by operators, kept by their owners; and which groups of whom hold which role."""

from typing import Any

from sqlalchemy import Row, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.governance.memberships import add_organization_role, hold_owners, require_owner
from steelyard.governance.principals import find_user
from steelyard.governance.standing import is_local_admin
from steelyard.kit.errors import Conflict, InvalidRequest, NotFound
from steelyard.kit.ids import new_id
from steelyard.specs.access import OrganizationRole, Permission, ProjectRole
from steelyard.specs.identity import (
    GroupMappingRequest,
    GroupMappingView,
    OrganizationRequest,
    OrganizationView,
)
from steelyard.storage.database import Database
from steelyard.storage.tables import GroupMappingRow, OrganizationRow, ProjectRow

ORGANIZATIONS_OF = text("SELECT * FROM organizations_of(:principal, :everywhere)")


class OrganizationService:
    """Makes and names organizations, and maps groups of identity providers to roles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, actor: Actor, request: OrganizationRequest) -> OrganizationView:
        """Make an organization with its first owner.

        Raises:
            Conflict: there is one of that name.
            NotFound: nobody has the owner's name.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_WRITE)
            row = await session.scalar(
                insert(OrganizationRow)
                .values(id=request.id, display_name=request.display_name or request.id, created_by=actor.id)
                .on_conflict_do_nothing(index_elements=["id"])
                .returning(OrganizationRow)
            )
            if row is None:
                raise Conflict(f"there is an organization {request.id!r}; choose another name", param="id")
            await audit.record(session, actor, "organization.create", "organization", row.id)
            owner = await find_user(session, request.owner or actor.id)
            await add_organization_role(session, actor, row.id, owner.id, OrganizationRole.OWNER)
            return _view(row, [OrganizationRole.OWNER] if owner.id == actor.id else [])

    async def search(self, actor: Actor) -> list[OrganizationView]:
        """Return the organizations that the actor has a part in, by name."""
        async with self._database.transaction() as session:
            await access.require_active(session, actor)
            rows = await session.execute(
                ORGANIZATIONS_OF, {"principal": actor.id, "everywhere": is_local_admin(actor)}
            )
            return [organization_view(row) for row in rows]

    async def get(self, actor: Actor, organization: str) -> OrganizationView:
        """Return one organization."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.ORGANIZATION_READ
            )
            return _view(await session.get_one(OrganizationRow, checked), [])

    async def map_group(
        self, actor: Actor, organization: str, request: GroupMappingRequest
    ) -> GroupMappingView:
        """Let everybody in a group hold a role from his next request on.

        Raises:
            InvalidRequest: the role is of the other kind.
            NotFound: the project isn't the organization's.
            Conflict: it is mapped so already.
        """
        if isinstance(request.role, ProjectRole) != (request.project is not None):
            raise InvalidRequest("'viewer', 'developer', 'approver' and 'admin' are roles of a project, "
                                 "'owner' and 'auditor' of the organization", param="project")  # fmt: skip
        async with self._database.transaction() as session:
            checked = await access.authorize_organization_grant(session, actor, organization, request.role)
            if request.project is not None:
                await _require_project_of(session, checked, request.project)
            row = await session.scalar(
                insert(GroupMappingRow)
                .values(
                    id=new_id("map"),
                    issuer=request.issuer,
                    group_name=request.group,
                    organization_id=checked,
                    project_id=request.project,
                    role=request.role.value,
                    created_by=actor.id,
                )
                .on_conflict_do_nothing()
                .returning(GroupMappingRow)
            )
            if row is None:
                raise Conflict(f"group {request.group!r} has that role already", param="group")
            await audit.record_change(
                session, actor, "group.map", "group_mapping", row.id, None, _plain(row),
                project_id=row.project_id,
            )  # fmt: skip
            return _mapping_view(row)

    async def mappings(self, actor: Actor, organization: str) -> list[GroupMappingView]:
        """Return which groups hold which roles, oldest first."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.MEMBER_READ
            )
            query = select(GroupMappingRow).where(GroupMappingRow.organization_id == checked)
            rows = await session.scalars(query.order_by(GroupMappingRow.id))
            return [_mapping_view(row) for row in rows]

    async def unmap_group(self, actor: Actor, organization: str, mapping: str) -> None:
        """Take a role from a group.

        Raises:
            NotFound: the organization has no such mapping.
            Conflict: nobody would own the organization then.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.ORGANIZATION_WRITE
            )
            await hold_owners(session, checked)
            row = await session.scalar(
                delete(GroupMappingRow)
                .where(GroupMappingRow.organization_id == checked, GroupMappingRow.id == mapping)
                .returning(GroupMappingRow)
            )
            if row is None:
                raise NotFound(f"no mapping {mapping!r} in organization {checked!r}", param="mapping")
            if row.role == OrganizationRole.OWNER:
                await require_owner(session, checked)
            await audit.record_change(
                session, actor, "group.unmap", "group_mapping", row.id, _plain(row), None,
                project_id=row.project_id,
            )  # fmt: skip


def _plain(row: GroupMappingRow) -> dict[str, str | None]:
    return {
        "organization": row.organization_id,
        "project": row.project_id,
        "issuer": row.issuer,
        "group": row.group_name,
        "role": row.role,
    }


def organization_view(row: Row[Any]) -> OrganizationView:
    """Make the view of a row of `organizations_of`."""
    return OrganizationView(
        id=row.id,
        display_name=row.display_name,
        created_by=row.created_by,
        created_at=row.created_at,
        roles=[OrganizationRole(role) for role in row.organization_roles],
    )


async def _require_project_of(session: AsyncSession, organization: str, project: str) -> None:
    query = select(ProjectRow.id).where(ProjectRow.id == project, ProjectRow.organization_id == organization)
    if await session.scalar(query) is None:
        raise NotFound(f"no project {project!r} in organization {organization!r}", param="project")


def _view(row: OrganizationRow, roles: list[OrganizationRole]) -> OrganizationView:
    return OrganizationView(
        id=row.id,
        display_name=row.display_name,
        created_by=row.created_by,
        created_at=row.created_at,
        roles=roles,
    )


def _mapping_view(row: GroupMappingRow) -> GroupMappingView:
    return GroupMappingView(
        id=row.id,
        issuer=row.issuer,
        group=row.group_name,
        project=row.project_id,
        role=row.role,
        created_by=row.created_by,
        created_at=row.created_at,
    )
