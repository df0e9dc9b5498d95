"""What the routes call. Composition builds it once per process."""

from dataclasses import dataclass, field

import httpx

from steelyard.api.mlflow_owners import MlflowOwners
from steelyard.compute.executor import Executor
from steelyard.compute.pool import PoolService
from steelyard.compute.quotas import QuotaService
from steelyard.datasets.deletion import DeletionService
from steelyard.datasets.examination import ExaminationService
from steelyard.datasets.files import DatasetFileService
from steelyard.datasets.multipart import MultipartService
from steelyard.datasets.service import DatasetService
from steelyard.datasets.tokenized_queries import TokenizedQueryService
from steelyard.datasets.uploads import UploadService
from steelyard.evals.queries import EvaluationQueryService
from steelyard.evals.suites import SuiteService
from steelyard.governance.audit.queries import AuditQueryService
from steelyard.governance.audit.refusals import RefusalRecorder
from steelyard.governance.authentication import Authenticator
from steelyard.governance.identity import SessionTokens
from steelyard.governance.ledger.budgets import BudgetService
from steelyard.governance.ledger.costs import CostService
from steelyard.governance.memberships import MembershipService
from steelyard.governance.oidc.login import LoginService
from steelyard.governance.organizations import OrganizationService
from steelyard.governance.projects import ProjectService
from steelyard.governance.secrets.service import SecretService
from steelyard.governance.service_accounts import ServiceAccountService
from steelyard.governance.tokens import TokenService
from steelyard.governance.users import UserService
from steelyard.jobs.commands import CommandService
from steelyard.jobs.interruptions import InterruptionService
from steelyard.jobs.queries import QueryService
from steelyard.jobs.reports import ReportService
from steelyard.jobs.reproduction import ReproductionService
from steelyard.jobs.submission import SubmissionService
from steelyard.jobs.trials import TrialQueryService
from steelyard.registry.graph import GraphService
from steelyard.registry.queries import ModelQueryService
from steelyard.registry.verification import VerificationService
from steelyard.rollouts.approvals import ApprovalService
from steelyard.rollouts.configuration import ConfigurationService
from steelyard.rollouts.history import HistoryService
from steelyard.rollouts.requests import PromotionRequestService
from steelyard.rollouts.rollback import RollbackService
from steelyard.rollouts.webhooks import WebhookService
from steelyard.storage.database import Database
from steelyard.storage.notifications import Listener


@dataclass(frozen=True)
class Services:
    """One object per service; all are safe to use from many requests at once."""

    database: Database
    authenticator: Authenticator
    session_tokens: SessionTokens
    login: LoginService | None
    """None where no identity provider is configured."""
    organizations: OrganizationService
    projects: ProjectService
    memberships: MembershipService
    users: UserService
    service_accounts: ServiceAccountService
    tokens: TokenService
    submission: SubmissionService
    commands: CommandService
    queries: QueryService
    trials: TrialQueryService
    reports: ReportService
    models: ModelQueryService
    datasets: DatasetService
    dataset_files: DatasetFileService
    tokenized: TokenizedQueryService
    examinations: ExaminationService
    uploads: UploadService
    deletion: DeletionService
    multipart: MultipartService
    audit: AuditQueryService
    secrets: SecretService
    budgets: BudgetService
    costs: CostService
    evaluations: EvaluationQueryService
    suites: SuiteService
    verification: VerificationService
    lineage: GraphService
    reproduction: ReproductionService
    promotions: PromotionRequestService
    approvals: ApprovalService
    rollbacks: RollbackService
    history: HistoryService
    configuration: ConfigurationService
    webhooks: WebhookService
    pool: PoolService
    quotas: QuotaService
    interruptions: InterruptionService
    refusals: RefusalRecorder
    listener: Listener
    executor: Executor
    mlflow: httpx.AsyncClient
    """Speaks to the MLflow server, wherever that listens."""
    mlflow_owners: MlflowOwners
    max_requests_in_flight: int = field(default=256)
