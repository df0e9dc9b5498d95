"""Nodes, and what is granted to jobs on them."""

from sqlalchemy import Boolean, ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Moment, TextKey


class NodeRow(Base):
    """A machine that can run attempts; its agent says again and again that it is there."""

    __tablename__ = "nodes"

    name: Mapped[TextKey]
    executor: Mapped[str]
    flavor: Mapped[str]
    spot: Mapped[bool] = mapped_column(Boolean)
    cpus: Mapped[int]
    memory_bytes: Mapped[int]
    gpu_ids: Mapped[list[str]] = mapped_column(JSONB)
    last_seen_at: Mapped[Moment]


class AllocationRow(Base):
    """What a job holds on one node, from its grant until it pauses, is preempted, or ends."""

    __tablename__ = "allocations"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    run_number: Mapped[int]
    cpus: Mapped[int]
    memory_bytes: Mapped[int]
    gpu_ids: Mapped[list[str]] = mapped_column(JSONB)
    granted_at: Mapped[CreatedAt]
