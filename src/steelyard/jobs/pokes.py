"""Pokes: a word to the workflow of a family that something about its children has changed.

The workflow then looks at everything anew, so a poke says nothing else, and any number of them does no harm.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.storage.outbox import CHANNEL, enqueue
from steelyard.storage.tables import JobRow

FAMILY_TOPIC = "reach_family"
"""Starts the workflow of a family, or tells the one that runs to look again."""


async def poke_family(session: AsyncSession, child_id: str) -> None:
    """Let the family of a job look again once this transaction is committed; nothing where it has none.

    One statement, which takes no lock, so it can stand anywhere in a transaction.
    """
    await session.execute(_POKE, {"topic": FAMILY_TOPIC, "channel": CHANNEL, "child": child_id})


async def reach_family(session: AsyncSession, parent: JobRow) -> None:
    """Promise that the workflow of a family's present run is there, and looks again."""
    await enqueue(session, FAMILY_TOPIC, parent.id, {"run_number": parent.run_number})


_POKE = text(
    """
    WITH poked AS (
        INSERT INTO outbox (topic, key, payload, available_at, tries)
        SELECT :topic, parent.id, jsonb_build_object('run_number', parent.run_number), clock_timestamp(), 0
        FROM jobs child JOIN jobs parent ON parent.id = child.parent_id
        WHERE child.id = :child
        RETURNING id
    )
    SELECT pg_notify(:channel, :topic) FROM poked
    """
)
