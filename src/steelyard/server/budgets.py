"""The worker's loop over budgets. Needs PostgreSQL alone: it goes on while Temporal or the api are away."""

import asyncio

import structlog

from steelyard.jobs.budgets import BudgetKeeper
from steelyard.kit.errors import SteelyardError

_ROUND_SECONDS = 2.0
_log = structlog.get_logger()


async def keep_budgets(keeper: BudgetKeeper) -> None:
    """Run rounds until cancelled."""
    while True:
        try:
            await keeper.run_round()
        except SteelyardError as error:
            _log.warning("budgets are not being kept", error=error.message)
        await asyncio.sleep(_ROUND_SECONDS)
