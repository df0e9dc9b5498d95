"""Signatures of webhooks, as Standard Webhooks 1.0 says. Pure.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md: HMAC-SHA256 over
`id.timestamp.body`, base64, after `v1,`.
"""

import base64
import hashlib
import hmac
from datetime import datetime

_PREFIX = "whsec_"


class WebhookSecrets:
    """The keys of the signatures: one for each webhook, derived, so that none is stored.

    Args:
        key: of this one purpose; whoever has it can sign for every webhook.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def secret_of(self, webhook_id: str) -> str:
        """Return what the receiver keeps: `whsec_` and 32 bytes in base64."""
        return _PREFIX + base64.b64encode(self._bytes_of(webhook_id)).decode()

    def headers(self, webhook_id: str, delivery_id: str, moment: datetime, body: bytes) -> dict[str, str]:
        """Return the three headers that sign a body."""
        timestamp = str(int(moment.timestamp()))
        return {
            "webhook-id": delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(self._bytes_of(webhook_id), delivery_id, timestamp, body),
        }

    def _bytes_of(self, webhook_id: str) -> bytes:
        return hmac.new(self._key, webhook_id.encode(), hashlib.sha256).digest()


def sign(key: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Return `v1,<base64>`."""
    signed = b".".join((delivery_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
