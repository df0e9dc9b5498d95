"""Suites and the results of evaluations. Results are appended once and never change: migration 0009."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Float, ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Json, TextKey


class SuiteRow(Base):
    """One version of a suite, of a project or of an organization and all its projects."""

    __tablename__ = "suites"

    id: Mapped[TextKey]
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    organization_id: Mapped[str | None]
    name: Mapped[str]
    digest: Mapped[str]
    manifest: Mapped[Json]
    size_bytes: Mapped[int]
    texts_digest: Mapped[str]
    """Object with every text of the suite as JSON Lines, for who keeps training data apart from it."""
    runs_code: Mapped[bool]
    """Whether its YAML names Python functions, which the installation must allow."""
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    removed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """A removed suite can't be named by new jobs; results and pinned jobs keep it."""


class EvaluationRow(Base):
    """What one model did in one suite. A run of a job makes at most one for each subject and suite."""

    __tablename__ = "evaluations"

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    run_number: Mapped[int]
    attempt_id: Mapped[str | None]
    subject: Mapped[str]
    """`base`, or `tuned` for what the job's training made."""
    model_name: Mapped[str]
    model_digest: Mapped[str]
    suite: Mapped[str]
    suite_digest: Mapped[str]
    settings: Mapped[Json]
    settings_digest: Mapped[str]
    engine: Mapped[str]
    n: Mapped[int]
    samples_digest: Mapped[str]
    """The Parquet file of per-sample records in the object store."""
    metrics: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    digest: Mapped[str]
    """Over model, suite, settings, samples and figures: equal results, equal digest."""
    seconds: Mapped[float] = mapped_column(Float)
    cached_from: Mapped[str | None]
    """The evaluation that this one repeats, where nothing was computed."""
    created_at: Mapped[CreatedAt]
