"""The calls on budgets and costs, built from plain arguments."""

from collections.abc import Sequence
from datetime import date
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.kit.paging import Page
from steelyard.specs.budgets import BudgetSpec, BudgetView, CostReport, LedgerEntry, LedgerVerification
from steelyard.specs.views import ListView


def get(project: str) -> Call[BudgetView]:
    """Ask where a project stands."""
    return Call("GET", f"{_project(project)}/budget", BudgetView.model_validate_json)


def put(project: str, budget: BudgetSpec) -> Call[BudgetView]:
    """Set a budget; sending it twice sets it once."""
    content = budget.model_dump_json(exclude_none=True).encode()
    return Call("PUT", f"{_project(project)}/budget", BudgetView.model_validate_json, content=content)


def remove(project: str) -> Call[None]:
    """Remove a budget."""
    return Call("DELETE", f"{_project(project)}/budget", _nothing)


def search(organization: str) -> Call[ListView[BudgetView]]:
    """Ask where all projects of an organization stand."""
    return Call("GET", f"{_organization(organization)}/budgets", ListView[BudgetView].model_validate_json)


def report(
    project: str,
    organization: str | None,
    group_by: Sequence[str],
    since: date | None,
    until: date | None,
) -> Call[CostReport]:
    """Ask for costs: an organization's where one is named, else the project's."""
    query = [("group_by", word) for word in group_by]
    query += [(name, day.isoformat()) for name, day in (("since", since), ("until", until)) if day]
    scope = _project(project) if organization is None else _organization(organization)
    return Call("GET", f"{scope}/costs", CostReport.model_validate_json, query=tuple(query))


def entries(project: str, job: str | None, limit: int, after: str | None) -> Call[Page[LedgerEntry]]:
    """Ask for transactions of the ledger."""
    query = [("limit", str(limit))]
    query += [(name, value) for name, value in (("job", job), ("after", after)) if value is not None]
    return Call("GET", f"{_project(project)}/ledger", Page[LedgerEntry].model_validate_json, tuple(query))


def verify(project: str) -> Call[LedgerVerification]:
    """Ask whether the ledger balances."""
    path = f"{_project(project)}/ledger/verification"
    return Call("GET", path, LedgerVerification.model_validate_json)


def _project(project: str) -> str:
    return f"/v1/projects/{quote(project, safe='')}"


def _organization(organization: str) -> str:
    return f"/v1/organizations/{quote(organization, safe='')}"


def _nothing(_content: bytes) -> None:
    return None
