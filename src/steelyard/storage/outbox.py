"""The outbox: effects are written with the change that causes them, and carried out afterwards.

A dispatcher claims rows for a while, does the effect, and deletes the row. If it dies in between, the claim
runs out and another does the effect again, so every effect must be safe to repeat.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.storage.tables import OutboxRow

CHANNEL = "steelyard_outbox"


@dataclass(frozen=True)
class Effect:
    """A claimed row."""

    id: int
    topic: str
    key: str
    payload: dict[str, Any]
    tries: int


async def enqueue(session: AsyncSession, topic: str, key: str, payload: dict[str, Any]) -> None:
    """Promise an effect; listeners of `CHANNEL` are woken when the transaction commits."""
    await session.execute(
        insert(OutboxRow).values(
            topic=topic, key=key, payload=payload, available_at=text("clock_timestamp()"), tries=0
        )
    )
    await session.execute(text("SELECT pg_notify(:channel, :topic)"), {"channel": CHANNEL, "topic": topic})


async def enqueue_all(
    session: AsyncSession, topic: str, effects: Iterable[tuple[str, dict[str, Any]]]
) -> None:
    """Promise several effects of one topic, each by its key and payload, in their order."""
    keys, payloads = zip(*((key, json.dumps(payload)) for key, payload in effects), strict=True)
    await session.execute(_ALL, {"topic": topic, "keys": list(keys), "payloads": list(payloads)})
    await session.execute(text("SELECT pg_notify(:channel, :topic)"), {"channel": CHANNEL, "topic": topic})


_ALL = text(
    "INSERT INTO outbox (topic, key, payload, available_at, tries)"
    " SELECT :topic, key, payload, clock_timestamp(), 0"
    " FROM unnest(CAST(:keys AS TEXT[]), CAST(:payloads AS JSONB[]))"
    " WITH ORDINALITY AS given(key, payload, place) ORDER BY place"
)


async def claim(
    session: AsyncSession,
    limit: int,
    claim_seconds: float,
    *,
    topics: Collection[str] | None = None,
    without: Collection[str] = (),
) -> list[Effect]:
    """Take due rows, oldest first. No other dispatcher gets them before the claim has run out.

    Args:
        topics: only these; None: all.
        without: but not these.
    """
    rows = await session.execute(
        text(
            "UPDATE outbox SET available_at = clock_timestamp() + make_interval(secs => :seconds),"
            " tries = tries + 1 WHERE id IN (SELECT id FROM outbox WHERE available_at <= clock_timestamp()"
            " AND (:every OR topic = ANY(CAST(:topics AS TEXT[])))"
            " AND topic <> ALL(CAST(:without AS TEXT[]))"
            " ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING id, topic, key, payload, tries"
        ),
        {
            "seconds": claim_seconds,
            "limit": limit,
            "every": topics is None,
            "topics": list(topics or ()),
            "without": list(without),
        },
    )
    effects = [Effect(row.id, row.topic, row.key, row.payload, row.tries) for row in rows]
    return sorted(effects, key=lambda effect: effect.id)


async def complete(session: AsyncSession, effect_id: int) -> None:
    """The effect is done: forget it."""
    await session.execute(delete(OutboxRow).where(OutboxRow.id == effect_id))


async def postpone(session: AsyncSession, effect_id: int, error: str, delay_seconds: float) -> None:
    """The effect could not be carried out: try again after a while."""
    await session.execute(
        update(OutboxRow)
        .where(OutboxRow.id == effect_id)
        .values(
            last_error=error[:2000],
            available_at=text("clock_timestamp() + make_interval(secs => :delay)").bindparams(
                delay=delay_seconds
            ),
        )
    )
