"""The application of one api process. Apart from `api`, whose parent process needs none of these imports."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from steelyard.api.app import create_app
from steelyard.kit.errors import SteelyardError
from steelyard.server.compose import build_api
from steelyard.server.settings import Settings
from steelyard.server.telemetry import set_up_telemetry
from steelyard.storage.database import Database
from steelyard.storage.walls import can_pass_wall

_log = structlog.get_logger()


def make_app() -> FastAPI:
    """Make the application of one api process; uvicorn calls this in each."""
    settings = Settings()
    set_up_telemetry(settings, "api")
    services, ground = build_api(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        listening = asyncio.create_task(ground.listener.run())
        looking = asyncio.create_task(_look_at_login(ground.database))
        yield
        listening.cancel()
        looking.cancel()
        await services.refusals.close()
        await services.authenticator.close()
        await ground.close()

    return create_app(services, version("steelyard"), lifespan)


async def _look_at_login(database: Database) -> None:
    """Say in the log where the api could become the owner of its tables."""
    try:
        async with database.transaction() as session:
            passes = await can_pass_wall(session)
    except (SteelyardError, SQLAlchemyError) as error:
        _log.info("the api's database role wasn't looked at", error=str(error))
        return
    if passes:
        _log.warning(
            "the api logs in to the database as somebody who can own its tables; give it a role of its own"
            " (STEELYARD_API_DATABASE_DSN, docs/access.md)"
        )
