"""Answers that only the SDK knows; all others are in `steelyard.specs.views`."""

from typing import Any

from pydantic import Field

from steelyard.specs.base import Message


class CancelResult(Message):
    """What became of one job in a bulk cancel."""

    id: str
    accepted: bool
    message: str | None = None


class CancelResults(Message):
    """The answer to a bulk cancel."""

    data: list[CancelResult]


class Health(Message):
    """Whether the platform can take work, and if not, which part is missing."""

    status: str
    checks: dict[str, Any] = {}

    @property
    def ready(self) -> bool:
        """Whether all that the api needs is there."""
        return self.status == "ok"


class JobSchema(Message):
    """The JSON Schema of one job type."""

    type: str
    json_schema: dict[str, Any] = Field(alias="schema")


class JobSchemas(Message):
    """The JSON Schemas of all job types."""

    data: list[JobSchema]


class SessionLink(Message):
    """Where a browser signs in."""

    url: str
    expires_in_seconds: int
