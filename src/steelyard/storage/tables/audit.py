"""The audit trail: who did what to which thing. Append-only by privilege and by trigger."""

from typing import Any

from sqlalchemy import FetchedValue, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from steelyard.storage.tables.base import Base, BigKey, CreatedAt, Json


class TransactionId(UserDefinedType[Any]):
    """PostgreSQL's `xid8`: a transaction's number, which doesn't wrap around. Read it as text."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        """Return the type's name in SQL."""
        return "xid8"


class AuditRow(Base):
    """One act, written in the same transaction as the act itself."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_by_object", "object_id", "id"),
        Index("audit_by_project", "project_id", "id"),
        Index("audit_by_actor", "actor", "id"),
        Index("audit_by_verb", "verb", "id"),
        Index("audit_in_sealing_order", "transaction", "id"),
    )

    id: Mapped[BigKey]
    at: Mapped[CreatedAt]
    """Start of the transaction, by the database's clock; what is inserted here is not heeded."""
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
    outcome: Mapped[str] = mapped_column(server_default="accepted")
    transaction: Mapped[Any] = mapped_column(TransactionId, server_default=FetchedValue())
    """What is inserted here is not heeded."""


class AuditLeafRow(Base):
    """A sealed row's place in the trail, its leaf hash, and its link of the chain."""

    __tablename__ = "audit_leaves"

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """0 for the first."""
    row_id: Mapped[int] = mapped_column(unique=True)
    leaf: Mapped[bytes] = mapped_column(LargeBinary)
    link: Mapped[bytes] = mapped_column(LargeBinary)


class AuditSealRow(Base):
    """The state of the trail after a round of sealing, with its signed checkpoint."""

    __tablename__ = "audit_seals"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """How many leaves there were."""
    sealed_at: Mapped[CreatedAt]
    root: Mapped[bytes] = mapped_column(LargeBinary)
    link: Mapped[bytes] = mapped_column(LargeBinary)
    """Link of the last leaf."""
    frontier: Mapped[bytes] = mapped_column(LargeBinary)
    """Roots of the tree's complete subtrees, from which it goes on growing."""
    last_transaction: Mapped[Any] = mapped_column(TransactionId)
    last_row_id: Mapped[int]
    note: Mapped[str]
