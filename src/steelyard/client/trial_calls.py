"""The calls on trials of a search, built from plain arguments."""

from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.kit.paging import Page
from steelyard.specs.trials import TrialOrder, TrialView


def trials(
    project: str, job: str, limit: int, after: str | None, sort: TrialOrder, curves: bool
) -> Call[Page[TrialView]]:
    """Ask for a page."""
    if not job.strip("."):
        raise ValueError("a search is named by its id, such as job_06dq...")
    more = (("after", after), ("curves", "true" if curves else None))
    query = (("limit", str(limit)), ("sort", sort), *((name, value) for name, value in more if value))
    path = f"/v1/projects/{quote(project, safe='')}/jobs/{quote(job, safe='')}/trials"
    return Call("GET", path, Page[TrialView].model_validate_json, query)
