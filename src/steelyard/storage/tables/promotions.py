"""Aliases and their moves, promotions and approvals, and the rules that hold for them.

`model_transitions` and `approvals` refuse change, and an alias moves with a transition alone: migration 0010.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, ForeignKey, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, BigKey, CreatedAt, Json, Moment, TextKey


class GateRow(Base):
    """A gate before an alias: of a project, or of an organization and all its projects."""

    __tablename__ = "promotion_gates"

    id: Mapped[TextKey]
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    organization_id: Mapped[str | None]
    alias: Mapped[str]
    gate: Mapped[Json]
    digest: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class ApprovalPolicyRow(Base):
    """Who must agree before an alias moves."""

    __tablename__ = "approval_policies"

    id: Mapped[TextKey]
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    organization_id: Mapped[str | None]
    alias: Mapped[str]
    policy: Mapped[Json]
    updated_by: Mapped[str]
    updated_at: Mapped[Moment]


class FreezeRow(Base):
    """A time in which aliases are not promoted."""

    __tablename__ = "freeze_windows"

    id: Mapped[TextKey]
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    organization_id: Mapped[str | None]
    aliases: Mapped[list[str]] = mapped_column(JSONB)
    window_spec: Mapped[Json]
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class PromotionRow(Base):
    """A wish that an alias point to a version, and how it stands. Changes under its row lock."""

    __tablename__ = "promotions"

    id: Mapped[TextKey]
    project_id: Mapped[str]
    model: Mapped[str]
    version: Mapped[int]
    alias: Mapped[str]
    state: Mapped[str]
    message: Mapped[str]
    reason: Mapped[str]
    requested_by: Mapped[str]
    request_id: Mapped[str | None]
    request_key: Mapped[str | None]
    """Idempotency key of the request that made it."""
    request_digest: Mapped[str]
    freeze_override_by: Mapped[str | None]
    from_version: Mapped[int | None]
    alias_sequence: Mapped[int | None]
    """Of the alias when the gates were judged; 0 where it pointed nowhere."""
    model_digest: Mapped[str | None]
    evidence: Mapped[Json]
    judgement: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    bound: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """All that approvals are bound to; `binding` is its digest."""
    binding: Mapped[str | None]
    policy: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    required_approvals: Mapped[int]
    expires_at: Mapped[Moment | None]
    wake_at: Mapped[Moment | None]
    transition_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[Moment]


class ApprovalRow(Base):
    """What one approver said to one promotion. Never changed."""

    __tablename__ = "approvals"

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    promotion_id: Mapped[str] = mapped_column(ForeignKey("promotions.id"))
    approver: Mapped[str]
    verdict: Mapped[str]
    binding: Mapped[str]
    reason: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(JSONB)
    notes: Mapped[list[str]] = mapped_column(JSONB)
    request_id: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("clock_timestamp()"))


class TransitionRow(Base):
    """One move of an alias. Never changed; its moment and transaction are the database's to set."""

    __tablename__ = "model_transitions"

    id: Mapped[TextKey]
    project_id: Mapped[str]
    model: Mapped[str]
    alias: Mapped[str]
    sequence: Mapped[int]
    kind: Mapped[str]
    from_version: Mapped[int | None]
    to_version: Mapped[int]
    actor: Mapped[str]
    request_id: Mapped[str | None]
    request_key: Mapped[str | None]
    reason: Mapped[str]
    model_digest: Mapped[str]
    evidence: Mapped[Json]
    judgement: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    approvals: Mapped[list[str]] = mapped_column(JSONB)
    promotion_id: Mapped[str | None]
    notes: Mapped[list[str]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("clock_timestamp()"))


class AliasRow(Base):
    """Where an alias points. The truth; MLflow mirrors it."""

    __tablename__ = "model_aliases"

    project_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    sequence: Mapped[int]
    moved_at: Mapped[Moment]


class ModelEventRow(Base):
    """Something that happened to a model."""

    __tablename__ = "model_events"

    id: Mapped[BigKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    model: Mapped[str]
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json]
    created_at: Mapped[CreatedAt]


class WebhookRow(Base):
    """Where a project's events go. The key of its signatures is derived, not stored."""

    __tablename__ = "webhooks"

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(JSONB)
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class DeliveryRow(Base):
    """One event on its way to one webhook."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[TextKey]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    event_id: Mapped[int]
    type: Mapped[str]
    body: Mapped[Json]
    state: Mapped[str]
    tries: Mapped[int]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[Moment | None]
