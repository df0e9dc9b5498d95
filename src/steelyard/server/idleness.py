"""The worker's rounds over attempts that hold GPUs and don't use them."""

import asyncio

import structlog

from steelyard.jobs.idleness import IdleKeeper
from steelyard.kit.errors import SteelyardError

_ROUND_SECONDS = 10.0
_log = structlog.get_logger()


async def keep_gpus_busy(keeper: IdleKeeper) -> None:
    """Look again and again, until cancelled."""
    while True:
        try:
            await keeper.run_round()
        except SteelyardError as error:
            _log.warning("idle attempts could not be looked for", error=error.message)
        await asyncio.sleep(_ROUND_SECONDS)
