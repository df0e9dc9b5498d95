"""Tickets: what must survive a redirect, sealed, so that nothing need be stored and nobody can forge it."""

import base64
import binascii
import json
from typing import Any

from steelyard.governance.identity import SigningKeys
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Unauthenticated
from steelyard.storage.encryption import SealBroken, Sealer


class Tickets:
    """Issues and reads tickets of one kind each, which are good for a while.

    Args:
        keys: each 32 bytes, of this purpose alone.
    """

    def __init__(self, keys: SigningKeys, clock: Clock = utc_now) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, kind: str, content: dict[str, Any], lifetime_seconds: int) -> str:
        """Return a ticket, safe in a URL or a cookie."""
        body = {**content, "expires_at": int(self._clock().timestamp()) + lifetime_seconds}
        sealed = Sealer(self._keys.keys()).seal(json.dumps(body).encode(), _place(kind))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def read(self, kind: str, ticket: str) -> dict[str, Any]:
        """Return the content of a ticket of this kind.

        Raises:
            Unauthenticated: it was forged, is of another kind, or is past its time.
        """
        try:
            sealed = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
            content: dict[str, Any] = json.loads(Sealer(self._keys.keys()).open(sealed, _place(kind)))
        except (SealBroken, ValueError, binascii.Error, IndexError) as error:
            raise Unauthenticated("this sign-in isn't one of ours; begin again") from error
        if int(content["expires_at"]) < self._clock().timestamp():
            raise Unauthenticated("this sign-in took too long; begin again")
        return content


def _place(kind: str) -> bytes:
    return f"login/{kind}".encode()
