"""`steelyard.AsyncClient`."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steelyard.client import identity_calls, job_calls, login_calls
from steelyard.client.async_audit import AsyncAudit
from steelyard.client.async_budgets import AsyncBudgets, AsyncCosts
from steelyard.client.async_datasets import AsyncDatasets
from steelyard.client.async_evaluations import AsyncEvaluations, AsyncSuites
from steelyard.client.async_identity import (
    AsyncOrganizations,
    AsyncProjects,
    AsyncServiceAccounts,
    AsyncTokens,
    AsyncUsers,
)
from steelyard.client.async_jobs import AsyncJobs
from steelyard.client.async_lineage import AsyncLineage
from steelyard.client.async_pool import AsyncPool, AsyncQuotas
from steelyard.client.async_registry import AsyncApprovals, AsyncModels
from steelyard.client.async_rules import AsyncRules
from steelyard.client.async_secrets import AsyncSecrets
from steelyard.client.async_transport import AsyncTransport
from steelyard.client.async_trials import AsyncTrials
from steelyard.client.async_webhooks import AsyncWebhooks
from steelyard.client.discovery import discover, project_from_environment
from steelyard.client.models import Health
from steelyard.client.retries import RetryPolicy
from steelyard.specs.identity import MeView
from steelyard.specs.login import LoginInformation, SessionGrant


class AsyncClient:
    """The platform, from Python with asyncio. The same methods as `Client`, awaited.

    With no arguments it finds the platform as the command line does: `STEELYARD_API_URL` and
    `STEELYARD_TOKEN`, or else the platform that `steelyard up` started in `STEELYARD_HOME`. Connections
    are kept between calls; close the client, or use it in a `async with`. Belongs to one event loop.

    Example:
        ```python
        async with steelyard.AsyncClient() as client:
            job = await client.jobs.submit("job.yaml")
            done = await client.jobs.wait(job.id, on_progress=lambda job: print(job.progress))
        ```
    """

    def __init__(
        self,
        *,
        api_url: str | None = None,
        token: str | None = None,
        project: str | None = None,
        home: Path | None = None,
        timeout_seconds: float = 30.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Find the platform; nothing is sent yet.

        Args:
            api_url: its address; else from the environment or the home folder.
            token: the bearer token; else likewise.
            project: whose jobs are meant; else `STEELYARD_PROJECT`, else `default`.
            home: the folder of a platform on this machine; goes before `STEELYARD_API_URL`.
            timeout_seconds: how long one try may take.
            retry: bounds of the retries of each call.

        Raises:
            ConnectionFailed: no address is known.
            CredentialsUnreadable: the local token can't be read.
        """
        self._transport = AsyncTransport(
            discover(api_url, token, home), timeout_seconds, retry or RetryPolicy()
        )
        self.project = project_from_environment(project)
        self.jobs = AsyncJobs(self._transport, self.project)
        self.projects = AsyncProjects(self._transport)
        self.organizations = AsyncOrganizations(self._transport)
        self.users = AsyncUsers(self._transport)
        self.service_accounts = AsyncServiceAccounts(self._transport)
        self.tokens = AsyncTokens(self._transport)
        self.datasets = AsyncDatasets(self._transport, self.project)
        self.audit = AsyncAudit(self._transport)
        self.lineage = AsyncLineage(self._transport, self.project)
        self.trials = AsyncTrials(self._transport, self.project)
        self.evaluations = AsyncEvaluations(self._transport, self.project)
        self.suites = AsyncSuites(self._transport, self.project)
        self.secrets = AsyncSecrets(self._transport, self.project)
        self.models = AsyncModels(self._transport, self.project)
        self.approvals = AsyncApprovals(self._transport, self.project)
        self.rules = AsyncRules(self._transport, self.project)
        self.webhooks = AsyncWebhooks(self._transport, self.project)
        self.budgets = AsyncBudgets(self._transport, self.project)
        self.costs = AsyncCosts(self._transport, self.project)
        self.pool = AsyncPool(self._transport)
        self.quotas = AsyncQuotas(self._transport, self.project)

    @property
    def api_url(self) -> str:
        """Where the platform is."""
        return self._transport.api_url

    async def me(self) -> MeView:
        """Return who one is here, and what one has a part in."""
        return await self._transport.send(identity_calls.me())

    async def sign_out(self) -> None:
        """End all of one's sessions, in browsers and elsewhere. API tokens stay."""
        return await self._transport.send(identity_calls.sign_out())

    async def health(self) -> Health:
        """Say whether the platform can take work."""
        return await self._transport.send(job_calls.health())

    async def schemas(self) -> dict[str, dict[str, Any]]:
        """Return the JSON Schema of each job type."""
        found = (await self._transport.send(job_calls.schemas())).data
        return {schema.type: schema.json_schema for schema in found}

    async def login_information(self) -> LoginInformation:
        """Say whether one can sign in through an identity provider, and which."""
        return await self._transport.send(login_calls.information())

    async def exchange_login(self, code: str, verifier: str) -> SessionGrant:
        """Exchange the code that a sign-in brought to a local port for a session token."""
        return await self._transport.send(login_calls.exchange(code, verifier))

    async def session_link(self, to: str = "/mlflow/") -> str:
        """Return a link that signs a browser in for a day; the link itself is good for minutes."""
        return (await self._transport.send(job_calls.session_link(to))).url

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient(api_url={self.api_url!r}, project={self.project!r})"
