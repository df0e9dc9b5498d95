"""Flavors, nodes and quotas; what is granted to jobs, and what the scheduler remembers between rounds."""

from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, Boolean, Float, ForeignKey, Index, Numeric, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Json, Moment, TextKey, Xid8


class FlavorRow(Base):
    """A kind of node: its GPUs, whether it can be taken back at short notice, what a GPU-hour costs."""

    __tablename__ = "flavors"

    name: Mapped[TextKey]
    gpu_type: Mapped[str] = mapped_column(server_default="")
    spot: Mapped[bool] = mapped_column(Boolean, server_default="false")
    price_per_gpu_hour: Mapped[Decimal | None] = mapped_column(Numeric)
    """In the installation's currency; NULL: nobody has priced it, and use of it costs nothing."""
    updated_by: Mapped[str] = mapped_column(server_default="system")
    updated_at: Mapped[CreatedAt]


class PoolSettingsRow(Base):
    """What holds for the whole installation: one row."""

    __tablename__ = "pool_settings"

    only_row: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default="true")
    currency: Mapped[str]
    policy: Mapped[Json]
    """A `specs.pool.PoolPolicy`; what is left out has its default."""
    updated_by: Mapped[str]
    updated_at: Mapped[CreatedAt]


class NodeRow(Base):
    """A machine that can run attempts; its agent says again and again that it is there."""

    __tablename__ = "nodes"

    name: Mapped[TextKey]
    executor: Mapped[str]
    flavor: Mapped[str] = mapped_column(ForeignKey("flavors.name"))
    simulated: Mapped[bool] = mapped_column(Boolean, server_default="false")
    """Its GPUs aren't there: jobs run on its CPUs."""
    cpus: Mapped[int]
    memory_bytes: Mapped[int]
    gpu_ids: Mapped[list[str]] = mapped_column(JSONB)
    last_seen_at: Mapped[Moment]
    agent_started_at: Mapped[Moment | None]
    interruption_deadline: Mapped[Moment | None]
    """When it will be taken away. It gets no new work until it is back."""
    interruption_reason: Mapped[str | None]


class AllocationRow(Base):
    """What a job holds on one node, from its grant until it pauses, is preempted, or ends."""

    __tablename__ = "allocations"
    __table_args__ = (Index("allocations_by_node", "node"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    run_number: Mapped[int]
    cpus: Mapped[int]
    memory_bytes: Mapped[int]
    gpu_ids: Mapped[list[str]] = mapped_column(JSONB)
    granted_at: Mapped[CreatedAt]
    charged_until: Mapped[Moment] = mapped_column(server_default=func.now())
    """Up to when its use is in the project's decayed use."""


class QuotaRow(Base):
    """A project's part of one flavor, in GPUs. No limit where NULL."""

    __tablename__ = "quotas"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    flavor: Mapped[str] = mapped_column(ForeignKey("flavors.name"), primary_key=True)
    nominal: Mapped[int]
    borrowing_limit: Mapped[int | None]
    lending_limit: Mapped[int | None]
    updated_by: Mapped[str]
    updated_at: Mapped[Moment]


class ProjectShareRow(Base):
    """A project's weight in the pool, and its own rule for idle attempts (NULL: the installation's)."""

    __tablename__ = "project_shares"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    weight: Mapped[float] = mapped_column(Float)
    idle: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    updated_by: Mapped[str]
    updated_at: Mapped[Moment]


class ProjectUsageRow(Base):
    """What a project used, halved with every half-life, as of `decayed_to`."""

    __tablename__ = "project_usage"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    gpu_seconds: Mapped[float] = mapped_column(Float)
    cpu_seconds: Mapped[float] = mapped_column(Float)
    decayed_to: Mapped[Moment]


class NominationRow(Base):
    """Nodes that are being emptied for a queued job. A new leader keeps the promise of the one before."""

    __tablename__ = "nominations"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    nodes: Mapped[list[str]] = mapped_column(JSONB)
    since: Mapped[Moment]


class PreemptionRow(Base):
    """That a job had to make way for another, whom it therefore never preempts."""

    __tablename__ = "preemptions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    for_job_id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    reason: Mapped[str]
    at: Mapped[Moment]


class QueueEntryRow(Base):
    """What the scheduler reads of a job; kept by triggers (migration 0019), written by nobody else.

    A job waits where it `wants` a place and holds none.
    """

    __tablename__ = "queue_entries"
    __table_args__ = (
        Index("queue_entries_waiting", "job_id", postgresql_where=text("wants AND places = 0")),
        Index("queue_entries_changed", "changed"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    project_id: Mapped[str]
    wants: Mapped[bool] = mapped_column(Boolean)
    places: Mapped[int] = mapped_column(server_default="0")
    lane: Mapped[str]
    """A JSON list of all that jobs of one lane have in common."""
    moment: Mapped[float] = mapped_column(Float)
    """When it came, in Unix time."""
    way_for: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """The jobs for which it made way."""
    status_reason: Mapped[str | None]
    changed: Mapped[str] = mapped_column(Xid8, server_default=text("pg_current_xact_id()"))
    """The transaction that wrote the row last."""


class AttemptActivityRow(Base):
    """When a running attempt last went on: a step further, or its GPUs at work."""

    __tablename__ = "attempt_activity"

    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    step: Mapped[int]
    step_at: Mapped[Moment]
    busy_at: Mapped[Moment]
    warned_at: Mapped[Moment | None]
