"""Events of a model as they come: by server-sent events, over the client and over HTTP."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete
from tests.contract.test_promotions import promote
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve
from tests.shelf import ANN, MODEL, PROJECT, people, shelve

import steelyard
from steelyard.specs.identity import TokenRequest
from steelyard.specs.promotions import Alias
from steelyard.storage.database import Database
from steelyard.storage.tables import ProjectMemberRow

STREAM = f"/v1/projects/{PROJECT}/models/{MODEL}/events/stream"


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        await people(database)
        yield plane


async def test_what_was_and_what_comes_is_given_once_and_at_once(plane: ControlPlane, tmp_path: Path) -> None:
    version = await shelve(plane, tmp_path)
    await promote(plane, version, Alias.DEV)
    async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        events = client.models.follow(MODEL)
        seen = [await anext(events) for _ in range(3)]
        assert [each.type for each in seen] == ["promotion.requested", "alias.moved", "promotion.promoted"]
        coming = asyncio.ensure_future(anext(events))
        await promote(plane, version, Alias.STAGING, approvers=(ANN,))
        async with asyncio.timeout(4):
            first = await coming
        assert first.type == "promotion.requested"
        again = client.models.follow(MODEL, after=str(seen[-1].id))
        assert (await anext(again)).id == first.id


async def test_there_is_no_stream_of_no_model(plane: ControlPlane) -> None:
    async with plane.http() as http:
        assert (await http.get(STREAM)).status_code == 404


async def test_a_reader_who_is_removed_reads_no_further(plane: ControlPlane, tmp_path: Path) -> None:
    version = await shelve(plane, tmp_path)
    await promote(plane, version, Alias.DEV)
    grant = await plane.services.tokens.create_own(ANN, TokenRequest(name="test"))
    headers = {"Authorization": f"Bearer {grant.secret}"}
    async with httpx.AsyncClient(base_url=plane.url, headers=headers) as http:
        async with http.stream("GET", STREAM) as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            while (await anext(lines)) != ": ping":
                pass
            async with plane.database.transaction() as session:
                await session.execute(delete(ProjectMemberRow).where(ProjectMemberRow.principal_id == ANN.id))
            await promote(plane, version, Alias.STAGING)
            rest = [line async for line in lines]
        assert not any(line.startswith("data:") for line in rest)
        assert (await http.get(STREAM)).status_code == 404
