"""Whom a rule is for: one project, or an organization and all its projects."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.specs.access import Permission


@dataclass(frozen=True)
class Scope:
    """Exactly one of the two, as a caller named it."""

    project: str | None = None
    organization: str | None = None

    @property
    def word(self) -> Literal["project", "organization"]:
        """What it is."""
        return "project" if self.project is not None else "organization"

    @property
    def name(self) -> str:
        """Which one."""
        return self.project or self.organization or ""


@dataclass(frozen=True)
class CheckedScope:
    """A scope that was checked for the actor: what goes into a row's columns."""

    project_id: str | None = None
    organization_id: str | None = None


async def authorize_scope(
    session: AsyncSession, actor: Actor, scope: Scope, in_project: Permission
) -> CheckedScope:
    """Return a scope as a checked one. An organization's rules are its owners' to set.

    Raises:
        NotFound: not the actor's to know of.
        PermissionDenied: not the actor's to change.
    """
    if scope.project is not None:
        return CheckedScope(project_id=await access.authorize(session, actor, scope.project, in_project))
    checked = await access.authorize_organization(
        session, actor, scope.organization or "", Permission.ORGANIZATION_WRITE
    )
    return CheckedScope(organization_id=checked)
