"""References to versions that nobody would write by chance: answered, never an error of ours."""

from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tests.contract.ingests import PROJECT, ingest, jsonl
from tests.control_plane import ControlPlane, serve

from steelyard.storage.database import Database

_ROWS = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(30)]
_REFS = [
    "chats@v",
    "chats@v0",
    "chats@v01",
    "chats@v-1",
    "chats@v+1",
    "chats@v1_0",
    "chats@vx",
    "chats@v1@v1",
    "chats@v1.0",
    "chats@v٣",
    "chats@v2147483648",
    "chats@v99999999999999999999999",
    "@v1",
    "CHATS@v1",
    "chats@v1 ",
    "chats@V1",
    "chats\x00@v1",
    "chats'--@v1",
    "x" * 3000,
]


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


async def test_every_route_answers_to_odd_references(plane: ControlPlane) -> None:
    assert (await ingest(plane, jsonl(_ROWS)))["state"] == "succeeded"
    async with plane.http() as http:
        http.timeout = httpx.Timeout(60.0)
        for ref in _REFS:
            place = f"{PROJECT}/datasets/{quote(ref, safe='@')}"
            for path in ("", "/report"):
                answer = await http.get(f"{place}{path}")
                assert answer.status_code in (404, 422), (ref, path, answer.status_code, answer.text)
                assert answer.json()["error"]["message"]
            assert (await http.delete(place)).status_code in (404, 422), ref
            whole = f"{PROJECT}/datasets/chats@v1"
            assert (await http.get(f"{whole}/diff", params={"against": ref})).status_code in (404, 422), ref
            for body in (
                {"parent": ref, "where": "words > 1"},
                {"mix": [{"ref": ref, "weight": 1.0}, {"ref": "chats@v1", "weight": 1.0}]},
            ):
                asked = await http.post(f"{PROJECT}/datasets/child/derivations", json=body)
                assert asked.status_code == 422, (ref, asked.text)
        assert (await http.get(f"{PROJECT}/datasets/chats@v1")).status_code == 200
