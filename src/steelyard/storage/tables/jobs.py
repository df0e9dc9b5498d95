"""Projects, jobs, attempts, checkpoints, events, and idempotency keys."""

from typing import Any

from sqlalchemy import (
    Boolean,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, BigKey, CreatedAt, Json, Moment, TextKey


class ProjectRow(Base):
    """A tenant. The id is the name that users write."""

    __tablename__ = "projects"
    __table_args__ = (Index("projects_by_organization", "organization_id", "id"),)

    id: Mapped[TextKey]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), server_default="default")
    display_name: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str] = mapped_column(server_default="system")
    created_at: Mapped[CreatedAt]
    archived_at: Mapped[Moment | None]
    """From then on it is only read."""


class JobRow(Base):
    """A job. `state` and what goes with it change by compare-and-set under the row's lock."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_project", "project_id", text("id DESC")),
        Index("jobs_queued", text("priority DESC"), "id", postgresql_where=text("state = 'queued'")),
        Index(
            "jobs_live",
            "project_id",
            "state",
            postgresql_where=text("state NOT IN ('succeeded', 'failed', 'cancelled')"),
        ),
        Index("jobs_by_state", "project_id", "state", text("id DESC")),
        Index("jobs_by_tag", "tags", postgresql_using="gin"),
        Index(
            "jobs_by_parent",
            "parent_id",
            "child_key",
            unique=True,
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
        Index(
            "jobs_without_parent",
            "project_id",
            text("id DESC"),
            postgresql_where=text("parent_id IS NULL"),
        ),
        UniqueConstraint("id", "project_id", name="jobs_of_one_project"),
        ForeignKeyConstraint(
            ["parent_id", "project_id"], ["jobs.id", "jobs.project_id"], name="jobs_parent_fkey"
        ),
    )

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    type: Mapped[str]
    state: Mapped[str]
    status_reason: Mapped[str | None]
    status_message: Mapped[str | None]
    priority: Mapped[int]
    spec: Mapped[Json]
    lineage: Mapped[Json]
    tags: Mapped[Json]
    desired: Mapped[str]
    """What people last asked for: `run`, `pause` or `cancel`."""
    command_sequence: Mapped[int]
    """Goes up by one with each command; the workflow obeys the highest it has seen."""
    run_number: Mapped[int]
    """0 at first; each retry of an ended job is the next run, with a workflow of its own."""
    epoch: Mapped[int]
    """The lease epoch of the newest attempt; reports of any other are refused."""
    stage: Mapped[str]
    attempts_count: Mapped[int]
    """Of a family, which has no attempts: its runs that have begun."""
    retries_used: Mapped[int]
    evictions: Mapped[int]
    running_seconds: Mapped[float] = mapped_column(Float)
    current_attempt_id: Mapped[str | None]
    resume_checkpoint_id: Mapped[str | None]
    """The checkpoint that a person named for a retry, until there is a newer one. Unset: newest good."""
    progress: Mapped[Json]
    metrics: Mapped[Json]
    prepared: Mapped[Json]
    """What preparation found: folders of the base model and data, pinned revision."""
    model_dir: Mapped[str | None]
    mlflow_run_id: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    queued_at: Mapped[Moment | None]
    started_at: Mapped[Moment | None]
    ended_at: Mapped[Moment | None]
    parent_id: Mapped[str | None]
    """The job that this one is a child of: a trial of a search, a stage of a pipeline."""
    child_key: Mapped[str | None]
    """Its name among its parent's children; given once."""
    child_order: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What its parent said when it made it: `parameters`, and whether it `registers` its model."""
    family_end: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Of a parent: how its present run is to end, once that is decided and its children are over."""


class AttemptRow(Base):
    """One launch. Progress lives here, so that a report never touches the job's row."""

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        UniqueConstraint("job_id", "launch_key"),
        Index("attempts_live", "state", postgresql_where=text("state <> 'ended'")),
        Index("attempts_preempted", "job_id", postgresql_where=text("cause = 'preempted'")),
    )

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    number: Mapped[int]
    launch_key: Mapped[str]
    """`<run>:<segment>`: one launch of the workflow makes one attempt, however often it is tried."""
    stage: Mapped[str]
    epoch: Mapped[int]
    state: Mapped[str]
    executor: Mapped[str]
    node: Mapped[str | None]
    pid: Mapped[int | None]
    attempt_dir: Mapped[str]
    resumed_from_step: Mapped[int | None]
    resumed_checkpoint_path: Mapped[str | None]
    first_step: Mapped[int | None]
    last_step: Mapped[int]
    phase: Mapped[str | None]
    total_steps: Mapped[int | None]
    loss: Mapped[float | None] = mapped_column(Float)
    tokens_per_second: Mapped[float | None] = mapped_column(Float)
    eta_seconds: Mapped[float | None] = mapped_column(Float)
    gpu_utilisation: Mapped[float | None] = mapped_column(Float)
    """Mean part of the time in which its GPUs worked lately, 0 to 1; NULL: nobody measures it."""
    stop_reason: Mapped[str | None]
    """Why the platform asked it to leave, where it did."""
    checkpoint_requested: Mapped[bool] = mapped_column(Boolean)
    cause: Mapped[str | None]
    message: Mapped[str | None]
    counted: Mapped[bool] = mapped_column(Boolean)
    gpus: Mapped[int]
    outcome: Mapped[dict[str, object] | None] = mapped_column(JSONB)
    started_at: Mapped[CreatedAt]
    ended_at: Mapped[Moment | None]
    last_report_at: Mapped[Moment | None]
    lease_expires_at: Mapped[Moment | None]


class CheckpointRow(Base):
    """A checkpoint whose manifest was published by an attempt that held the lease."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("job_id", "path"),
        Index("checkpoints_by_job", "job_id", text("epoch DESC"), text("step DESC")),
    )

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt_id: Mapped[str]
    attempt_number: Mapped[int]
    epoch: Mapped[int]
    step: Mapped[int]
    path: Mapped[str]
    manifest_digest: Mapped[str]
    size_bytes: Mapped[int]
    status: Mapped[str]
    created_at: Mapped[CreatedAt]


class EventRow(Base):
    """Something that happened to a job. Ids of one job are in the order of their commits."""

    __tablename__ = "events"
    __table_args__ = (Index("events_by_job", "job_id", "id"),)

    id: Mapped[BigKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[CreatedAt]
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json]


class IdempotencyRow(Base):
    """A key, the digest of the body it came with, and the answer that was given. Lives as long as the job."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    body_digest: Mapped[str]
    job_id: Mapped[str]
    response: Mapped[str]
    created_at: Mapped[CreatedAt]
