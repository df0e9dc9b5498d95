"""Ingests of URIs over the api: only what the operator allows, by the whole way to a version."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment
from tests.contract.ingests import PROJECT, activities_of
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.remote_stores import point_to, serve_bucket

from steelyard.datasets.service import DatasetService
from steelyard.specs.ingests import IngestRequest
from steelyard.storage.database import Database

_ROWS = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(30)]


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


async def test_a_bucket_that_the_operator_allows_becomes_a_version(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_bucket() as bucket:
        point_to(monkeypatch, bucket.endpoint)
        bucket.put("raw/a.jsonl", "".join(json.dumps(row) + "\n" for row in _ROWS).encode())
        service = DatasetService(plane.database, plane.services.uploads, (f"s3://{bucket.name}/raw/",))
        uri = f"s3://{bucket.name}/raw/a.jsonl"
        asked = await service.request_ingest(ADMIN, "default", "chats", IngestRequest(uris=[uri]))
        await ActivityEnvironment().run(activities_of(plane).run_ingest, asked.id)
    async with plane.http() as http:
        ended = (await http.get(f"{PROJECT}/ingests/{asked.id}")).json()
        assert ended["state"] == "succeeded", ended["error"]
        assert (ended["version"]["rows_kept"], ended["version"]["origins"]) == (30, [uri])


async def test_all_else_is_refused_by_field_before_anything_is_read(plane: ControlPlane) -> None:
    async with plane.http() as http:
        for uri in (
            "s3://team-bucket/raw/a.jsonl",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "/etc/passwd",
        ):
            body = {"uris": ["hf://datasets/acme/chats", uri]}
            refused = await http.post(f"{PROJECT}/datasets/chats/ingests", json=body)
            assert refused.status_code == 422, uri
            assert refused.json()["error"]["param"].startswith("uris.")
        assert (await http.get(f"{PROJECT}/datasets")).json()["data"] == []
