"""The edge between services and Temporal."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from temporalio import activity

_HEARTBEAT_SECONDS = 3.0


@contextlib.asynccontextmanager
async def heartbeats() -> AsyncGenerator[None]:
    """Heartbeat in the background while the block runs, so that a dead worker is noticed soon."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
