"""The control plane of one test: services over the test's own database, and a real api server in front."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import uvicorn
from tests.databases import api_dsn, worker_dsn

from steelyard.api.app import create_app
from steelyard.api.mlflow_owners import MlflowOwners
from steelyard.api.services import Services
from steelyard.compute.hints import QUEUE_CHANNEL
from steelyard.compute.local.executor import LocalExecutor
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
from steelyard.governance.audit.keys import load_verifier
from steelyard.governance.audit.queries import AuditQueryService
from steelyard.governance.audit.refusals import RefusalRecorder
from steelyard.governance.authentication import Authenticator
from steelyard.governance.identity import Actor, AttemptTokens, FixedKey, SessionTokens
from steelyard.governance.ledger.budgets import BudgetService
from steelyard.governance.ledger.costs import CostService
from steelyard.governance.memberships import MembershipService
from steelyard.governance.oidc.login import LoginService
from steelyard.governance.oidc.tickets import Tickets
from steelyard.governance.organizations import OrganizationService
from steelyard.governance.projects import ProjectService
from steelyard.governance.secrets.service import SecretService
from steelyard.governance.service_accounts import ServiceAccountService
from steelyard.governance.tokens import TokenService
from steelyard.governance.users import UserService
from steelyard.jobs.admission import AdmissionService
from steelyard.jobs.commands import CommandService
from steelyard.jobs.endings import EndingService
from steelyard.jobs.events import CHANNEL as EVENTS_CHANNEL
from steelyard.jobs.interruptions import InterruptionService
from steelyard.jobs.launching import LaunchService
from steelyard.jobs.lifecycle import Folders, LifecycleService
from steelyard.jobs.queries import QueryService
from steelyard.jobs.reports import ReportService
from steelyard.jobs.reproduction import ReproductionService
from steelyard.jobs.submission import SubmissionService
from steelyard.jobs.trials import TrialQueryService
from steelyard.kit.clock import Clock, utc_now
from steelyard.registry.graph import GraphService
from steelyard.registry.queries import ModelQueryService
from steelyard.registry.verification import VerificationService
from steelyard.rollouts.addresses import AddressPolicy
from steelyard.rollouts.approvals import ApprovalService
from steelyard.rollouts.configuration import ConfigurationService
from steelyard.rollouts.events import CHANNEL as MODEL_EVENTS_CHANNEL
from steelyard.rollouts.history import HistoryService
from steelyard.rollouts.requests import PromotionRequestService
from steelyard.rollouts.rollback import RollbackService
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.rollouts.webhooks import WebhookService
from steelyard.server.login import build_login
from steelyard.server.settings import Settings
from steelyard.specs.states import JobState
from steelyard.storage.bucket_settings import uses_bucket
from steelyard.storage.database import Database
from steelyard.storage.encryption import KeyFile, write_keys
from steelyard.storage.notifications import Listener
from steelyard.storage.outbox import CHANNEL as OUTBOX_CHANNEL

ADMIN_TOKEN = "sy_the-admin-of-a-test"
ADMIN = Actor(kind="user", id="admin")
LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class ControlPlane:
    """Services of api and worker, and the address of a real api."""

    url: str
    database: Database
    """As its owner, who may prepare what a test needs."""
    workers: Database
    """As workers log in to it."""
    services: Services
    lifecycle: LifecycleService
    endings: EndingService
    launching: LaunchService
    admission: AdmissionService
    secrets: SecretService
    """The worker's: it sees all projects, which the api's doesn't."""
    datasets: DatasetService
    """The worker's."""
    folders: Folders

    def http(self) -> httpx.AsyncClient:
        """Return a client that is the administrator."""
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})

    async def admit(self, job_id: str) -> None:
        """Bring a submitted job through the queue, as workflow and scheduler would."""
        await self.admission.report_node("node-1", "local", 8, 64 << 30, (), "cpu")
        await self.lifecycle.move(job_id, 0, JobState.QUEUED, None, "waiting for a place")
        assert await self.admission.run_round() == 1


def _login(issuer: str | None, database: Database, url: str, folder: Path) -> LoginService | None:
    secret = folder / "client.secret"
    secret.write_text("its-secret")
    settings = Settings(oidc_issuer=issuer, oidc_client_id="steelyard", oidc_client_secret_file=secret)
    return build_login(settings, database, Tickets(FixedKey(b"t" * 32)), url)


@contextlib.asynccontextmanager
async def serve(
    database: Database, dsn: str, folder: Path, clock: Clock = utc_now, issuer: str | None = None
) -> AsyncGenerator[ControlPlane]:
    """Serve the api of a control plane on a free port, behind row-level security by the real one's login.

    `clock` is what jobs and their cost go by.
    """
    walled = Database(api_dsn(dsn), name="api")
    workers = Database(worker_dsn(dsn), pool_size=20, pool_timeout_seconds=60, name="worker")
    tokens, sessions = AttemptTokens(FixedKey(b"a" * 32)), SessionTokens(FixedKey(b"s" * 32))
    folders = Folders(objects=folder / "objects", attempts=folder / "attempts")
    uploads = UploadService(walled, folder / "uploads")
    submission, examinations = SubmissionService(walled, clock), ExaminationService(folders.objects)
    write_keys(folder / "secrets.keys", {"k1": b"k" * 32})
    secret_keys = KeyFile(folder / "secrets.keys")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        channels = (OUTBOX_CHANNEL, EVENTS_CHANNEL, MODEL_EVENTS_CHANNEL, QUEUE_CHANNEL)
        listener = Listener(api_dsn(dsn), channels)
        async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as mlflow:
            services = Services(
                database=walled,
                authenticator=Authenticator(ADMIN_TOKEN, tokens, sessions, walled),
                session_tokens=sessions,
                login=_login(issuer, walled, url, folder),
                organizations=OrganizationService(walled),
                projects=ProjectService(walled),
                memberships=MembershipService(walled),
                users=UserService(walled),
                service_accounts=ServiceAccountService(walled),
                tokens=TokenService(walled),
                submission=submission,
                commands=CommandService(walled, clock),
                queries=QueryService(walled, clock),
                trials=TrialQueryService(walled),
                reports=ReportService(walled, LEASE_SECONDS, clock, awaits_bucket=uses_bucket()),
                models=ModelQueryService(walled),
                datasets=DatasetService(walled, uploads),
                dataset_files=DatasetFileService(folder / "cache", lambda _version, _split, _out: 0),
                tokenized=TokenizedQueryService(walled),
                examinations=examinations,
                uploads=uploads,
                deletion=DeletionService(walled),
                multipart=MultipartService(walled, uploads, part_bytes=1 << 16),
                audit=AuditQueryService(walled),
                promotions=PromotionRequestService(walled),
                approvals=ApprovalService(walled),
                rollbacks=RollbackService(walled),
                history=HistoryService(walled),
                configuration=ConfigurationService(walled),
                webhooks=WebhookService(walled, WebhookSecrets(b"w" * 32), AddressPolicy()),
                refusals=RefusalRecorder(walled),
                budgets=BudgetService(walled, clock),
                costs=CostService(walled, clock),
                secrets=SecretService(walled, secret_keys),
                evaluations=EvaluationQueryService(walled, folders.objects),
                suites=SuiteService(walled, folders.objects),
                verification=VerificationService(
                    walled, examinations.verify, lambda: load_verifier(folder / "lineage.pub")
                ),
                lineage=GraphService(walled),
                reproduction=ReproductionService(walled, submission, folders),
                listener=listener,
                pool=PoolService(walled, clock),
                quotas=QuotaService(walled, clock),
                interruptions=InterruptionService(walled, clock),
                executor=LocalExecutor(),
                mlflow=mlflow,
                mlflow_owners=MlflowOwners(mlflow),
            )
            server = uvicorn.Server(
                uvicorn.Config(
                    create_app(services, "0"), log_config=None, access_log=False, timeout_keep_alive=75
                )
            )
            tasks = [
                asyncio.create_task(server.serve(sockets=[listening])),
                asyncio.create_task(listener.run()),
            ]
            while not server.started:
                await asyncio.sleep(0.01)
            yield ControlPlane(
                url=url,
                database=database,
                services=services,
                workers=workers,
                lifecycle=LifecycleService(workers, folders, "local", LEASE_SECONDS, clock),
                endings=EndingService(workers, folders, clock),
                launching=LaunchService(
                    workers, folders, tokens, SecretService(workers, secret_keys), url, None, LEASE_SECONDS
                ),
                secrets=SecretService(workers, secret_keys),
                datasets=DatasetService(workers, UploadService(workers, folder / "uploads")),
                admission=AdmissionService(workers, clock, timedelta(seconds=LEASE_SECONDS)),
                folders=folders,
            )
            server.should_exit = True
            await tasks[0]
            await services.refusals.close()
            await services.authenticator.close()
            await walled.close()
            await workers.close()
            tasks[1].cancel()
            await asyncio.gather(tasks[1], return_exceptions=True)
