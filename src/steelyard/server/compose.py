"""Composition: every service is built here, once per process, from the settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import httpx

from steelyard import hpo, rlhf
from steelyard.activities.families import FamilyActivities
from steelyard.activities.ingest import EvaluationTexts, IngestActivities
from steelyard.activities.jobs import JobActivities
from steelyard.activities.watching import Watcher
from steelyard.api.mlflow_owners import MlflowOwners
from steelyard.api.services import Services
from steelyard.compute.hints import QUEUE_CHANNEL
from steelyard.compute.local.executor import LocalExecutor
from steelyard.compute.pool import PoolService
from steelyard.compute.quotas import QuotaService
from steelyard.datasets.catalogue import DatasetVersion
from steelyard.datasets.deletion import DeletionService
from steelyard.datasets.examination import ExaminationService
from steelyard.datasets.files import DatasetFileService, Export
from steelyard.datasets.multipart import MultipartService
from steelyard.datasets.service import DatasetService, uploads_folder
from steelyard.datasets.sweeping import SweepingService
from steelyard.datasets.token_sweeping import TokenSweepingService
from steelyard.datasets.tokenized import TokenizedService
from steelyard.datasets.tokenized_queries import TokenizedQueryService
from steelyard.datasets.tokenizers import TokenizerLocator, refuse_tokenizer
from steelyard.datasets.uploads import UploadService
from steelyard.evals.queries import EvaluationQueryService
from steelyard.evals.samples import SampleReader
from steelyard.evals.suite_folders import SuiteFolderService
from steelyard.evals.suites import SuiteService, texts_of
from steelyard.governance.access import ProjectId
from steelyard.governance.audit.keys import load_signer, load_verifier
from steelyard.governance.audit.notes import Signer
from steelyard.governance.audit.publication import CheckpointFolder, Shelf
from steelyard.governance.audit.queries import AuditQueryService
from steelyard.governance.audit.refusals import RefusalRecorder
from steelyard.governance.audit.sealing import Sealer
from steelyard.governance.authentication import Authenticator
from steelyard.governance.identity import AttemptTokens, SessionTokens
from steelyard.governance.ledger.budgets import BudgetService
from steelyard.governance.ledger.costs import CostService
from steelyard.governance.memberships import MembershipService
from steelyard.governance.organizations import OrganizationService
from steelyard.governance.projects import ProjectService
from steelyard.governance.secrets.service import SecretService
from steelyard.governance.service_accounts import ServiceAccountService
from steelyard.governance.tokens import TokenService
from steelyard.governance.users import UserService
from steelyard.jobs.admission import AdmissionService
from steelyard.jobs.budgets import BudgetKeeper
from steelyard.jobs.checkpoint_sweeping import CheckpointSweepingService
from steelyard.jobs.commands import CommandService
from steelyard.jobs.curves import curves_of
from steelyard.jobs.endings import EndingService
from steelyard.jobs.evaluation import EvaluationService
from steelyard.jobs.events import CHANNEL as EVENTS_CHANNEL
from steelyard.jobs.families import FamilyService, NextStep
from steelyard.jobs.idleness import IdleKeeper
from steelyard.jobs.interruptions import InterruptionService
from steelyard.jobs.launching import LaunchService
from steelyard.jobs.lifecycle import Folders, LifecycleService
from steelyard.jobs.metering import MeteringService
from steelyard.jobs.planning import PlanningService
from steelyard.jobs.preparation import PreparationService
from steelyard.jobs.queries import QueryService
from steelyard.jobs.registration import RegistrationService
from steelyard.jobs.reports import ReportService
from steelyard.jobs.reproduction import ReproductionService
from steelyard.jobs.sources import refuse_folder
from steelyard.jobs.storing import StoringService
from steelyard.jobs.submission import SubmissionService
from steelyard.jobs.supervision import SupervisionService
from steelyard.jobs.tracking import TrackingService
from steelyard.jobs.trials import TrialQueryService
from steelyard.kit.home import admin_token_file
from steelyard.registry.graph import GraphService
from steelyard.registry.mlflow import Mlflow
from steelyard.registry.queries import ModelQueryService
from steelyard.registry.verification import VerificationService
from steelyard.rollouts.approvals import ApprovalService
from steelyard.rollouts.configuration import ConfigurationService
from steelyard.rollouts.events import CHANNEL as MODEL_EVENTS_CHANNEL
from steelyard.rollouts.history import HistoryService
from steelyard.rollouts.requests import PromotionRequestService
from steelyard.rollouts.rollback import RollbackService
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.rollouts.webhooks import WebhookService
from steelyard.runtime.files import write_atomically
from steelyard.server import keys
from steelyard.server.home import (
    DatabaseLogin,
    HomeLayout,
    PlatformAddresses,
    api_login,
    read_platform,
    worker_login,
)
from steelyard.server.login import build_login
from steelyard.server.promotions import PromotionParts, address_policy, build_promotions
from steelyard.server.settings import Settings
from steelyard.specs.datasets import VersionManifest
from steelyard.storage.bucket import bucket_of_environment
from steelyard.storage.bucket_settings import uses_bucket
from steelyard.storage.database import Database
from steelyard.storage.encryption import KeyFile
from steelyard.storage.notifications import Listener
from steelyard.storage.outbox import CHANNEL as OUTBOX_CHANNEL

_MLFLOW_TIMEOUT = httpx.Timeout(30.0, connect=1.0)
_API_POOL = 10
LINEAGE_ORIGIN = "steelyard.internal/lineage"
_WORKER_POOL = 20
FAMILY_STEPS: dict[str, NextStep] = {"hpo": hpo.next_step, "rlhf": rlhf.next_step}
"""Type of a job that is made of others -> what it wants next."""


@dataclass(frozen=True)
class Ground:
    """What every process stands on."""

    settings: Settings
    layout: HomeLayout
    addresses: PlatformAddresses
    database: Database
    listener: Listener
    executor: LocalExecutor
    attempt_tokens: AttemptTokens
    session_tokens: SessionTokens
    mlflow: httpx.AsyncClient
    folders: Folders
    uploads: UploadService
    dataset_files: DatasetFileService
    secrets: SecretService
    webhook_secrets: WebhookSecrets

    async def close(self) -> None:
        """Close connections."""
        await self.mlflow.aclose()
        await self.database.close()


def lay_ground(settings: Settings, process: str, pool_size: int, login: DatabaseLogin) -> Ground:
    """Build what every process needs. Opens no connection yet.

    Raises:
        Unavailable: the platform was never started in this home.
        BucketMisconfigured: the settings of the object store can't be right.
    """
    bucket_of_environment()
    layout = HomeLayout(settings.home)
    addresses = read_platform(settings.home)
    database = Database(login.dsn, pool_size=pool_size, name=f"steelyard-{process}", takes_on=login.takes_on)
    return Ground(
        settings=settings,
        layout=layout,
        addresses=addresses,
        database=database,
        listener=Listener(login.dsn, (OUTBOX_CHANNEL, EVENTS_CHANNEL, MODEL_EVENTS_CHANNEL, QUEUE_CHANNEL)),
        executor=LocalExecutor(addresses.forkserver_socket),
        attempt_tokens=keys.attempt_tokens(layout),
        session_tokens=keys.session_tokens(layout),
        mlflow=httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(addresses.mlflow_socket), retries=0),
            base_url="http://mlflow",
            timeout=_MLFLOW_TIMEOUT,
        ),
        folders=Folders(objects=layout.objects, attempts=layout.attempts),
        uploads=UploadService(database, uploads_folder(layout.objects)),
        dataset_files=DatasetFileService(layout.cache / "datasets", _exporter(layout.objects)),
        secrets=SecretService(database, KeyFile(settings.secret_keys_file or layout.secret_keys)),
        webhook_secrets=keys.webhook_secrets(layout),
    )


def build_api(settings: Settings) -> tuple[Services, Ground]:
    """Build the api's services."""
    login = api_login(settings.home, settings.api_database_dsn, settings.database_dsn)
    ground = lay_ground(settings, "api", _API_POOL, login)
    admin_token = admin_token_file(settings.home).read_text().strip()
    submission = SubmissionService(ground.database)
    examinations = ExaminationService(ground.layout.objects)
    services = Services(
        database=ground.database,
        authenticator=Authenticator(
            admin_token, ground.attempt_tokens, ground.session_tokens, ground.database
        ),
        session_tokens=ground.session_tokens,
        login=build_login(
            settings,
            ground.database,
            keys.login_tickets(ground.layout),
            ground.addresses.api_url,
        ),
        organizations=OrganizationService(ground.database),
        projects=ProjectService(ground.database),
        memberships=MembershipService(ground.database),
        users=UserService(ground.database),
        service_accounts=ServiceAccountService(ground.database),
        tokens=TokenService(ground.database),
        submission=submission,
        commands=CommandService(ground.database),
        queries=QueryService(ground.database),
        trials=TrialQueryService(ground.database),
        reports=ReportService(ground.database, settings.lease_seconds, awaits_bucket=uses_bucket()),
        models=ModelQueryService(ground.database),
        datasets=DatasetService(
            ground.database, ground.uploads, settings.data_sources, model_roots=settings.model_roots
        ),
        deletion=DeletionService(ground.database),
        multipart=MultipartService(ground.database, ground.uploads),
        dataset_files=ground.dataset_files,
        tokenized=TokenizedQueryService(ground.database),
        examinations=examinations,
        uploads=ground.uploads,
        audit=AuditQueryService(ground.database),
        secrets=ground.secrets,
        budgets=BudgetService(ground.database),
        costs=CostService(ground.database),
        promotions=PromotionRequestService(ground.database),
        approvals=ApprovalService(ground.database),
        rollbacks=RollbackService(ground.database),
        history=HistoryService(ground.database),
        configuration=ConfigurationService(ground.database),
        webhooks=WebhookService(ground.database, ground.webhook_secrets, address_policy(settings)),
        evaluations=EvaluationQueryService(ground.database, ground.layout.objects),
        suites=SuiteService(ground.database, ground.layout.objects, allow_code=settings.suites_allow_code),
        pool=PoolService(ground.database),
        quotas=QuotaService(ground.database),
        interruptions=InterruptionService(ground.database),
        refusals=RefusalRecorder(ground.database),
        verification=VerificationService(
            ground.database,
            examinations.verify,
            lambda: load_verifier(ground.layout.lineage_public_key),
            ground.layout.objects,
        ),
        lineage=GraphService(ground.database),
        reproduction=ReproductionService(ground.database, submission, ground.folders),
        listener=ground.listener,
        executor=ground.executor,
        mlflow=ground.mlflow,
        mlflow_owners=MlflowOwners(ground.mlflow),
    )
    return services, ground


@dataclass(frozen=True)
class WorkerParts:
    """What a worker process runs."""

    ground: Ground
    activities: JobActivities
    families: FamilyActivities
    ingest: IngestActivities
    sweeping: SweepingService
    token_sweeping: TokenSweepingService
    checkpoint_sweeping: CheckpointSweepingService
    admission: AdmissionService
    rounds: Database
    """One connection for the scheduler's rounds; closed by whoever runs the worker."""
    budgets: BudgetKeeper
    idleness: IdleKeeper
    promotions: PromotionParts


def build_worker(settings: Settings) -> WorkerParts:
    """Build a worker's services."""
    login = worker_login(settings.home, settings.worker_database_dsn, settings.database_dsn)
    ground = lay_ground(settings, "worker", _WORKER_POOL, login)
    rounds = Database(login.dsn, pool_size=1, name="steelyard-scheduler", takes_on=login.takes_on)
    database, folders = ground.database, ground.folders
    mlflow = Mlflow(ground.mlflow)
    public_url = settings.public_url or ground.addresses.api_url
    tracking = TrackingService(database, folders, mlflow, public_url=public_url)
    endings = EndingService(database, folders)
    launching = LaunchService(
        database,
        folders,
        ground.attempt_tokens,
        ground.secrets,
        ground.addresses.api_url,
        ground.addresses.tls,
        settings.lease_seconds,
    )
    watcher = Watcher(
        ground.executor,
        launching,
        endings,
        SupervisionService(database),
        tracking,
        EvaluationService(database, folders),
        StoringService(database, folders),
        settings.stall_seconds,
    )
    layout = ground.layout
    preparation = PreparationService(
        database,
        ground.dataset_files,
        layout.cache / "models",
        partial(refuse_folder, home=layout.root, roots=settings.model_roots),
        SuiteFolderService(database, layout.objects, layout.cache / "suites"),
        folders,
        TokenizedService(database, layout.cache / "tokenized"),
    )
    registration = RegistrationService(database, folders, mlflow, tracking, load_lineage_signer(layout))
    activities = JobActivities(
        planning=PlanningService(database),
        preparation=preparation,
        lifecycle=LifecycleService(database, folders, ground.executor.name, settings.lease_seconds),
        endings=endings,
        registration=registration,
        tracking=tracking,
        executor=ground.executor,
        watcher=watcher,
    )
    families = FamilyActivities(
        FamilyService(database, FAMILY_STEPS, curves=curves_of), preparation, registration
    )
    work_root = layout.root / "work" / "datasets"
    ingest = IngestActivities(
        DatasetService(database, ground.uploads, settings.data_sources),
        _suite_texts(database, layout.objects),
        layout.objects,
        work_root,
        uploads_folder(layout.objects),
        TokenizerLocator(
            layout.cache / "models", partial(refuse_tokenizer, roots=settings.model_roots)
        ).locate,
    )
    sweeping = SweepingService(
        database,
        layout.objects,
        uploads_folder(layout.objects),
        work_root,
        exports=layout.cache / "datasets",
    )
    token_sweeping = TokenSweepingService(database, layout.cache / "tokenized")
    keeper = BudgetKeeper(database, MeteringService(database, settings.lease_seconds))
    promotions = build_promotions(
        database,
        ground.listener,
        mlflow,
        SampleReader(layout.objects),
        ground.webhook_secrets,
        address_policy(settings),
        layout.objects,
    )
    return WorkerParts(
        ground=ground,
        activities=activities,
        families=families,
        ingest=ingest,
        sweeping=sweeping,
        token_sweeping=token_sweeping,
        checkpoint_sweeping=CheckpointSweepingService(database, folders),
        admission=AdmissionService(database, lease=timedelta(seconds=settings.lease_seconds), rounds=rounds),
        rounds=rounds,
        budgets=keeper,
        idleness=IdleKeeper(database),
        promotions=promotions,
    )


def load_lineage_signer(layout: HomeLayout) -> Signer:
    """Return the key that signs lineage, made at the first start; publish its public half."""
    signer = load_signer(layout.lineage_key, LINEAGE_ORIGIN)
    write_atomically(layout.lineage_public_key, f"{signer.verifier}\n".encode())
    return signer


def build_sealer(ground: Ground) -> Sealer:
    """Build what seals the audit trail. Makes its key at the first start.

    Raises:
        PermissionDenied, Unavailable: the key can't be used.
    """
    shelves: list[Shelf] = [CheckpointFolder(ground.layout.audit_checkpoints)]
    if url := ground.settings.audit_checkpoint_url:
        # Few have one, and the library costs every process its start.
        from steelyard.governance.audit.bucket import CheckpointBucket  # noqa: PLC0415

        shelves.append(CheckpointBucket.from_url(url))
    return Sealer(ground.database, load_signer(ground.layout.audit_key), shelves)


def _suite_texts(database: Database, store_root: Path) -> EvaluationTexts:
    """Return what reads the texts of all suites that a project sees."""

    async def read(project_id: str) -> dict[str, Sequence[str]]:
        found = await texts_of(database, store_root, ProjectId(project_id))
        return {f"{suite.name}@{suite.digest}": suite.texts for suite in found}

    return read


def _exporter(store_root: Path) -> Export:
    """Return what writes the rows of a version, kept in the store below `store_root`, to a file."""

    def export(version: DatasetVersion, split: Literal["train", "validation"], out: Path) -> int:
        # pyarrow costs every process a quarter of a second at its start, and few ever export.
        from steelyard.datasets.export import export_jsonl  # noqa: PLC0415

        return export_jsonl(
            VersionManifest.model_validate(version.manifest), split, out, store_root=store_root
        )

    return export
