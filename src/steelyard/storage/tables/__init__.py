"""All tables. One module a noun; every row that belongs to a tenant has `project_id`."""

from steelyard.storage.tables.audit import AuditLeafRow, AuditRow, AuditSealRow
from steelyard.storage.tables.base import Base
from steelyard.storage.tables.datasets import DatasetRow, DatasetVersionRow, IngestRow, UploadRow
from steelyard.storage.tables.evaluations import EvaluationRow, SuiteRow
from steelyard.storage.tables.identity import (
    ApiTokenRow,
    GroupMappingRow,
    OrganizationMemberRow,
    OrganizationRow,
    PrincipalGroupRow,
    PrincipalRow,
    ProjectMemberRow,
)
from steelyard.storage.tables.jobs import (
    AttemptRow,
    CheckpointRow,
    EventRow,
    IdempotencyRow,
    JobRow,
    ProjectRow,
)
from steelyard.storage.tables.ledger import (
    AttemptMeterRow,
    BudgetCrossingRow,
    BudgetRow,
    LedgerDayRow,
    LedgerDrawRow,
    LedgerHeadRow,
    LedgerPostingRow,
    LedgerReservationRow,
    LedgerTransactionRow,
    LedgerUsageRow,
)
from steelyard.storage.tables.lineage import LineageStatementRow
from steelyard.storage.tables.outbox import OutboxRow
from steelyard.storage.tables.pool import AllocationRow, NodeRow
from steelyard.storage.tables.promotions import (
    AliasRow,
    ApprovalPolicyRow,
    ApprovalRow,
    DeliveryRow,
    FreezeRow,
    GateRow,
    ModelEventRow,
    PromotionRow,
    TransitionRow,
    WebhookRow,
)
from steelyard.storage.tables.registry import ModelRow, ModelVersionRow
from steelyard.storage.tables.secrets import SecretRow

__all__ = [
    "AliasRow",
    "AllocationRow",
    "ApiTokenRow",
    "ApprovalPolicyRow",
    "ApprovalRow",
    "AttemptMeterRow",
    "AttemptRow",
    "AuditLeafRow",
    "AuditRow",
    "AuditSealRow",
    "Base",
    "BudgetCrossingRow",
    "BudgetRow",
    "CheckpointRow",
    "DatasetRow",
    "DatasetVersionRow",
    "DeliveryRow",
    "EvaluationRow",
    "EventRow",
    "FreezeRow",
    "GateRow",
    "GroupMappingRow",
    "IdempotencyRow",
    "IngestRow",
    "JobRow",
    "LedgerDayRow",
    "LedgerDrawRow",
    "LedgerHeadRow",
    "LedgerPostingRow",
    "LedgerReservationRow",
    "LedgerTransactionRow",
    "LedgerUsageRow",
    "LineageStatementRow",
    "ModelEventRow",
    "ModelRow",
    "ModelVersionRow",
    "NodeRow",
    "OrganizationMemberRow",
    "OrganizationRow",
    "OutboxRow",
    "PrincipalGroupRow",
    "PrincipalRow",
    "ProjectMemberRow",
    "ProjectRow",
    "PromotionRow",
    "SecretRow",
    "SuiteRow",
    "TransitionRow",
    "UploadRow",
    "WebhookRow",
]
