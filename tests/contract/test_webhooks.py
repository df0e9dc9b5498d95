"""Webhooks from the act to a receiver: signed, tried again, and never sent to where they must not go."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.shelf import MODEL, PROJECT, shelve

from steelyard.kit.errors import InvalidRequest, NotFound, Unavailable
from steelyard.rollouts.addresses import AddressPolicy, Target
from steelyard.rollouts.delivery import MAX_TRIES, WebhookSender
from steelyard.rollouts.events import WEBHOOK_TOPIC
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.rollouts.webhooks import WebhookService
from steelyard.server.relay import Carrier, Relay
from steelyard.specs.promotions import Alias, PromoteRequest
from steelyard.specs.webhooks import WebhookRequest, WebhookView
from steelyard.storage.database import Database
from steelyard.storage.tables import DeliveryRow, OutboxRow

SECRETS = WebhookSecrets(b"w" * 32)
LOCAL = AddressPolicy(allow_http=True, allow_private=True)


class Receiver:
    """A real server that answers as it is told, and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.location = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.got.append((headers, body))
        extra = f"location: {self.location}\r\n" if self.location else ""
        writer.write(f"HTTP/1.1 {self.status} X\r\n{extra}content-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def receiver() -> AsyncGenerator[tuple[Receiver, str]]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield receiver, f"http://127.0.0.1:{port}/hook?team=a"


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        await shelve(plane, tmp_path, by=ADMIN)
        yield plane


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def hook(plane: ControlPlane, url: str, *events: str) -> WebhookView:
    service = WebhookService(plane.database, SECRETS, LOCAL)
    return await service.add(ADMIN, PROJECT, WebhookRequest(url=url, events=list(events) or ["*"]))


async def act(plane: ControlPlane) -> None:
    """Cause one event, `promotion.requested`."""
    wish = PromoteRequest(version=1, to=Alias.DEV)
    await plane.services.promotions.request(ADMIN, PROJECT, MODEL, wish)


async def deliveries(plane: ControlPlane) -> list[DeliveryRow]:
    async with plane.database.transaction() as session:
        return list(await session.scalars(select(DeliveryRow).order_by(DeliveryRow.id)))


def sender_of(
    plane: ControlPlane, client: httpx.AsyncClient, policy: AddressPolicy = LOCAL, *addresses: str
) -> WebhookSender:
    async def resolve(_target: Target) -> list[str]:
        return list(addresses)

    return WebhookSender(plane.workers, SECRETS, policy, client, resolve if addresses else None)


async def test_an_event_arrives_signed_and_once(
    plane: ControlPlane, client: httpx.AsyncClient, receiver: tuple[Receiver, str]
) -> None:
    inbox, url = receiver
    made = await hook(plane, url, "promotion.*")
    await hook(plane, url, "alias.moved")
    await act(plane)
    carriers = {WEBHOOK_TOPIC: Carrier(sender_of(plane, client).deliver, 0.0, 0.0)}
    relay = Relay(plane.workers, plane.services.listener, carriers)

    await relay.relay()
    await relay.relay()

    ((headers, body),) = inbox.got
    message = json.loads(body)
    assert message["type"] == "promotion.requested"
    assert message["data"]["model"] == MODEL
    assert made.secret is not None
    key = base64.b64decode(made.secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    (row,) = await deliveries(plane)
    assert (row.state, row.tries, row.last_status) == ("delivered", 1, 200)
    async with plane.database.transaction() as session:
        assert not list(await session.scalars(select(OutboxRow).where(OutboxRow.topic == WEBHOOK_TOPIC)))


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_what_did_not_arrive_is_tried_again_under_the_same_id(
    plane: ControlPlane, client: httpx.AsyncClient, receiver: tuple[Receiver, str], status: int
) -> None:
    inbox, url = receiver
    inbox.status, inbox.location = status, url
    await hook(plane, url)
    await act(plane)
    (row,) = await deliveries(plane)
    sender = sender_of(plane, client)
    with pytest.raises(Unavailable, match=str(status)):
        await sender.deliver(row.id)
    inbox.status = 204
    await sender.deliver(row.id)
    await sender.deliver(row.id)
    assert len(inbox.got) == 2
    assert len({headers["webhook-id"] for headers, _ in inbox.got}) == 1
    (row,) = await deliveries(plane)
    assert (row.state, row.tries) == ("delivered", 2)


async def test_it_is_given_up_in_the_end(plane: ControlPlane, client: httpx.AsyncClient) -> None:
    await hook(plane, "http://127.0.0.1:9/hook")
    await act(plane)
    (row,) = await deliveries(plane)
    sender = sender_of(plane, client)
    for _ in range(MAX_TRIES - 1):
        with pytest.raises(Unavailable):
            await sender.deliver(row.id)
    await sender.deliver(row.id)
    page = await plane.services.webhooks.deliveries(ADMIN, PROJECT, row.webhook_id, 10, None)
    assert (page.data[0].state, page.data[0].tries) == ("failed", MAX_TRIES)
    assert page.data[0].last_error


async def test_a_name_that_leads_inside_is_not_sent_to(
    plane: ControlPlane, client: httpx.AsyncClient, receiver: tuple[Receiver, str]
) -> None:
    inbox, url = receiver
    port = url.split(":")[2].split("/")[0]
    await hook(plane, f"http://hooks.example.com:{port}/hook")
    await act(plane)
    (row,) = await deliveries(plane)
    strict = AddressPolicy(allow_http=True)
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"):
        with pytest.raises(Unavailable, match="private network"):
            await sender_of(plane, client, strict, "93.184.216.34", address).deliver(row.id)
    assert not inbox.got


async def test_the_request_goes_to_the_address_that_was_checked(
    plane: ControlPlane, client: httpx.AsyncClient, receiver: tuple[Receiver, str]
) -> None:
    """The name is not resolved a second time, when it may lead elsewhere."""
    inbox, url = receiver
    port = url.split(":")[2].split("/")[0]
    await hook(plane, f"http://name-that-leads-nowhere.invalid:{port}/hook")
    await act(plane)
    (row,) = await deliveries(plane)
    await sender_of(plane, client, LOCAL, "127.0.0.1").deliver(row.id)
    assert inbox.got[0][0]["host"] == f"name-that-leads-nowhere.invalid:{port}"


async def test_an_installation_says_what_may_be_set(plane: ControlPlane) -> None:
    for url in ("http://example.com/hook", "https://127.0.0.1/hook", "https://[::1]/"):
        with pytest.raises(InvalidRequest):
            await plane.services.webhooks.add(ADMIN, PROJECT, WebhookRequest(url=url))


async def test_a_removed_webhook_gets_nothing_more(
    plane: ControlPlane, client: httpx.AsyncClient, receiver: tuple[Receiver, str]
) -> None:
    inbox, url = receiver
    made = await hook(plane, url)
    await act(plane)
    (row,) = await deliveries(plane)
    await plane.services.webhooks.remove(ADMIN, PROJECT, made.id)
    await sender_of(plane, client).deliver(row.id)
    assert not inbox.got
    with pytest.raises(NotFound):
        await plane.services.webhooks.deliveries(ADMIN, PROJECT, made.id, 10, None)
