"""The application of one api process. Apart from `api`, whose parent process needs none of these imports."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from importlib.metadata import version

from fastapi import FastAPI

from steelyard.api.app import create_app
from steelyard.server.compose import build_api
from steelyard.server.roles import look_at_login
from steelyard.server.settings import Settings
from steelyard.server.telemetry import set_up_telemetry


def make_app() -> FastAPI:
    """Make the application of one api process; uvicorn calls this in each."""
    settings = Settings()
    set_up_telemetry(settings, "api")
    services, ground = build_api(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        listening = asyncio.create_task(ground.listener.run())
        looking = asyncio.create_task(look_at_login(ground.database, "api"))
        yield
        listening.cancel()
        looking.cancel()
        await services.refusals.close()
        await services.authenticator.close()
        await ground.close()

    return create_app(services, version("steelyard"), lifespan)
