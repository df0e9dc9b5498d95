"""Which version an alias points to, pointed to at a moment, and how it came there."""

from datetime import datetime

from sqlalchemy import select

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.kit.paging import Page, page_of
from steelyard.rollouts import repository
from steelyard.rollouts.views import alias_view, event_view, transition_view
from steelyard.specs.access import Permission
from steelyard.specs.promotions import Alias, AliasView, RegistryEventView, TransitionView
from steelyard.storage.database import Database
from steelyard.storage.tables import ModelEventRow


class HistoryService:
    """Reads aliases, their moves, and the events of models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def aliases(self, actor: Actor, project: str) -> dict[str, list[AliasView]]:
        """Return the aliases of all models of a project, by model."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            rows = await repository.aliases_of(session, checked)
        found: dict[str, list[AliasView]] = {}
        for row in rows:
            found.setdefault(row.model, []).append(alias_view(row))
        return found

    async def transitions(
        self, actor: Actor, project: str, name: str, alias: Alias, limit: int, after: str | None
    ) -> Page[TransitionView]:
        """Return an alias's moves, newest first. `after`: the sequence of the last one that was read."""
        if after is not None and not after.isdecimal():
            raise InvalidRequest(f"{after!r} is no sequence; pass `next` of the page before", param="after")
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            rows = await repository.transitions_of(
                session, checked, name, alias, limit + 1, int(after) if after else None
            )
        return page_of([transition_view(row) for row in rows], limit, [str(row.sequence) for row in rows])

    async def at(
        self, actor: Actor, project: str, name: str, alias: Alias, moment: datetime
    ) -> TransitionView:
        """Return the move that decided where an alias pointed at a moment.

        Raises:
            NotFound: it pointed nowhere then.
            InvalidRequest: `moment` has no time zone.
        """
        if moment.tzinfo is None:
            raise InvalidRequest("'at' needs a time zone, as in 2026-01-31T12:00:00Z", param="at")
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            row = await repository.transition_at(session, checked, name, alias, moment)
        if row is None:
            raise NotFound(f"{alias} of {name} pointed to no version at {moment.isoformat()}")
        return transition_view(row)

    async def events(
        self, actor: Actor, project: str, name: str, limit: int, after: str | None
    ) -> Page[RegistryEventView]:
        """Return a model's events, oldest first."""
        if after is not None and not after.isdecimal():
            raise InvalidRequest(f"{after!r} is not an event id; pass the last one seen", param="after")
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            query = (
                select(ModelEventRow)
                .where(
                    ModelEventRow.project_id == checked,
                    ModelEventRow.model == name,
                    ModelEventRow.id > int(after or 0),
                )
                .order_by(ModelEventRow.id)
                .limit(limit + 1)
            )
            rows = list(await session.scalars(query))
        return page_of([event_view(row) for row in rows], limit, [str(row.id) for row in rows])
