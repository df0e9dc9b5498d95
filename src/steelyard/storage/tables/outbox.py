"""Effects that a transaction promised, waiting to be carried out."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from steelyard.storage.tables.base import Base, BigKey, CreatedAt, Json, Moment


class OutboxRow(Base):
    """One effect. It is deleted when done; a claim runs out, so a dead dispatcher loses nothing."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_due", "available_at", "id"),)

    id: Mapped[BigKey]
    topic: Mapped[str]
    key: Mapped[str]
    """Id of the thing that the effect is about."""
    payload: Mapped[Json]
    created_at: Mapped[CreatedAt]
    available_at: Mapped[Moment]
    tries: Mapped[int]
    last_error: Mapped[str | None]
