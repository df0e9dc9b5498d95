"""`client.webhooks`, blocking."""

from collections.abc import Sequence

from steelyard.client import webhook_calls
from steelyard.client.transport import Transport
from steelyard.kit.paging import DEFAULT_LIMIT, Page
from steelyard.specs.webhooks import DeliveryView, WebhookView


class Webhooks:
    """Where one project's events are sent."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def search(self) -> list[WebhookView]:
        """Return the webhooks, without their secrets."""
        return (self._transport.send(webhook_calls.search(self._project))).data

    def add(self, url: str, events: Sequence[str] = ("*",)) -> WebhookView:
        """Send events to an address. The answer holds the secret of the signatures, this once."""
        return self._transport.send(webhook_calls.add(self._project, url, events))

    def remove(self, webhook: str) -> None:
        """Send nothing more there."""
        return self._transport.send(webhook_calls.remove(self._project, webhook))

    def deliveries(
        self, webhook: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[DeliveryView]:
        """Return what was sent to a webhook, newest first."""
        return self._transport.send(webhook_calls.deliveries(self._project, webhook, limit, after))
