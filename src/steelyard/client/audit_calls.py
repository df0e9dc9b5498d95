"""The calls on the audit trail, built from plain arguments."""

from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.kit.paging import Page
from steelyard.specs.audit import AuditEntry


def search(
    project: str | None, organization: str | None, limit: int, **filters: str | None
) -> Call[Page[AuditEntry]]:
    """Ask for one page of acts, newest first; of the installation where nothing is named."""
    query = [("limit", str(limit)), *((name, value) for name, value in filters.items() if value is not None)]
    scope = ""
    if project is not None:
        scope = f"/projects/{quote(project, safe='')}"
    elif organization is not None:
        scope = f"/organizations/{quote(organization, safe='')}"
    return Call("GET", f"/v1{scope}/audit", Page[AuditEntry].model_validate_json, query=tuple(query))
