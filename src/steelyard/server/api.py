"""`python -m steelyard.server.api`: the api, with a few worker processes on one port."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI

from steelyard.api.app import create_app
from steelyard.server.compose import build_api
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings
from steelyard.server.telemetry import set_up_telemetry

_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 3


def make_app() -> FastAPI:
    """Make the application of one api process; uvicorn calls this in each."""
    settings = Settings()
    set_up_telemetry(settings, "api")
    services, ground = build_api(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        listening = asyncio.create_task(ground.listener.run())
        yield
        listening.cancel()
        await ground.close()

    return create_app(services, version("steelyard"), lifespan)


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    metrics = HomeLayout(settings.home).run / "api-metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    uvicorn.run(
        "steelyard.server.api:make_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers,
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        server_header=False,
    )


if __name__ == "__main__":
    main()
