"""Events of models: written in the transaction of the act, and promised to the webhooks that want them."""

from fnmatch import fnmatchcase
from typing import Any, Literal

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.kit.ids import new_id
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import DeliveryRow, ModelEventRow, WebhookRow

WEBHOOK_TOPIC = "deliver_webhook"
CHANNEL = "steelyard_model_events"
"""Hints that a model has a new event; the payload is `project/model`."""


async def announce(
    session: AsyncSession,
    project: ProjectId,
    model: str,
    type_: str,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    data: dict[str, Any] | None = None,
) -> None:
    """Write an event and promise its deliveries. `data` holds no secret.

    Args:
        type_: `noun.what_happened`, such as `alias.moved`.
    """
    row = (
        await session.execute(
            insert(ModelEventRow)
            .values(
                project_id=project, model=model, level=level, type=type_, message=message, data=data or {}
            )
            .returning(ModelEventRow.id, ModelEventRow.created_at)
        )
    ).one()
    await session.execute(
        text("SELECT pg_notify(:channel, :model)"), {"channel": CHANNEL, "model": f"{project}/{model}"}
    )
    body = {
        "type": type_,
        "timestamp": row.created_at.isoformat(),
        "data": {
            "id": row.id,
            "project": project,
            "model": model,
            "level": level,
            "message": message,
            **(data or {}),
        },
    }
    for webhook in await session.scalars(select(WebhookRow).where(WebhookRow.project_id == project)):
        if any(fnmatchcase(type_, pattern) for pattern in webhook.events):
            await _promise(session, webhook, row.id, type_, body)


async def _promise(
    session: AsyncSession, webhook: WebhookRow, event_id: int, type_: str, body: dict[str, Any]
) -> None:
    delivery = DeliveryRow(
        id=new_id("dlv"),
        project_id=webhook.project_id,
        webhook_id=webhook.id,
        event_id=event_id,
        type=type_,
        body=body,
        state="pending",
        tries=0,
    )
    session.add(delivery)
    await session.flush()
    await enqueue(session, WEBHOOK_TOPIC, delivery.id, {})
