"""Tokenized caches of dataset versions."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Json


class TokenizedCacheRow(Base):
    """One cache. What is on the disk without a row is work that nobody finished."""

    __tablename__ = "tokenized_caches"
    __table_args__ = (
        Index("tokenized_caches_by_dataset", "project_id", "dataset_digest"),
        Index("tokenized_caches_by_use", "last_used_at"),
    )

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    dataset_digest: Mapped[str]
    tokenizer: Mapped[str]
    """The model whose tokenizer it is, as the spec names it."""
    settings: Mapped[Json]
    path: Mapped[str]
    digest: Mapped[str]
    size_bytes: Mapped[int]
    summary: Mapped[Json]
    made_at: Mapped[CreatedAt]
    last_used_at: Mapped[CreatedAt]
