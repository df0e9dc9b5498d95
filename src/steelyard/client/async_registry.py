"""`client.models` and `client.approvals` for asyncio: the same methods as in `registry`."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from steelyard.client import promotion_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.client.errors import ClientError
from steelyard.client.following import OnOutage, Outage, events_of_model
from steelyard.kit.paging import DEFAULT_LIMIT, Page
from steelyard.specs.models import ModelVersionView, ModelView
from steelyard.specs.promotions import PromotionSummary, PromotionView, RegistryEventView, TransitionView


class AsyncModels:
    """The registered models of one project, and the aliases `dev`, `staging` and `prod` of each."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def search(self) -> list[ModelView]:
        """Return all models by name, each with where its aliases point."""
        return (await self._transport.send(promotion_calls.list_models(self._project))).data

    async def get(self, name: str) -> ModelView:
        """Return one model."""
        return await self._transport.send(promotion_calls.get_model(self._project, name))

    async def versions(self, name: str) -> list[ModelVersionView]:
        """Return a model's versions, newest first."""
        return (await self._transport.send(promotion_calls.versions(self._project, name))).data

    async def history(
        self, name: str, alias: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[TransitionView]:
        """Return an alias's moves, newest first."""
        return await self._transport.send(promotion_calls.history(self._project, name, alias, limit, after))

    async def at(self, name: str, alias: str, time: datetime) -> TransitionView:
        """Return which version an alias pointed to at a moment: the move that decided it."""
        return await self._transport.send(promotion_calls.at(self._project, name, alias, time))

    async def events(
        self, name: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[RegistryEventView]:
        """Return a model's events, oldest first."""
        return await self._transport.send(promotion_calls.events(self._project, name, limit, after))

    async def follow(
        self,
        name: str,
        *,
        after: str | None = None,
        on_outage: OnOutage | None = None,
        max_outage_seconds: float | None = 600.0,
    ) -> AsyncIterator[RegistryEventView]:
        """Give a model's events as they come, oldest first, each once, without an end.

        Args:
            after: id of an event; those after it are given.
            on_outage: told of each failed try to take up a broken stream.
            max_outage_seconds: how long the platform may be away; None is for ever.
        """
        cursor = events_of_model(self._project, name, after)
        outage = Outage(self._transport.policy, max_outage_seconds, on_outage)
        while True:
            pause = self._transport.policy.base_seconds
            try:
                async with self._transport.stream(cursor.open()) as stream:
                    async for chunk in stream.chunks():
                        outage.over()
                        for event in cursor.feed(chunk):
                            yield event
            except ClientError as error:
                pause = outage.pause_seconds(error)
            await self._transport.sleep(pause)

    async def promote(
        self,
        name: str,
        version: int,
        to: str,
        *,
        reason: str = "",
        override_freeze: bool = False,
        idempotency_key: str | None = None,
    ) -> PromotionView:
        """Ask that an alias point to a version; `client.approvals.get` tells how it goes."""
        return await self._transport.send(
            promotion_calls.promote(
                self._project, name, version, to, reason, override_freeze, idempotency_key
            )
        )

    async def roll_back(
        self,
        name: str,
        alias: str,
        *,
        to: int | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> TransitionView:
        """Return an alias to the version before, or to a named one that it pointed to. At once."""
        return await self._transport.send(
            promotion_calls.roll_back(self._project, name, alias, to, reason, idempotency_key)
        )


class AsyncApprovals:
    """The inbox of one project: promotions, and what was said to them."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def search(
        self,
        *,
        states: Sequence[str] = (),
        model: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[PromotionSummary]:
        """Return promotions, newest first; those with state `awaiting_approval` wait for somebody."""
        return await self._transport.send(
            promotion_calls.list_promotions(self._project, states, model, limit, after)
        )

    async def get(self, promotion: str) -> PromotionView:
        """Return a promotion whole: gates with their numbers, and the `binding` to approve."""
        return await self._transport.send(promotion_calls.get_promotion(self._project, promotion))

    async def approve(self, promotion: str, binding: str, *, reason: str = "") -> PromotionView:
        """Agree to exactly what was read; refused where that is no longer so."""
        return await self._transport.send(
            promotion_calls.decide(self._project, promotion, "approve", binding, reason)
        )

    async def reject(self, promotion: str, binding: str, *, reason: str = "") -> PromotionView:
        """Refuse, which ends the promotion."""
        return await self._transport.send(
            promotion_calls.decide(self._project, promotion, "reject", binding, reason)
        )

    async def withdraw(self, promotion: str) -> PromotionView:
        """Take one's own request back."""
        return await self._transport.send(promotion_calls.withdraw(self._project, promotion))
