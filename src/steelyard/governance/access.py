"""Whether an actor may act in a project. Deny by default; a foreign project is not found, not forbidden."""

from typing import NewType

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.identity import Actor
from steelyard.kit.errors import NotFound
from steelyard.specs.access import Permission
from steelyard.storage.tables import ProjectRow

ProjectId = NewType("ProjectId", str)
"""A project that was checked for the actor. Repositories take nothing else, so no query forgets to."""


async def authorize(session: AsyncSession, actor: Actor, project: str, permission: Permission) -> ProjectId:
    """Return the project as a checked id.

    Raises:
        NotFound: the project doesn't exist, or the actor has no part in it.
    """
    if actor.kind not in ("user", "system"):
        raise _not_found(project)
    found = await session.scalar(select(ProjectRow.id).where(ProjectRow.id == project))
    if found is None:
        raise _not_found(project)
    return ProjectId(found)


def _not_found(project: str) -> NotFound:
    return NotFound(f"no project {project!r}; the embedded platform's is 'default'", param="project")
