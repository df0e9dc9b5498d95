"""All tables. One module a noun; every row that belongs to a tenant has `project_id`."""

from steelyard.storage.tables.audit import AuditRow
from steelyard.storage.tables.base import Base
from steelyard.storage.tables.datasets import DatasetRow, DatasetVersionRow
from steelyard.storage.tables.jobs import (
    AttemptRow,
    CheckpointRow,
    EventRow,
    IdempotencyRow,
    JobRow,
    ProjectRow,
)
from steelyard.storage.tables.outbox import OutboxRow
from steelyard.storage.tables.pool import AllocationRow, NodeRow
from steelyard.storage.tables.registry import ModelRow, ModelVersionRow

__all__ = [
    "AllocationRow",
    "AttemptRow",
    "AuditRow",
    "Base",
    "CheckpointRow",
    "DatasetRow",
    "DatasetVersionRow",
    "EventRow",
    "IdempotencyRow",
    "JobRow",
    "ModelRow",
    "ModelVersionRow",
    "NodeRow",
    "OutboxRow",
    "ProjectRow",
]
