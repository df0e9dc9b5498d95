"""What the API answers about the audit trail."""

from datetime import datetime
from typing import Any

from steelyard.specs.base import Message


class AuditEntry(Message):
    """One act on record."""

    id: int
    at: datetime
    actor: str
    """Kind and id, as `user:ada`."""
    verb: str
    """Kind of thing and what was done to it, as `job.cancel`."""
    object_kind: str
    object_id: str
    project_id: str | None
    """None for what belongs to no project."""
    request_id: str | None
    source: str | None
    """Address that the request came from."""
    before_digest: str | None
    after_digest: str | None
    outcome: str
    """`accepted` or `refused`."""
    detail: dict[str, Any]
    position: int | None
    """Place in the sealed trail; None while the row waits to be sealed."""
