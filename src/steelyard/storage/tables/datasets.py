"""Datasets and their immutable versions."""

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Json


class DatasetRow(Base):
    """A name under which versions are kept."""

    __tablename__ = "datasets"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    latest_version: Mapped[int]
    created_at: Mapped[CreatedAt]


class DatasetVersionRow(Base):
    """One version: equal bytes and an equal spec give the version that is there already."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("project_id", "name", "digest"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    format: Mapped[str]
    rows_train: Mapped[int]
    rows_validation: Mapped[int]
    manifest: Mapped[Json]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
