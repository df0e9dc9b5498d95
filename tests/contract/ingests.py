"""Ingests over HTTP, carried out by the worker's activity in the test's own process."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from temporalio.testing import ActivityEnvironment
from tests.control_plane import ControlPlane

from steelyard.activities.ingest import IngestActivities
from steelyard.datasets.tokenizers import TokenizerLocator, refuse_tokenizer

PROJECT = "/v1/projects/default"


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def upload(http: httpx.AsyncClient, data: bytes, filename: str = "chats.jsonl") -> str:
    """Send a file; returns the upload's id."""
    answer = await http.post(
        f"{PROJECT}/uploads",
        params={"filename": filename},
        content=data,
        headers={"X-Content-Digest": digest_of(data)},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def ingest(
    plane: ControlPlane, data: bytes, *, filename: str = "chats.jsonl", name: str = "chats", **fields: Any
) -> dict[str, Any]:
    """Upload a file and ingest it; returns the ingest as it has ended."""
    async with plane.http() as http:
        body = {"uploads": [await upload(http, data, filename)], **fields}
        return await carry_out(plane, http, f"datasets/{name}/ingests", body)


async def carry_out(
    plane: ControlPlane,
    http: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
    suites: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Ask for an ingest or a derivation, do what the worker would, and return how it has ended."""
    asked = await http.post(f"{PROJECT}/{path}", json=body)
    assert asked.status_code == 202, asked.text
    await ActivityEnvironment().run(activities_of(plane, suites).run_ingest, asked.json()["id"])
    return (await http.get(f"{PROJECT}/ingests/{asked.json()['id']}")).json()


def activities_of(plane: ControlPlane, suites: Mapping[str, Sequence[str]] | None = None) -> IngestActivities:
    """Return the worker's activities; `suites` are those that the project sees."""
    folder = plane.folders.objects.parent

    async def texts(project_id: str) -> Mapping[str, Sequence[str]]:
        assert project_id == "default"
        return suites or {}

    locator = TokenizerLocator(folder / "models", lambda name: refuse_tokenizer(name, ()))
    return IngestActivities(
        plane.datasets, texts, plane.folders.objects, folder / "work", folder / "uploads", locator.locate
    )
