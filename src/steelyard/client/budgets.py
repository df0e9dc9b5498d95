"""`client.budgets` and `client.costs`, blocking."""

from collections.abc import Sequence
from datetime import date

from steelyard.client import budget_calls
from steelyard.client.transport import Transport
from steelyard.kit.paging import DEFAULT_LIMIT, Page
from steelyard.specs.budgets import BudgetSpec, BudgetView, CostReport, LedgerEntry, LedgerVerification


class Budgets:
    """What projects may use. Amounts are decimals, exact."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def get(self) -> BudgetView:
        """Return the project's budget, what is spent and reserved, and the forecast."""
        return self._transport.send(budget_calls.get(self._project))

    def put(self, budget: BudgetSpec) -> BudgetView:
        """Set the project's budget, in place of the one it had."""
        return self._transport.send(budget_calls.put(self._project, budget))

    def remove(self) -> None:
        """Let the project use what it will; it is metered all the same."""
        return self._transport.send(budget_calls.remove(self._project))

    def search(self, organization: str) -> list[BudgetView]:
        """Return where each project of an organization stands."""
        return self._transport.send(budget_calls.search(organization)).data


class Costs:
    """What was used, by whom and for what."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def report(
        self,
        group_by: Sequence[str] = (),
        *,
        since: date | None = None,
        until: date | None = None,
        organization: str | None = None,
    ) -> CostReport:
        """Return costs in groups, with a forecast where the days are not over.

        Args:
            group_by: project, user, type, flavor, job, day, or tag:KEY; several make groups of groups.
            since: first day, in UTC; else this month's first.
            until: last day, included; else this month's last.
            organization: all projects of this one, in place of the client's project.
        """
        call = budget_calls.report(self._project, organization, group_by, since, until)
        return self._transport.send(call)

    def ledger(
        self, *, job: str | None = None, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[LedgerEntry]:
        """Return a page of the ledger's transactions with their postings, newest first."""
        return self._transport.send(budget_calls.entries(self._project, job, limit, after))

    def verify(self) -> LedgerVerification:
        """Have the project's ledger added up anew, and compared with all sums that are kept."""
        return self._transport.send(budget_calls.verify(self._project))
