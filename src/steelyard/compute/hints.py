"""Hints that queue or pool changed, so that a round of the scheduler follows at once."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

QUEUE_CHANNEL = "steelyard_queue"


async def wake_scheduler(session: AsyncSession) -> None:
    """Let a round follow this transaction."""
    await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": QUEUE_CHANNEL})
