"""The platform, as commands reach it."""

from steelyard.client.errors import NotFound
from steelyard.client.retries import RetryPolicy
from steelyard.client.sync_client import Client
from steelyard.specs.views import ErrorBody

LATEST = "@latest"
RETRY_POLICY = RetryPolicy(max_retries=3)
PERSISTENT_POLICY = RetryPolicy()


def connect(project: str | None = None, *, persistent: bool = False) -> Client:
    """Return a client of the platform that the environment or the home folder names.

    A look at a stopped platform says so within two seconds. A `persistent` client tries for 4 to 8, long
    enough for a killed api to be there again.
    """
    return Client(project=project, retry=PERSISTENT_POLICY if persistent else RETRY_POLICY)


def find_job(client: Client, name: str) -> str:
    """Return the id that a user's word stands for: itself, or the newest job's for `@latest`."""
    if name != LATEST:
        return name
    newest = client.jobs.list(limit=1).data
    if not newest:
        message = f"Project {client.project} has no jobs yet; `steelyard submit FILE` makes the first."
        raise NotFound(404, ErrorBody(type="not_found_error", code="not_found", message=message))
    return newest[0].id
