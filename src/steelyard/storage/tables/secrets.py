"""Secrets of projects, each sealed under a key of its own."""

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Moment


class SecretRow(Base):
    """A value that no query returns: under a data key, which lies under a key of the platform."""

    __tablename__ = "secrets"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    """Goes up by one with each new value."""
    key_id: Mapped[str]
    """The key-encryption key that wrapped the data key."""
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[Moment]
