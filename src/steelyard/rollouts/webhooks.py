"""Webhooks of a project: set, listed, removed, and what became of their deliveries."""

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, NotFound
from steelyard.kit.ids import new_id
from steelyard.kit.paging import Page, page_of
from steelyard.rollouts.addresses import AddressPolicy, read_target
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.specs.access import Permission
from steelyard.specs.webhooks import DeliveryView, WebhookRequest, WebhookView
from steelyard.storage.database import Database
from steelyard.storage.tables import DeliveryRow, WebhookRow

_MOST = 50
"""Webhooks of one project: each event is written once for each of them."""


class WebhookService:
    """Keeps webhooks. A webhook's secret is in the answer that makes it, and in no other."""

    def __init__(
        self, database: Database, secrets: WebhookSecrets, policy: AddressPolicy, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._policy = policy
        self._clock = clock

    async def add(self, actor: Actor, project: str, request: WebhookRequest) -> WebhookView:
        """Send events to an address from now on.

        Raises:
            InvalidRequest: an address that is not sent to.
            Conflict: the project has as many as it may have.
        """
        read_target(request.url, self._policy)
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.GATE_WRITE)
            count = await session.scalar(
                select(func.count()).select_from(WebhookRow).where(WebhookRow.project_id == checked)
            )
            if (count or 0) >= _MOST:
                raise Conflict(f"a project has {_MOST} webhooks at most; remove one")
            row = WebhookRow(
                id=new_id("hook"),
                project_id=checked,
                url=request.url,
                events=list(request.events),
                created_by=actor.id,
                created_at=self._clock(),
            )
            session.add(row)
            await session.flush()
            await audit.record(
                session, actor, "webhook.add", "webhook", row.id,
                project_id=checked, detail={"url": row.url, "events": row.events},
            )  # fmt: skip
            return _view(row).model_copy(update={"secret": self._secrets.secret_of(row.id)})

    async def search(self, actor: Actor, project: str) -> list[WebhookView]:
        """Return the webhooks of a project, without their secrets."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.GATE_WRITE)
            rows = await session.scalars(
                select(WebhookRow).where(WebhookRow.project_id == checked).order_by(WebhookRow.id)
            )
            return [_view(row) for row in rows]

    async def remove(self, actor: Actor, project: str, webhook_id: str) -> None:
        """Send nothing more there; deliveries that are under way are dropped.

        Raises:
            NotFound: no such webhook in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.GATE_WRITE)
            await _require(session, checked, webhook_id)
            await session.execute(delete(WebhookRow).where(WebhookRow.id == webhook_id))
            await audit.record(session, actor, "webhook.remove", "webhook", webhook_id, project_id=checked)

    async def deliveries(
        self, actor: Actor, project: str, webhook_id: str, limit: int, after: str | None
    ) -> Page[DeliveryView]:
        """Return what was sent to a webhook, newest first.

        Raises:
            NotFound: no such webhook in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.GATE_WRITE)
            await _require(session, checked, webhook_id)
            query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id)
            if after is not None:
                query = query.where(DeliveryRow.id < after)
            rows = list(await session.scalars(query.order_by(DeliveryRow.id.desc()).limit(limit + 1)))
        views = [
            DeliveryView.model_validate({name: getattr(row, name) for name in DeliveryView.model_fields})
            for row in rows
        ]
        return page_of(views, limit, [row.id for row in rows])


async def _require(session: AsyncSession, project: ProjectId, webhook_id: str) -> None:
    found = await session.scalar(
        select(WebhookRow.id).where(WebhookRow.project_id == project, WebhookRow.id == webhook_id)
    )
    if found is None:
        raise NotFound(
            f"no webhook {webhook_id!r} in project {project!r}; 'steelyard webhooks list' shows them"
        )


def _view(row: WebhookRow) -> WebhookView:
    return WebhookView(
        id=row.id, url=row.url, events=row.events, created_by=row.created_by, created_at=row.created_at
    )
