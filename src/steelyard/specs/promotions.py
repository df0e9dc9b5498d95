"""Promotion in words that everybody shares: aliases, transitions, promotions, approvals."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from steelyard.specs.base import Message, Spec

MAX_REASON_CHARACTERS = 2000
Reason = Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)]


class Alias(StrEnum):
    """A stage of a model, in the order in which versions go through them."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class PromotionState(StrEnum):
    """Where a promotion is. Every state but the first three is its end."""

    CHECKING = "checking"
    """Files are verified, evidence is gathered, gates are judged."""
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_THAW = "awaiting_thaw"
    """Approved, and held back by a freeze window until that ends."""
    PROMOTED = "promoted"
    GATE_FAILED = "gate_failed"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"
    """What the approvers saw is no longer so."""
    WITHDRAWN = "withdrawn"


OPEN_STATES = frozenset(
    {PromotionState.CHECKING, PromotionState.AWAITING_APPROVAL, PromotionState.AWAITING_THAW}
)


class PromoteRequest(Spec):
    """A wish that an alias point to a version."""

    version: Annotated[int, Field(ge=1)]
    to: Alias
    reason: Reason = ""
    override_freeze: bool = False
    """Move although a freeze window says no; for owners of the organization alone."""


class RollbackRequest(Spec):
    """A wish that an alias go back."""

    alias: Alias
    to: Annotated[int, Field(ge=1)] | None = None
    """A version that the alias pointed to before. Unset: the one before the present one."""
    reason: Reason = ""


class DecisionRequest(Spec):
    """A yes or no to exactly what was read."""

    binding: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    """`binding` of the promotion as it was shown; one that is no longer so is refused."""
    reason: Reason = ""


class AliasView(Message):
    """Which version an alias points to."""

    alias: Alias
    version: int
    sequence: int
    """Goes up by one with every move."""
    moved_at: datetime


class TransitionView(Message):
    """One move of an alias. Rows like this are only ever added."""

    id: str
    model: str
    alias: Alias
    sequence: int
    kind: Literal["promotion", "rollback"]
    from_version: int | None
    to_version: int
    actor: str
    request_id: str | None
    reason: str
    model_digest: str
    evidence: dict[str, str]
    """Digests of the evaluations that spoke for it, by what was evaluated."""
    judgement: dict[str, Any] | None
    """The gates with their numbers, as they stood at the move; None for a rollback."""
    approvals: list[str]
    """Ids of the approvals."""
    promotion_id: str | None
    notes: list[str]
    """What an auditor should know, such as that somebody approved their own request."""
    at: datetime


class DecisionView(Message):
    """What one approver said."""

    id: str
    approver: str
    verdict: Literal["approve", "reject"]
    reason: str
    roles: list[str]
    """Held at that moment."""
    binding: str
    notes: list[str]
    at: datetime


class PromotionSummary(Message):
    """A line of the inbox."""

    id: str
    project: str
    model: str
    version: int
    to: Alias
    state: PromotionState
    message: str
    """A sentence: what it waits for, or how it ended, with the remedy."""
    requested_by: str
    approvals: int
    """Given so far, and still good."""
    required_approvals: int
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class PromotionView(PromotionSummary):
    """A promotion, whole: what an approver reads before deciding."""

    reason: str
    from_version: int | None
    """What the alias pointed to when the gates were judged."""
    model_digest: str | None
    evidence: dict[str, str]
    judgement: dict[str, Any] | None
    binding: str | None
    """Digest of all that an approval is bound to; None until the gates were judged."""
    policy: dict[str, Any] | None
    decisions: list[DecisionView]
    freeze_override_by: str | None
    transition_id: str | None


class RegistryEventView(Message):
    """Something that happened to a model: as an event, and as the body of a webhook."""

    id: int
    created_at: datetime
    level: Literal["info", "warn", "error"]
    type: str
    """`promotion.requested`, `promotion.awaiting_approval`, `alias.moved`, `alias.restored`, ..."""
    model: str
    message: str
    data: dict[str, Any]
