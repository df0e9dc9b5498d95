"""Webhooks: where events go, signed as Standard Webhooks says (github.com/standard-webhooks)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from steelyard.specs.base import Message, Spec

EventPattern = Annotated[str, Field(pattern=r"^(\*|[a-z_]+\.(\*|[a-z_]+))$")]
"""`*`, `promotion.*`, or one type such as `promotion.awaiting_approval`."""


class WebhookRequest(Spec):
    """Where events are to be sent, and which."""

    url: Annotated[str, Field(min_length=8, max_length=2000)]
    """`https://...`; an address inside a private network is refused unless the platform's settings allow."""
    events: Annotated[list[EventPattern], Field(min_length=1, max_length=50)] = ["*"]


class WebhookView(Message):
    """A webhook. Its secret is shown once, when it is made."""

    id: str
    url: str
    events: list[str]
    created_by: str
    created_at: datetime
    secret: str | None = None
    """`whsec_...`: the key of the signatures. Only in the answer that made the webhook."""


class DeliveryView(Message):
    """One event on its way to one webhook."""

    id: str
    webhook_id: str
    event_id: int
    type: str
    state: Literal["pending", "delivered", "failed"]
    tries: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    ended_at: datetime | None
    body: dict[str, Any] | None = None
