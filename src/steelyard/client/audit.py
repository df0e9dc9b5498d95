"""`client.audit`, blocking."""

from steelyard.client import audit_calls
from steelyard.client.transport import Transport
from steelyard.kit.paging import DEFAULT_LIMIT, Page
from steelyard.specs.audit import AuditEntry


class Audit:
    """The record of who did what. It is checked on the server's machine, by `steelyard audit verify`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(
        self,
        *,
        project: str | None = None,
        organization: str | None = None,
        actor: str | None = None,
        object: str | None = None,  # noqa: A002 - the word of the API
        verb: str | None = None,
        outcome: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[AuditEntry]:
        """Return one page of acts, newest first; `page.next` goes into `after`.

        Args:
            project: whose acts; None for those of all projects.
            organization: with no project, whose projects' acts; None for all of the installation.
            actor: by whom: `user:ada`, or `ada`.
            object: id of the thing.
            verb: `job.cancel`, or `job.*` for all that begin so.
            outcome: `accepted` or `refused`.
            since: from this moment on, as `2026-01-31T12:00:00Z`.
            until: before this moment.
            limit: how many at most.
            after: `next` of the page before.
        """
        call = audit_calls.search(
            project, organization, limit, actor=actor, object=object, verb=verb, outcome=outcome, since=since,
            until=until, after=after,
        )  # fmt: skip
        return self._transport.send(call)
