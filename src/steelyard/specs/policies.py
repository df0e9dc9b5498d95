"""Who must agree before an alias moves, and when it may not move at all."""

from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, Field, field_validator, model_validator

from steelyard.specs.access import ProjectRole
from steelyard.specs.base import Message, Spec
from steelyard.specs.gates import Gate
from steelyard.specs.promotions import Alias

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class ApprovalPolicy(Spec):
    """What one alias asks of a promotion."""

    approvers: Annotated[int, Field(ge=0, le=10)]
    """How many people must agree."""
    roles: Annotated[list[ProjectRole], Field(min_length=1)] = [ProjectRole.APPROVER, ProjectRole.ADMIN]
    """Roles of which an approver must hold one, now and when the alias moves."""
    allow_self_approval: bool = False
    """Whether who asked, or who trained the model, may approve. The record says so where they did."""
    requires_stage_before: bool = True
    """Whether the version must have gone through the stage before: dev, then staging, then prod."""
    expires_after_seconds: Annotated[int, Field(ge=60, le=90 * 86400)] = 7 * 86400
    """A promotion that nobody decided for so long is over."""


class PolicyView(Message):
    """The policy that holds for an alias, and where it comes from."""

    alias: Alias
    policy: ApprovalPolicy
    """What holds: the stricter of organization and project in every field."""
    organization: ApprovalPolicy
    """The least that every project asks for."""
    project: ApprovalPolicy | None
    updated_by: str | None
    updated_at: datetime | None


_Moment = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))
]


class SpanWindow(Spec):
    """From one moment to another."""

    kind: Literal["span"] = "span"
    starts_at: _Moment
    ends_at: _Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        return self


class WeeklyWindow(Spec):
    """The same hours on some days of every week, on the wall clock of a place."""

    kind: Literal["weekly"] = "weekly"
    days: Annotated[list[Day], Field(min_length=1, max_length=7)]
    """Days on which it begins."""
    starts: time
    """On the wall clock, as `18:00`."""
    ends: time
    """On the wall clock; not after `starts` means on the next day, the same moment a whole day."""
    time_zone: str
    """As `Europe/Berlin`."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone; give one such as Europe/Berlin or UTC") from error
        return name

    @field_validator("starts", "ends")
    @classmethod
    def _has_no_offset(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError("a wall-clock time has no offset; `time_zone` says where")
        return value


Window = Annotated[SpanWindow | WeeklyWindow, Field(discriminator="kind")]


class FreezeRequest(Spec):
    """A time in which aliases are not promoted. A rollback may always be."""

    aliases: Annotated[list[Alias], Field(min_length=1)] = [Alias.PROD]
    window: Window
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class FreezeView(Message):
    """A freeze window."""

    id: str
    scope: Literal["project", "organization"]
    aliases: list[Alias]
    window: Window
    reason: str
    created_by: str
    created_at: datetime
    active: bool
    """Whether it holds at this moment."""
    until: datetime | None
    """When it ends, where it is active."""


class GateRequest(Spec):
    """A gate before an alias."""

    alias: Alias
    gate: Gate


class GateView(Message):
    """A gate before an alias."""

    id: str
    scope: Literal["project", "organization"]
    """An organization's gate holds for all its projects, and none of them loosens it."""
    alias: Alias
    gate: dict[str, Any]
    created_by: str
    created_at: datetime
