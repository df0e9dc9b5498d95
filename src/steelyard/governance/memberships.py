"""Roles of people and service accounts: given, taken, and listed, in a project or an organization."""

from typing import Any

from sqlalchemy import Row, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.governance.principals import find_grantee
from steelyard.kit.errors import Conflict, NotFound
from steelyard.specs.access import OrganizationRole, Permission, ProjectRole
from steelyard.specs.identity import MemberView
from steelyard.storage.database import Database
from steelyard.storage.tables import (
    OrganizationMemberRow,
    OrganizationRow,
    PrincipalRow,
    ProjectMemberRow,
    ProjectRow,
)

_HAS_OWNER = text("SELECT has_owner(:organization)")
_GROUP_ROLES = """
    SELECT principal_groups.principal_id, array_agg(DISTINCT mapping.role ORDER BY mapping.role) roles
    FROM group_mappings mapping JOIN principal_groups USING (issuer, group_name)
    WHERE {scope} GROUP BY 1
"""
_PROJECT_GROUP_ROLES = text(_GROUP_ROLES.format(scope="mapping.project_id = :id"))
_ORGANIZATION_GROUP_ROLES = text(
    _GROUP_ROLES.format(scope="mapping.organization_id = :id AND mapping.project_id IS NULL")
)


class MembershipService:
    """Gives and takes roles. Nobody gives or takes more than he holds, and an organization keeps an owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_project(self, actor: Actor, project: str) -> list[MemberView]:
        """Return who holds a role in a project, by name."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MEMBER_READ)
            query = (
                select(PrincipalRow, ProjectMemberRow.role)
                .join(ProjectMemberRow, ProjectMemberRow.principal_id == PrincipalRow.id)
                .where(ProjectMemberRow.project_id == checked)
            )
            given = list(await session.execute(query))
            by_group = list(await session.execute(_PROJECT_GROUP_ROLES, {"id": checked}))
            return await _members(session, given, by_group)

    async def of_organization(self, actor: Actor, organization: str) -> list[MemberView]:
        """Return who holds a role in an organization itself, by name."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.MEMBER_READ
            )
            query = (
                select(PrincipalRow, OrganizationMemberRow.role)
                .join(OrganizationMemberRow, OrganizationMemberRow.principal_id == PrincipalRow.id)
                .where(OrganizationMemberRow.organization_id == checked)
            )
            given = list(await session.execute(query))
            by_group = list(await session.execute(_ORGANIZATION_GROUP_ROLES, {"id": checked}))
            return await _members(session, given, by_group)

    async def grant(self, actor: Actor, project: str, principal: str, role: ProjectRole) -> None:
        """Give a role in a project. Giving it twice changes nothing.

        Raises:
            NotFound: nobody has that name.
            PermissionDenied: the role permits something that the actor may not do himself.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_grant(session, actor, project, role)
            organization = await session.scalar(
                select(ProjectRow.organization_id).where(ProjectRow.id == checked)
            )
            grantee = await find_grantee(session, principal, organization)
            await add_project_role(session, actor, checked, grantee.id, role)

    async def revoke(self, actor: Actor, project: str, principal: str, role: ProjectRole) -> None:
        """Take a role in a project. Counts from the next request on; running jobs go on.

        Raises:
            NotFound: he wasn't given it.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_grant(session, actor, project, role)
            gone = await session.scalar(
                delete(ProjectMemberRow)
                .where(
                    ProjectMemberRow.project_id == checked,
                    ProjectMemberRow.principal_id == principal,
                    ProjectMemberRow.role == role.value,
                )
                .returning(ProjectMemberRow.role)
            )
            if gone is None:
                raise _not_held(principal, role)
            left = await _roles_in_project(session, checked, principal)
            await audit.record_change(
                session, actor, "member.revoke", "principal", principal,
                {"roles": sorted([*left, role.value])}, {"roles": left},
                project_id=checked, detail={"role": role.value},
            )  # fmt: skip

    async def grant_in_organization(
        self, actor: Actor, organization: str, principal: str, role: OrganizationRole
    ) -> None:
        """Give a role in an organization. Raises as `grant`."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization_grant(session, actor, organization, role)
            grantee = await find_grantee(session, principal, checked)
            await add_organization_role(session, actor, checked, grantee.id, role)

    async def revoke_in_organization(
        self, actor: Actor, organization: str, principal: str, role: OrganizationRole
    ) -> None:
        """Take a role in an organization. Raises as `revoke`.

        Raises:
            Conflict: he is its last owner.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_organization_grant(session, actor, organization, role)
            await hold_owners(session, checked)
            gone = await session.scalar(
                delete(OrganizationMemberRow)
                .where(
                    OrganizationMemberRow.organization_id == checked,
                    OrganizationMemberRow.principal_id == principal,
                    OrganizationMemberRow.role == role.value,
                )
                .returning(OrganizationMemberRow.role)
            )
            if gone is None:
                raise _not_held(principal, role)
            if role is OrganizationRole.OWNER:
                await require_owner(session, checked)
            left = await _roles_in_organization(session, checked, principal)
            await audit.record_change(
                session, actor, "organization_member.revoke", "principal", principal,
                {"roles": sorted([*left, role.value])}, {"roles": left},
                detail={"organization": checked, "role": role.value},
            )  # fmt: skip


async def add_project_role(
    session: AsyncSession, actor: Actor, project: access.ProjectId, principal: str, role: ProjectRole
) -> None:
    """Give a role that the actor may give, with its audit row."""
    new = await session.scalar(
        insert(ProjectMemberRow)
        .values(project_id=project, principal_id=principal, role=role.value, granted_by=actor.id)
        .on_conflict_do_nothing()
        .returning(ProjectMemberRow.role)
    )
    if new is not None:
        held = await _roles_in_project(session, project, principal)
        await audit.record_change(
            session, actor, "member.grant", "principal", principal,
            {"roles": [name for name in held if name != role.value]}, {"roles": held},
            project_id=project, detail={"role": role.value},
        )  # fmt: skip


async def add_organization_role(
    session: AsyncSession, actor: Actor, organization: str, principal: str, role: OrganizationRole
) -> None:
    """Give a role that the actor may give, with its audit row."""
    new = await session.scalar(
        insert(OrganizationMemberRow)
        .values(organization_id=organization, principal_id=principal, role=role.value, granted_by=actor.id)
        .on_conflict_do_nothing()
        .returning(OrganizationMemberRow.role)
    )
    if new is not None:
        held = await _roles_in_organization(session, organization, principal)
        await audit.record_change(
            session, actor, "organization_member.grant", "principal", principal,
            {"roles": [name for name in held if name != role.value]}, {"roles": held},
            detail={"organization": organization, "role": role.value},
        )  # fmt: skip


async def _roles_in_project(session: AsyncSession, project: str, principal: str) -> list[str]:
    """Return the roles that somebody was given in a project, by name; not those of his groups."""
    query = select(ProjectMemberRow.role).where(
        ProjectMemberRow.project_id == project, ProjectMemberRow.principal_id == principal
    )
    return sorted(await session.scalars(query))


async def _roles_in_organization(session: AsyncSession, organization: str, principal: str) -> list[str]:
    query = select(OrganizationMemberRow.role).where(
        OrganizationMemberRow.organization_id == organization,
        OrganizationMemberRow.principal_id == principal,
    )
    return sorted(await session.scalars(query))


async def hold_owners(session: AsyncSession, organization: str) -> None:
    """Let one transaction at a time change who owns it, so that two can't remove the last two."""
    await session.execute(
        select(OrganizationRow.id).where(OrganizationRow.id == organization).with_for_update()
    )


async def require_owner(session: AsyncSession, organization: str) -> None:
    """Refuse what would leave an organization without an owner. Call after the change, with owners held.

    Raises:
        Conflict: nobody would own it.
    """
    if not await session.scalar(_HAS_OWNER, {"organization": organization}):
        raise Conflict(
            f"organization {organization!r} would have no owner left; make somebody else one first"
        )


async def _members(
    session: AsyncSession, given: list[Row[PrincipalRow, str]], by_group: list[Row[Any]]
) -> list[MemberView]:
    people = {row.id: row for row, _ in given}
    if missing := [found.principal_id for found in by_group if found.principal_id not in people]:
        rows = await session.scalars(select(PrincipalRow).where(PrincipalRow.id.in_(missing)))
        people |= {row.id: row for row in rows}
    group_roles = {found.principal_id: found.roles for found in by_group}
    return [
        MemberView(
            principal=row.id,
            kind="service_account" if row.kind == "service_account" else "user",
            display_name=row.display_name,
            email=row.email,
            active=row.disabled_at is None and row.deleted_at is None,
            roles=sorted(role for other, role in given if other.id == row.id),
            group_roles=group_roles.get(row.id, []),
        )
        for row in sorted(people.values(), key=lambda row: row.id)
    ]


def _not_held(principal: str, role: ProjectRole | OrganizationRole) -> NotFound:
    return NotFound(
        f"{principal!r} was not given the role {role.value!r} here; roles by a group are the mapping's",
        param="principal",
    )
