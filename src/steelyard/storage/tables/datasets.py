"""Datasets and their immutable versions."""

from sqlalchemy import Boolean, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Json, Moment, TextKey


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
    deleted_at: Mapped[Moment | None]
    """Set for a tombstone: no new job takes it, and lineage still knows what it was."""
    deleted_by: Mapped[str | None]


class AbandonedBlobRow(Base):
    """An object that a deleted version held; swept away unless another version holds it too."""

    __tablename__ = "abandoned_blobs"

    digest: Mapped[TextKey]
    abandoned_at: Mapped[CreatedAt]


class UploadRow(Base):
    """A file that a user sent, before it became part of a version."""

    __tablename__ = "uploads"

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    filename: Mapped[str]
    size_bytes: Mapped[int]
    digest: Mapped[str]
    state: Mapped[str]
    """`receiving` until all parts are there."""
    part_size_bytes: Mapped[int | None]
    """None where it came in one piece."""
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class UploadPartRow(Base):
    """A part of an upload whose bytes are on the disk."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    size_bytes: Mapped[int]
    digest: Mapped[str]
    received_at: Mapped[CreatedAt]


class IngestRow(Base):
    """One ingest: from uploads and a spec to a version, or to the reason why there is none."""

    __tablename__ = "ingests"

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    state: Mapped[str]
    uploads: Mapped[Json]
    spec: Mapped[Json]
    progress: Mapped[Json]
    error: Mapped[Json]
    version: Mapped[int | None]
    created: Mapped[bool | None] = mapped_column(Boolean)
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
