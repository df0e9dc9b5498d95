"""The calls on webhooks, built from plain arguments."""

import json
from collections.abc import Sequence
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.kit.paging import Page
from steelyard.specs.views import ListView
from steelyard.specs.webhooks import DeliveryView, WebhookView


def search(project: str) -> Call[ListView[WebhookView]]:
    """Ask for the webhooks."""
    return Call("GET", _path(project), ListView[WebhookView].model_validate_json)


def add(project: str, url: str, events: Sequence[str]) -> Call[WebhookView]:
    """Send events to an address."""
    content = json.dumps({"url": url, "events": list(events)}).encode()
    return Call("POST", _path(project), WebhookView.model_validate_json, content=content)


def remove(project: str, webhook: str) -> Call[None]:
    """Send nothing more there."""
    return Call("DELETE", _path(project, webhook), _nothing)


def deliveries(project: str, webhook: str, limit: int, after: str | None) -> Call[Page[DeliveryView]]:
    """Ask what became of deliveries."""
    query = (("limit", str(limit)), *((("after", after),) if after else ()))
    path = f"{_path(project, webhook)}/deliveries"
    return Call("GET", path, Page[DeliveryView].model_validate_json, query=query)


def _path(project: str, webhook: str | None = None) -> str:
    base = f"/v1/projects/{quote(project, safe='')}/webhooks"
    return base if webhook is None else f"{base}/{quote(webhook, safe='')}"


def _nothing(_content: bytes) -> None:
    return None
