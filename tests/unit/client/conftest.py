"""A scripted server and a client of it."""

from collections.abc import Iterator

import pytest
from tests.scripted_api import QUICK, ScriptedApi, serve

from steelyard.client import Client


@pytest.fixture(scope="session")
def server() -> Iterator[ScriptedApi]:
    with serve(ScriptedApi()) as scripted:
        yield scripted


@pytest.fixture
def api(server: ScriptedApi) -> ScriptedApi:
    server.reset()
    return server


@pytest.fixture
def client(api: ScriptedApi) -> Iterator[Client]:
    with Client(api_url=api.url, token="sy_secret", project="default", retry=QUICK) as opened:
        yield opened
