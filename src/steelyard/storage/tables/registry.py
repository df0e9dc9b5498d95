"""Models and their immutable versions. MLflow mirrors them."""

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Json


class ModelRow(Base):
    """A name under which versions are registered."""

    __tablename__ = "models"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    latest_version: Mapped[int]
    mirror_repairs: Mapped[int] = mapped_column(default=0)
    """How often it was put right in MLflow: of two who find the same fault, the second sees it here."""
    created_at: Mapped[CreatedAt]


class ModelVersionRow(Base):
    """One trained model. A job run makes at most one, however often registration is tried."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("job_id", "run_number"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    run_number: Mapped[int]
    path: Mapped[str]
    manifest_digest: Mapped[str]
    lineage: Mapped[Json]
    metrics: Mapped[Json]
    mlflow_version: Mapped[str | None]
    mlflow_run_id: Mapped[str | None]
    """The run in MLflow whose artifact `model` holds the files."""
    created_at: Mapped[CreatedAt]
