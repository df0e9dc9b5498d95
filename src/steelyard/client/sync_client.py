"""`steelyard.Client`."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steelyard.client import identity_calls, job_calls, login_calls
from steelyard.client.audit import Audit
from steelyard.client.budgets import Budgets, Costs
from steelyard.client.datasets import Datasets
from steelyard.client.discovery import discover, project_from_environment
from steelyard.client.evaluations import Evaluations, Suites
from steelyard.client.identity import (
    Organizations,
    Projects,
    ServiceAccounts,
    Tokens,
    Users,
)
from steelyard.client.jobs import Jobs
from steelyard.client.lineage import Lineage
from steelyard.client.models import Health
from steelyard.client.pool import Pool, Quotas
from steelyard.client.registry import Approvals, Models
from steelyard.client.retries import RetryPolicy
from steelyard.client.rules import Rules
from steelyard.client.secrets import Secrets
from steelyard.client.transport import Transport
from steelyard.client.trials import Trials
from steelyard.client.webhooks import Webhooks
from steelyard.specs.identity import MeView
from steelyard.specs.login import LoginInformation, SessionGrant


class Client:
    """The platform, from Python.

    With no arguments it finds the platform as the command line does: `STEELYARD_API_URL` and
    `STEELYARD_TOKEN`, or else the platform that `steelyard up` started in `STEELYARD_HOME`. Connections
    are kept between calls; close the client, or use it in a `with`. Threads may share one.

    Example:
        ```python
        with steelyard.Client() as client:
            job = client.jobs.submit("job.yaml")
            done = client.jobs.wait(job.id, on_progress=lambda job: print(job.progress))
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
        self._transport = Transport(discover(api_url, token, home), timeout_seconds, retry or RetryPolicy())
        self.project = project_from_environment(project)
        self.jobs = Jobs(self._transport, self.project)
        self.projects = Projects(self._transport)
        self.organizations = Organizations(self._transport)
        self.users = Users(self._transport)
        self.service_accounts = ServiceAccounts(self._transport)
        self.tokens = Tokens(self._transport)
        self.datasets = Datasets(self._transport, self.project)
        self.audit = Audit(self._transport)
        self.lineage = Lineage(self._transport, self.project)
        self.trials = Trials(self._transport, self.project)
        self.evaluations = Evaluations(self._transport, self.project)
        self.suites = Suites(self._transport, self.project)
        self.secrets = Secrets(self._transport, self.project)
        self.models = Models(self._transport, self.project)
        self.approvals = Approvals(self._transport, self.project)
        self.rules = Rules(self._transport, self.project)
        self.webhooks = Webhooks(self._transport, self.project)
        self.budgets = Budgets(self._transport, self.project)
        self.costs = Costs(self._transport, self.project)
        self.pool = Pool(self._transport)
        self.quotas = Quotas(self._transport, self.project)

    @property
    def api_url(self) -> str:
        """Where the platform is."""
        return self._transport.api_url

    def me(self) -> MeView:
        """Return who one is here, and what one has a part in."""
        return self._transport.send(identity_calls.me())

    def sign_out(self) -> None:
        """End all of one's sessions, in browsers and elsewhere. API tokens stay."""
        return self._transport.send(identity_calls.sign_out())

    def health(self) -> Health:
        """Say whether the platform can take work."""
        return self._transport.send(job_calls.health())

    def schemas(self) -> dict[str, dict[str, Any]]:
        """Return the JSON Schema of each job type."""
        found = self._transport.send(job_calls.schemas()).data
        return {schema.type: schema.json_schema for schema in found}

    def login_information(self) -> LoginInformation:
        """Say whether one can sign in through an identity provider, and which."""
        return self._transport.send(login_calls.information())

    def exchange_login(self, code: str, verifier: str) -> SessionGrant:
        """Exchange the code that a sign-in brought to a local port for a session token."""
        return self._transport.send(login_calls.exchange(code, verifier))

    def session_link(self, to: str = "/mlflow/") -> str:
        """Return a link that signs a browser in for a day; the link itself is good for minutes."""
        return self._transport.send(job_calls.session_link(to)).url

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client(api_url={self.api_url!r}, project={self.project!r})"
