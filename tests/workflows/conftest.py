"""A real Temporal server, one for all tests of this folder."""

import shutil
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[Client]:
    """A client of a fresh server in memory."""
    binary = Path(sysconfig.get_path("scripts")) / "temporal"
    path = str(binary) if binary.exists() else shutil.which("temporal")
    environment = await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType]
        dev_server_existing_path=path, data_converter=pydantic_data_converter, dev_server_log_level="error"
    )
    yield environment.client
    await environment.shutdown()
