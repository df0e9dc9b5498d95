"""Sending one event to one webhook: resolved, checked, signed, sent to the address that was checked."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest, Unavailable
from steelyard.rollouts.addresses import AddressPolicy, Target, read_target, refuse_addresses
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.storage.database import Database
from steelyard.storage.tables import DeliveryRow, WebhookRow

MAX_TRIES = 12
"""With doubling pauses from 5 seconds: the last try is some three hours after the first."""
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_ERROR_CHARACTERS = 300
Resolve = Callable[[Target], Awaitable[list[str]]]


@dataclass(frozen=True)
class _Order:
    """What is to be sent, read from the database."""

    webhook_id: str
    url: str
    body: dict[str, Any]
    tries: int


class WebhookSender:
    """Sends deliveries. One that is sent twice, because we died in between, has the same `webhook-id`."""

    def __init__(
        self,
        database: Database,
        secrets: WebhookSecrets,
        policy: AddressPolicy,
        client: httpx.AsyncClient,
        resolve: Resolve | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._policy = policy
        self._client = client
        self._resolve = resolve or _resolve
        self._clock = clock

    async def deliver(self, delivery_id: str) -> None:
        """Try once. What was delivered or given up, or whose webhook is gone, is left alone.

        Raises:
            Unavailable: it did not arrive; try again later.
        """
        order = await self._order(delivery_id)
        if order is None:
            return
        status, fault = await self._try(delivery_id, order)
        given_up = fault is not None and order.tries + 1 >= MAX_TRIES
        await self._note(delivery_id, status, fault, given_up)
        if fault is not None and not given_up:
            raise Unavailable(fault)

    async def _order(self, delivery_id: str) -> _Order | None:
        async with self._database.transaction() as session:
            row = await session.get(DeliveryRow, delivery_id)
            if row is None or row.state != "pending":
                return None
            webhook = await session.get_one(WebhookRow, row.webhook_id)
            return _Order(webhook.id, webhook.url, row.body, row.tries)

    async def _try(self, delivery_id: str, order: _Order) -> tuple[int | None, str | None]:
        """Return the status and what went wrong, if anything did."""
        try:
            target = read_target(order.url, self._policy)
            addresses = await self._resolve(target)
        except InvalidRequest as error:
            return None, error.message
        except OSError as error:
            return None, f"the name of the webhook's host can't be resolved ({error})"
        refusal = refuse_addresses(addresses, self._policy)
        if refusal is not None:
            return None, refusal
        body = json.dumps(order.body, separators=(",", ":")).encode()
        headers = self._secrets.headers(order.webhook_id, delivery_id, self._clock(), body)
        try:
            status = await self._send(order.url, target, addresses[0], headers, body)
        except httpx.HTTPError as error:
            return None, f"the webhook's host doesn't answer ({type(error).__name__})"
        if 200 <= status < 300:
            return status, None
        return status, f"the webhook's host answered {status}; only 2xx means that it has arrived"

    async def _send(
        self, url: str, target: Target, address: str, headers: dict[str, str], body: bytes
    ) -> int:
        """Send to the address itself, under the name of the host; follow no redirect, read no answer."""
        parts = urlsplit(url)
        place = f"[{address}]" if ":" in address else address
        direct = urlunsplit((parts.scheme, f"{place}:{target.port}", parts.path or "/", parts.query, ""))
        request = self._client.build_request(
            "POST",
            direct,
            content=body,
            headers={**headers, "content-type": "application/json", "host": parts.netloc},
            extensions={"sni_hostname": target.host},
            timeout=_TIMEOUT,
        )
        answer = await self._client.send(request, stream=True, follow_redirects=False)
        await answer.aclose()
        return answer.status_code

    async def _note(self, delivery_id: str, status: int | None, fault: str | None, given_up: bool) -> None:
        async with self._database.transaction() as session:
            row = await session.get(DeliveryRow, delivery_id, with_for_update=True)
            if row is None or row.state != "pending":
                return
            row.tries += 1
            row.last_status = status
            row.last_error = fault[:_ERROR_CHARACTERS] if fault else None
            if fault is None or given_up:
                row.state = "delivered" if fault is None else "failed"
                row.ended_at = self._clock()


async def _resolve(target: Target) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
