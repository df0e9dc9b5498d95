"""Composition of promotions: the services of a worker, and what it does beside its workflows."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from steelyard.activities.promotion import PromotionActivities
from steelyard.evals.samples import SampleReader
from steelyard.kit.errors import SteelyardError
from steelyard.registry.mlflow import Mlflow
from steelyard.rollouts.addresses import AddressPolicy
from steelyard.rollouts.delivery import WebhookSender
from steelyard.rollouts.events import WEBHOOK_TOPIC
from steelyard.rollouts.mirror import RegistryMirror
from steelyard.rollouts.mirror_wants import MIRROR_TOPIC, RESTORE_TOPIC
from steelyard.rollouts.promotion import PromotionService
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.server.relay import Carrier, Relay
from steelyard.server.settings import Settings
from steelyard.storage.database import Database
from steelyard.storage.notifications import Listener

_RECONCILE_SECONDS = 30.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class PromotionParts:
    """What a worker runs for promotions."""

    activities: PromotionActivities
    mirror: RegistryMirror
    relays: tuple[Relay, ...]
    """One for each topic, so that none waits for another's receivers."""
    outside: httpx.AsyncClient

    async def run(self) -> None:
        """Relay effects and reconcile with MLflow until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for relay in self.relays:
                    group.create_task(relay.run())
                group.create_task(reconcile_for_ever(self.mirror))
        finally:
            await self.outside.aclose()


def build_promotions(
    database: Database,
    listener: Listener,
    mlflow: Mlflow,
    samples: SampleReader,
    secrets: WebhookSecrets,
    policy: AddressPolicy,
    objects: Path,
) -> PromotionParts:
    """Build a worker's part. No proxy of the environment comes between us and a webhook's checked address.

    Args:
        objects: this node's folder of objects.
    """
    outside = httpx.AsyncClient(trust_env=False, follow_redirects=False)
    mirror = RegistryMirror(database, mlflow, objects)
    sender = WebhookSender(database, secrets, policy, outside)
    carriers = {
        MIRROR_TOPIC: Carrier(mirror.follow, first_delay_seconds=1.0, longest_delay_seconds=30.0),
        RESTORE_TOPIC: Carrier(mirror.restore, first_delay_seconds=1.0, longest_delay_seconds=30.0),
        WEBHOOK_TOPIC: Carrier(sender.deliver, first_delay_seconds=5.0, longest_delay_seconds=3600.0),
    }
    return PromotionParts(
        activities=PromotionActivities(PromotionService(database, samples=samples, objects=objects)),
        mirror=mirror,
        relays=tuple(Relay(database, listener, {topic: carrier}) for topic, carrier in carriers.items()),
        outside=outside,
    )


def address_policy(settings: Settings) -> AddressPolicy:
    """Return what the installation allows webhooks."""
    return AddressPolicy(settings.webhook_allow_http, settings.webhook_allow_private)


async def reconcile_for_ever(mirror: RegistryMirror) -> None:
    """Compare MLflow's registry with ours again and again; an MLflow that is away is asked later."""
    while True:
        try:
            await mirror.reconcile()
        except SteelyardError as error:
            _log.info("MLflow's registry can't be compared", error=error.message)
        await asyncio.sleep(_RECONCILE_SECONDS)
