"""The activities of a promotion. Each may be tried any number of times."""

from temporalio import activity

from steelyard.activities.edge import heartbeats
from steelyard.rollouts.promotion import PromotionService, Standing
from steelyard.workflows.messages import PromotionStanding


class PromotionActivities:
    """Bound to the services of one worker process."""

    def __init__(self, promotions: PromotionService) -> None:
        self._promotions = promotions

    @activity.defn(name="check_promotion")
    async def check_promotion(self, promotion_id: str) -> PromotionStanding:
        """Verify the model's files and judge the gates."""
        async with heartbeats():
            return _standing(await self._promotions.check(promotion_id))

    @activity.defn(name="settle_promotion")
    async def settle_promotion(self, promotion_id: str) -> PromotionStanding:
        """Wait, end it, or move the alias: what the rules say now."""
        async with heartbeats():
            return _standing(await self._promotions.settle(promotion_id))


def _standing(standing: Standing) -> PromotionStanding:
    return PromotionStanding(standing.state.value, standing.over, standing.wake_at)
