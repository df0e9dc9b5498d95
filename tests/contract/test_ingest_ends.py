"""How ingests end: cancelled, broken by a fault of the platform's own, refused; and what they tell of it."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select
from temporalio.testing import ActivityEnvironment
from tests.contract.ingests import PROJECT, activities_of, ingest, jsonl, upload
from tests.control_plane import ControlPlane, serve

from steelyard.datasets.service import DatasetService
from steelyard.kit.errors import Unavailable
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, IngestRow

_ROWS = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(30)]
_MANY = [{"text": f"row {i} " + " ".join(f"w{i * j % 991}" for j in range(60))} for i in range(15_000)]


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def http(plane: ControlPlane) -> AsyncGenerator[httpx.AsyncClient]:
    async with plane.http() as http:
        yield http


async def _ask(http: httpx.AsyncClient, rows: list[dict[str, Any]]) -> str:
    body = {"uploads": [await upload(http, jsonl(rows))]}
    return (await http.post(f"{PROJECT}/datasets/chats/ingests", json=body)).json()["id"]


class TestCancelling:
    async def test_one_that_runs_stops_and_the_same_one_makes_the_version(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        asked = await _ask(http, _MANY)
        running = asyncio.create_task(ActivityEnvironment().run(activities_of(plane).run_ingest, asked))
        while (await http.get(f"{PROJECT}/ingests/{asked}")).json()["progress"] is None:
            await asyncio.sleep(0.02)
        told = (await http.post(f"{PROJECT}/ingests/{asked}/cancel")).json()
        assert (told["state"], told["error"]["code"]) == ("cancelled", "cancelled")
        await running
        assert (await http.get(f"{PROJECT}/ingests/{asked}")).json()["state"] == "cancelled"
        assert (await http.get(f"{PROJECT}/datasets")).json()["data"] == []
        assert (await ingest(plane, jsonl(_MANY)))["version"]["version"] == 1

    async def test_one_that_waits_never_runs_and_one_that_has_ended_stays(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        asked = await _ask(http, _ROWS)
        for _ in range(2):
            told = await http.post(f"{PROJECT}/ingests/{asked}/cancel")
            assert (told.status_code, told.json()["state"]) == (200, "cancelled")
        await ActivityEnvironment().run(activities_of(plane).run_ingest, asked)
        assert (await http.get(f"{PROJECT}/ingests/{asked}")).json()["version"] is None
        done = await ingest(plane, jsonl(_ROWS))
        late = await http.post(f"{PROJECT}/ingests/{done['id']}/cancel")
        assert (late.status_code, "has succeeded" in late.json()["error"]["message"]) == (409, True)
        assert (await http.post(f"{PROJECT}/ingests/ing_none/cancel")).status_code == 404
        async with plane.database.transaction() as session:
            done_acts = (AuditRow.verb == "data.cancel", AuditRow.outcome == "accepted")
            acts = (await session.scalars(select(AuditRow.verb).where(*done_acts))).all()
        assert len(acts) == 1

    async def test_what_is_built_already_isnt_published_once_it_is_cancelled(
        self, plane: ControlPlane, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, publish = await _ask(http, _ROWS), DatasetService.publish

        async def cancel_first(self: DatasetService, ingest_id: str, manifest: Any) -> None:
            assert (await http.post(f"{PROJECT}/ingests/{ingest_id}/cancel")).status_code == 200
            await publish(self, ingest_id, manifest)

        monkeypatch.setattr(DatasetService, "publish", cancel_first)
        await ActivityEnvironment().run(activities_of(plane).run_ingest, asked)
        assert (await http.get(f"{PROJECT}/datasets")).json()["data"] == []


async def test_what_breaks_each_time_is_told_and_tried_no_more(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    async with plane.database.transaction() as session:
        await session.execute(
            insert(IngestRow).values(
                id="ing_x", project_id="default", name="chats", state="queued", progress={}, error={},
                spec={"of": "no release"}, uploads={"files": []}, created_by="admin",
            )
        )  # fmt: skip
    with pytest.raises(Unavailable):
        await ActivityEnvironment().run(activities_of(plane).run_ingest, "ing_x")
    waiting = (await http.get(f"{PROJECT}/ingests/ing_x")).json()
    assert (waiting["state"], waiting["progress"]["stage"]) == ("running", "waiting")
    assert "will be tried again" in waiting["progress"]["note"]
    third = ActivityEnvironment()
    third.info = dataclasses.replace(third.info, attempt=3)
    await third.run(activities_of(plane).run_ingest, "ing_x")
    told = (await http.get(f"{PROJECT}/ingests/ing_x")).json()
    assert (told["state"], told["error"]["code"]) == ("failed", "internal_error")
    assert "Traceback" not in told["error"]["message"]
    assert "ing_x" in told["error"]["message"]


class TestTokenizers:
    async def test_the_tokens_of_a_model_that_is_named_are_counted(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        spec = {"statistics": {"tokenizer": "builtin/tiny-random"}}
        ended = await ingest(plane, jsonl(_ROWS), spec=spec)
        assert ended["state"] == "succeeded", ended["error"]
        report = (await http.get(f"{PROJECT}/datasets/chats@v1/report")).json()
        lengths = report["lengths"]["train"]
        assert lengths["tokens"]["rows"] == ended["version"]["rows_train"]
        assert lengths["words"]["total"] < lengths["tokens"]["total"]

    async def test_no_place_of_the_servers_may_be_named(self, http: httpx.AsyncClient) -> None:
        uploads = [await upload(http, jsonl(_ROWS))]
        for name in ("/etc/passwd", "../secrets", "~/.ssh", "./x"):
            body = {"uploads": uploads, "spec": {"statistics": {"tokenizer": name}}}
            refused = await http.post(f"{PROJECT}/datasets/chats/ingests", json=body)
            assert (refused.status_code, refused.json()["error"]["param"]) == (
                422,
                "spec.statistics.tokenizer",
            )

    async def test_one_that_isnt_there_is_told_at_once(self, plane: ControlPlane) -> None:
        ended = await ingest(plane, jsonl(_ROWS), spec={"statistics": {"tokenizer": "builtin/nothing"}})
        assert (ended["state"], ended["error"]["param"]) == ("failed", "spec.statistics.tokenizer")
        assert "builtin/nothing" in ended["error"]["message"]


async def test_faults_are_told_by_the_names_that_the_user_gave(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    ids = [await upload(http, jsonl([*_ROWS, {"prompt": "x"}]), "a.jsonl") for _ in range(2)]
    names = dict(zip(ids, ("train/a.jsonl", "other one/ä.jsonl"), strict=True))
    body = {"uploads": ids, "names": names, "spec": {"reading": {"max_bad": 0.001}}}
    asked = (await http.post(f"{PROJECT}/datasets/chats/ingests", json=body)).json()["id"]
    await ActivityEnvironment().run(activities_of(plane).run_ingest, asked)
    message = (await http.get(f"{PROJECT}/ingests/{asked}")).json()["error"]["message"]
    assert "train/a.jsonl:31: completion: is missing" in message
    assert "other one/ä.jsonl:31: completion: is missing" in message
    assert "/uploads/" not in message
