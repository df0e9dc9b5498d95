"""Searching the trail: a project's rows for its admins, and more for owners, auditors and operators."""

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from steelyard.governance import access
from steelyard.governance.audit.selection import Selection
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import Page, page_of
from steelyard.specs.access import Permission
from steelyard.specs.audit import AuditEntry
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditLeafRow, AuditRow, ProjectRow

_KINDS = ("user", "service_account", "system", "attempt", "anonymous")
_ANY = "*"


class AuditQueryService:
    """Reads the trail for people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self,
        actor: Actor,
        project: str | None,
        selection: Selection,
        limit: int,
        after: str | None,
        organization: str | None = None,
    ) -> Page[AuditEntry]:
        """Return a page of rows, newest first.

        Args:
            actor: who asks.
            project: whose rows; None for those of all projects, of `organization` or of the installation.
            organization: with no project, whose projects' rows; None for all rows of the installation.
            selection: which of them.
            limit: how many at most.
            after: id of a row; those before it in time follow.

        Raises:
            NotFound: no such project, or none of the actor's.
            PermissionDenied: the actor may not see so much of the trail.
            InvalidRequest: `after` is no id.
        """
        async with self._database.transaction() as session:
            query = _select().where(*_conditions(selection))
            query = query.where(*await _authorize(session, actor, project, organization))
            if after is not None:
                query = query.where(AuditRow.id < _row_id(after))
            entries = await _entries(session, query.order_by(AuditRow.id.desc()).limit(limit + 1))
        return page_of(entries, limit, [str(entry.id) for entry in entries])


async def _authorize(
    session: AsyncSession, actor: Actor, project: str | None, organization: str | None
) -> list[ColumnElement[bool]]:
    """Check what the actor may see, and return what keeps a query to it."""
    if project is not None:
        checked = await access.authorize(session, actor, project, Permission.AUDIT_READ)
        return [AuditRow.project_id == checked]
    if organization is not None:
        owner = await access.authorize_organization(session, actor, organization, Permission.AUDIT_READ)
        own = select(ProjectRow.id).where(ProjectRow.organization_id == owner)
        return [AuditRow.project_id.in_(own)]
    await access.authorize_installation(session, actor, Permission.AUDIT_READ)
    return []


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    exact = (
        (AuditRow.object_id, selection.object_id),
        (AuditRow.object_kind, selection.object_kind),
        (AuditRow.outcome, selection.outcome),
        (AuditRow.project_id, selection.project_id),
    )
    wanted = [column == value for column, value in exact if value is not None]
    if (name := selection.actor) is not None:
        wanted.append(AuditRow.actor.in_([name] if ":" in name else [f"{kind}:{name}" for kind in _KINDS]))
    if (verb := selection.verb) is not None and verb.endswith(_ANY):
        wanted.append(AuditRow.verb.startswith(verb.removesuffix(_ANY), autoescape=True))
    elif verb is not None:
        wanted.append(AuditRow.verb == verb)
    if selection.since is not None:
        wanted.append(AuditRow.at >= selection.since)
    if selection.until is not None:
        wanted.append(AuditRow.at < selection.until)
    return wanted


async def _entries(session: AsyncSession, query: Select[AuditRow, int]) -> list[AuditEntry]:
    return [
        AuditEntry(
            id=row.id,
            at=row.at,
            actor=row.actor,
            verb=row.verb,
            object_kind=row.object_kind,
            object_id=row.object_id,
            project_id=row.project_id,
            request_id=row.request_id,
            source=row.source,
            before_digest=row.before_digest,
            after_digest=row.after_digest,
            outcome=row.outcome,
            detail=row.detail,
            position=position,
        )
        for row, position in await session.execute(query)
    ]


def _select() -> Select[AuditRow, int]:
    return (
        select(AuditRow, AuditLeafRow.position)
        .outerjoin(AuditLeafRow, AuditLeafRow.row_id == AuditRow.id)
        .options(defer(AuditRow.transaction))
    )


def _row_id(after: str) -> int:
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise InvalidRequest("'after' is the `next` of a page before", param="after")
    return int(after)
