"""The audit trail: who did what to which thing. Append-only by trigger."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from steelyard.storage.tables.base import Base, BigKey, CreatedAt, Json


class AuditRow(Base):
    """One act, written in the same transaction as the act itself."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_by_object", "object_id", "id"),
        Index("audit_by_project", "project_id", "id"),
    )

    id: Mapped[BigKey]
    at: Mapped[CreatedAt]
    actor: Mapped[str]
    verb: Mapped[str]
    object_kind: Mapped[str]
    object_id: Mapped[str]
    project_id: Mapped[str | None]
    request_id: Mapped[str | None]
    source: Mapped[str | None]
    """Address that the request came from."""
    before_digest: Mapped[str | None]
    after_digest: Mapped[str | None]
    detail: Mapped[Json]
