"""`client.evaluations` and `client.suites`, blocking."""

from pathlib import Path

from steelyard.client import evaluation_calls
from steelyard.client.transport import Transport
from steelyard.kit.paging import DEFAULT_LIMIT, Page
from steelyard.specs.evaluations import EvaluationComparison, EvaluationSummary, EvaluationView, SuiteView


class Evaluations:
    """The evaluations of one project."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def list(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        job: str | None = None,
        suite: str | None = None,
    ) -> Page[EvaluationSummary]:
        """Return a page, newest first."""
        return self._transport.send(evaluation_calls.search(self._project, limit, after, job, suite))

    def get(self, evaluation: str) -> EvaluationView:
        """Return one evaluation, with its figures, settings and digests."""
        return self._transport.send(evaluation_calls.get(self._project, evaluation))

    def samples(self, evaluation: str) -> bytes:
        """Return the per-sample records as the bytes of a Parquet file."""
        return self._transport.send(evaluation_calls.samples(self._project, evaluation))

    def compare(self, a: str, b: str) -> EvaluationComparison:
        """Set two models side by side: evaluation ids, versions `NAME@V`, or job ids (`:base` for a base)."""
        return self._transport.send(evaluation_calls.compare(self._project, a, b))


class Suites:
    """The suites that one project sees."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def search(self) -> list[SuiteView]:
        """Return all versions, by name, newest first."""
        return (self._transport.send(evaluation_calls.suites(self._project))).data

    def add(self, folder: Path, *, name: str | None = None, organization: str | None = None) -> SuiteView:
        """Send a folder of task files and data; the same files under the same name are one version."""
        return self._transport.send(evaluation_calls.add_suite(self._project, folder, name, organization))

    def get(self, name: str, digest: str | None = None) -> SuiteView:
        """Return a version: the newest, or the one of a digest."""
        return self._transport.send(evaluation_calls.get_suite(self._project, name, digest))

    def remove(self, name: str, digest: str | None = None) -> SuiteView:
        """Let no new job name a version; results and pinned jobs keep it."""
        return self._transport.send(evaluation_calls.remove_suite(self._project, name, digest))
