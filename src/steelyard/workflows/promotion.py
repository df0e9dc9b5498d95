"""The life of a promotion: check the gates, then settle it each time that something may have changed.

What is true of it is in the database; this knows when to look. An approval, a move of the alias or a change
of the freeze reaches it as a signal, and expiry or the end of a freeze as a timer.
"""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from steelyard.workflows import timeouts
    from steelyard.workflows.messages import PromotionStanding

_LONGEST_WAIT = timedelta(days=1)
"""Even without a word, it looks once a day."""
_SHORTEST_WAIT = timedelta(seconds=1)


@workflow.defn(name="promotion")
class PromotionWorkflow:
    """One promotion; its id is `promotion/<id>`."""

    def __init__(self) -> None:
        self._nudged = False

    @workflow.run
    async def run(self, promotion_id: str) -> str:
        """Carry a promotion to its end, and return how it ended."""
        standing = await self._do("check_promotion", promotion_id)
        while not standing.over:
            self._nudged = False
            standing = await self._do("settle_promotion", promotion_id)
            if not standing.over:
                await self._wait(standing)
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(promotion_id)
        return standing.state

    @workflow.signal
    def nudge(self) -> None:
        """Something has changed: look again."""
        self._nudged = True

    async def _do(self, activity: str, promotion_id: str) -> PromotionStanding:
        return await workflow.execute_activity(
            activity,
            promotion_id,
            result_type=PromotionStanding,
            start_to_close_timeout=timeouts.REGISTER,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
        )

    async def _wait(self, standing: PromotionStanding) -> None:
        wait = _LONGEST_WAIT
        if standing.wake_at is not None:
            wait = min(_LONGEST_WAIT, max(_SHORTEST_WAIT, standing.wake_at - workflow.now()))
        try:
            await workflow.wait_condition(lambda: self._nudged, timeout=wait)
        except TimeoutError:
            return
