"""All tables. One module a noun; every row that belongs to a tenant has `project_id`."""

from steelyard.storage.tables.audit import AuditLeafRow, AuditRow, AuditSealRow
from steelyard.storage.tables.base import Base
from steelyard.storage.tables.datasets import DatasetRow, DatasetVersionRow, IngestRow, UploadRow
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
from steelyard.storage.tables.secrets import SecretRow

__all__ = [
    "AllocationRow",
    "AttemptRow",
    "AuditLeafRow",
    "AuditRow",
    "AuditSealRow",
    "Base",
    "CheckpointRow",
    "DatasetRow",
    "DatasetVersionRow",
    "EventRow",
    "IdempotencyRow",
    "IngestRow",
    "JobRow",
    "ModelRow",
    "ModelVersionRow",
    "NodeRow",
    "OutboxRow",
    "ProjectRow",
    "SecretRow",
    "UploadRow",
]
