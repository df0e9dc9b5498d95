"""Projects: made and put away by owners of their organization."""

from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.governance.memberships import add_project_role
from steelyard.governance.principals import find_grantee
from steelyard.governance.standing import is_local_admin
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict
from steelyard.specs.access import Permission, ProjectRole
from steelyard.specs.identity import ProjectRequest, ProjectView
from steelyard.specs.states import TERMINAL_STATES
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow, ProjectRow

PROJECTS_OF = text("SELECT * FROM projects_of(:principal, :everywhere)")


class ProjectService:
    """Makes, lists and archives projects. A name is used once and for ever."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def create(self, actor: Actor, organization: str, request: ProjectRequest) -> ProjectView:
        """Make a project, with its first admin if one is named.

        Raises:
            Conflict: the name is not free.
            NotFound: nobody has the admin's name.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_organization_grant(
                session, actor, organization, ProjectRole.ADMIN
            )
            new = await session.scalar(
                insert(ProjectRow)
                .values(
                    id=request.id,
                    organization_id=checked,
                    display_name=request.display_name or request.id,
                    created_by=actor.id,
                )
                .on_conflict_do_nothing(index_elements=["id"])
                .returning(ProjectRow.id)
            )
            if new is None:
                raise Conflict(f"the name {request.id!r} is not free; choose another", param="id")
            project = await access.authorize_grant(session, actor, new, ProjectRole.ADMIN)
            await audit.record(
                session, actor, "project.create", "project", project,
                project_id=project, detail={"organization": checked},
            )  # fmt: skip
            if request.admin is not None:
                admin = await find_grantee(session, request.admin, checked)
                await add_project_role(session, actor, project, admin.id, ProjectRole.ADMIN)
            return _view(await session.get_one(ProjectRow, project))

    async def search(self, actor: Actor) -> list[ProjectView]:
        """Return the projects that the actor has a part in, by name; those that his token reaches."""
        async with self._database.transaction() as session:
            await access.require_active(session, actor)
            rows = await session.execute(
                PROJECTS_OF, {"principal": actor.id, "everywhere": is_local_admin(actor)}
            )
            return [project_view(row) for row in rows if within_scope(actor, row.id)]

    async def get(self, actor: Actor, project: str) -> ProjectView:
        """Return one project."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            return _view(await session.get_one(ProjectRow, checked))

    async def require(self, actor: Actor, project: str, permission: Permission) -> None:
        """Check an act on something that another program keeps for a project.

        Raises:
            NotFound, PermissionDenied: as `access.authorize`.
        """
        async with self._database.transaction() as session:
            await access.authorize(session, actor, project, permission)

    async def archive(self, actor: Actor, project: str) -> ProjectView:
        """Let a project only be read from now on.

        Raises:
            Conflict: it has jobs that are not over.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.ORGANIZATION_WRITE)
            await session.execute(select(ProjectRow.id).where(ProjectRow.id == checked).with_for_update())
            running = await session.scalar(
                select(func.count()).where(
                    JobRow.project_id == checked,
                    JobRow.state.not_in([str(state) for state in TERMINAL_STATES]),
                )
            )
            if running:
                raise Conflict(
                    f"{running} jobs of {project!r} are not over; cancel them or wait, then archive"
                )
            return await self._set_archived(session, actor, checked, "project.archive", archived=True)

    async def restore(self, actor: Actor, project: str) -> ProjectView:
        """Let an archived project be used again."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.ORGANIZATION_WRITE)
            return await self._set_archived(session, actor, checked, "project.restore", archived=False)

    async def _set_archived(
        self, session: AsyncSession, actor: Actor, project: access.ProjectId, verb: str, *, archived: bool
    ) -> ProjectView:
        was = await session.scalar(
            select(ProjectRow.archived_at).where(ProjectRow.id == project).with_for_update()
        )
        row = (
            await session.scalars(
                update(ProjectRow)
                .where(ProjectRow.id == project)
                .values(
                    archived_at=func.coalesce(ProjectRow.archived_at, self._clock()) if archived else None
                )
                .returning(ProjectRow)
            )
        ).one()
        await audit.record_change(
            session, actor, verb, "project", project, {"archived": was is not None}, {"archived": archived},
            project_id=project,
        )  # fmt: skip
        return _view(row)


def project_view(row: Row[Any]) -> ProjectView:
    """Make the view of a row of `projects_of`."""
    return ProjectView(
        id=row.id,
        organization_id=row.organization_id,
        display_name=row.display_name,
        created_by=row.created_by,
        created_at=row.created_at,
        archived_at=row.archived_at,
        roles=[*row.project_roles, *row.organization_roles],
    )


def within_scope(actor: Actor, project: str) -> bool:
    """Whether the actor's token reaches a project."""
    return actor.scope.projects is None or project in actor.scope.projects


def _view(row: ProjectRow) -> ProjectView:
    return ProjectView(
        id=row.id,
        organization_id=row.organization_id,
        display_name=row.display_name,
        created_by=row.created_by,
        created_at=row.created_at,
        archived_at=row.archived_at,
    )
