"""The relay: carries out promised effects that reach beyond Temporal, such as MLflow's aliases and webhooks.

It works beside the dispatcher and takes only its own topics, so that a slow MLflow or a receiver that never
answers holds up no job.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from steelyard.kit.errors import SteelyardError
from steelyard.storage import outbox
from steelyard.storage.database import Database
from steelyard.storage.notifications import Listener, wait_for_hint
from steelyard.storage.outbox import Effect

_BATCH = 20
_CLAIM_SECONDS = 120.0
_POLL_SECONDS = 2.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Carrier:
    """What carries out the effects of one topic, by their key. Doing one twice must change nothing."""

    carry_out: Callable[[str], Awaitable[None]]
    """Raises SteelyardError where it could not."""
    first_delay_seconds: float
    longest_delay_seconds: float

    def delay_seconds(self, tries: int) -> float:
        """Return how long to wait after so many tries: doubling from the first to the longest."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(tries - 1, 30))


class Relay:
    """Relays the outbox's rows of some topics. Any number may run at once."""

    def __init__(self, database: Database, listener: Listener, carriers: Mapping[str, Carrier]) -> None:
        self._database = database
        self._listener = listener
        self._carriers = carriers

    async def run(self) -> None:
        """Relay until cancelled."""
        async with self._listener.subscription(outbox.CHANNEL) as hint:
            while True:
                try:
                    relayed = await self.relay()
                except SteelyardError as error:
                    _log.warning("the outbox can't be read", error=error.message)
                    relayed = 0
                if relayed < _BATCH:
                    await wait_for_hint(hint, _POLL_SECONDS)

    async def relay(self) -> int:
        """Carry out a batch; return how many were tried."""
        async with self._database.transaction() as session:
            effects = await outbox.claim(session, _BATCH, _CLAIM_SECONDS, topics=self._carriers)
        async with asyncio.TaskGroup() as group:
            for effect in effects:
                group.create_task(self._carry_out(effect))
        return len(effects)

    async def _carry_out(self, effect: Effect) -> None:
        """Try one. Where even that can't be written down, its claim runs out by itself."""
        try:
            error = await self._try(effect)
            async with self._database.transaction() as session:
                if error is None:
                    await outbox.complete(session, effect.id)
                else:
                    delay = self._carriers[effect.topic].delay_seconds(effect.tries)
                    await outbox.postpone(session, effect.id, error, delay)
        except SteelyardError as error:
            _log.warning("the outbox can't be written", error=error.message)

    async def _try(self, effect: Effect) -> str | None:
        try:
            await self._carriers[effect.topic].carry_out(effect.key)
        except SteelyardError as error:
            _log.info("an effect is postponed", topic=effect.topic, key=effect.key, error=error.message)
            return error.message
        return None
