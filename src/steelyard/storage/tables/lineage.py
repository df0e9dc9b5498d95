"""Signed statements about models, which nobody changes."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt


class LineageStatementRow(Base):
    """The statement of one model version, as it was signed at registration."""

    __tablename__ = "lineage_statements"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    """Of the envelope's text."""
    envelope: Mapped[str]
    created_at: Mapped[CreatedAt]
