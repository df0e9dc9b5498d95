"""Over a real api: refused acts go on record, floods don't, and the trail is read page by page."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.audit_trails import Trail
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve

from steelyard.cli import audit
from steelyard.cli.main import main
from steelyard.client.async_client import AsyncClient
from steelyard.governance.audit import record
from steelyard.governance.audit.refusals import Rate, Refusal, RefusalLimiter, RefusalRecorder
from steelyard.governance.identity import Actor, AttemptTokens, FixedKey
from steelyard.specs.audit import AuditEntry
from steelyard.storage.database import Database

# As the control plane of tests has it.
ATTEMPT_KEY = b"a" * 32
JOBS = "/v1/projects/default/jobs"


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


class TestRefusals:
    async def test_who_has_no_token(self, plane: ControlPlane) -> None:
        async with plane.http() as http:
            answer = await http.post(
                f"{JOBS}/job_1/cancel", headers={"Authorization": "Bearer guessed", "X-Request-Id": "req_x"}
            )
        assert answer.status_code == 401

        (row,) = await _rows(plane)
        assert row["actor"] == "anonymous:-"
        assert (row["verb"], row["object_kind"], row["object_id"]) == ("job.cancel", "job", "job_1")
        assert (row["project_id"], row["outcome"], row["request_id"]) == ("default", "refused", "req_x")
        assert row["source"] == "127.0.0.1"
        assert row["detail"] == {"status": "401", "code": "unauthenticated"}
        assert "guessed" not in str(row)

    async def test_a_reader_without_a_token(self, plane: ControlPlane) -> None:
        async with plane.http() as http:
            assert (await http.get(JOBS, headers={"Authorization": ""})).status_code == 401

        assert [row["verb"] for row in await _rows(plane)] == ["job.read"]

    @pytest.mark.parametrize(
        ("path", "body", "status", "verb", "code"),
        [
            (f"{JOBS}/job_none/cancel", None, 404, "job.cancel", "not_found"),
            ("/v1/projects/foreign/jobs/job_1/pause", None, 404, "job.pause", "not_found"),
            (JOBS, {"type": "fine_tune"}, 422, "job.submit", "invalid_spec"),
            (f"{JOBS}/job_1/priority", {"priority": 5000}, 422, "job.set_priority", "invalid_request"),
            ("/v1/nowhere", None, 404, "request.post", "not_found"),
        ],
    )
    async def test_what_the_admin_may_not(
        self, plane: ControlPlane, path: str, body: dict[str, Any] | None, status: int, verb: str, code: str
    ) -> None:
        async with plane.http() as http:
            answer = await http.post(path, json=body)
        assert answer.status_code == status, answer.text

        (row,) = await _rows(plane)
        expected = "anonymous:-" if verb == "request.post" else "user:admin"
        assert (row["actor"], row["verb"], row["outcome"]) == (expected, verb, "refused")
        assert (row["detail"]["status"], row["detail"]["code"]) == (str(status), code)
        assert row["request_id"] == answer.headers["x-request-id"]

    async def test_what_changes_nothing_is_no_act(self, plane: ControlPlane) -> None:
        async with plane.http() as http:
            assert (await http.get(f"{JOBS}/job_none")).status_code == 404
            assert (await http.post(f"{JOBS}/plan", json={})).status_code == 422

        assert await _rows(plane) == []

    async def test_a_long_name_is_cut(self, plane: ControlPlane) -> None:
        async with plane.http() as http:
            path = f"{JOBS}/{'x' * 5000}/cancel"
            assert (await http.post(path, headers={"Authorization": ""})).status_code == 401

        (row,) = await _rows(plane)
        assert len(row["object_id"]) == 200

    async def test_a_flood_is_counted(self, database: Database) -> None:
        recorder = RefusalRecorder(database, RefusalLimiter(Rate(3, 0), Rate(100, 0)), summary_seconds=0.01)
        actor = Actor("anonymous", "-", source="192.0.2.1")
        for _ in range(50):
            await recorder.record(Refusal(actor, "job.cancel", "job", "j", "default", 401, "no", None))
        await recorder.close()

        rows = await _read(database)
        assert [row["verb"] for row in rows if row["verb"] == "job.cancel"] == ["job.cancel"] * 3
        counts = [row["detail"] for row in rows if row["verb"] == "audit.count_refusals"]
        assert sum(count["count"] for count in counts) == 47
        assert all(set(count["sources"]) == {"192.0.2.1"} for count in counts)

    async def test_without_a_database_the_answer_goes_out_all_the_same(self) -> None:
        unreachable = Database("postgresql://nobody:x@/none?host=/nowhere")
        recorder = RefusalRecorder(unreachable)
        actor = Actor("anonymous", "-", source="192.0.2.1")

        await recorder.record(Refusal(actor, "job.cancel", "job", "j", None, 401, "no", None))
        await unreachable.close()


class TestSearch:
    async def test_pages_hold_every_row_once(self, plane: ControlPlane, tmp_path: Path) -> None:
        trail = Trail(plane.database, tmp_path / "checkpoints")
        await trail.act(7)
        await trail.sealer().seal_all()
        await trail.act(1)

        async with AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
            found: list[AuditEntry] = []
            after: str | None = None
            while True:
                page = await client.audit.search(limit=3, after=after)
                found += page.data
                after = page.next
                if not page.has_more:
                    break
        assert [entry.id for entry in found] == [8, 7, 6, 5, 4, 3, 2, 1]
        assert [entry.position for entry in found] == [None, 6, 5, 4, 3, 2, 1, 0]
        assert found[1].detail == {"reason": "wanted", "number": 6, "share": 0.5}

    async def test_the_command_line_writes_all_that_fit_for_other_programs(
        self,
        plane: ControlPlane,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        await Trail(plane.database, tmp_path / "checkpoints").act(7)
        async with plane.database.transaction() as session:
            await record(session, Actor("user", "=eve"), "job.cancel", "job", "=1+1")
        monkeypatch.setenv("STEELYARD_API_URL", plane.url)
        monkeypatch.setenv("STEELYARD_TOKEN", ADMIN_TOKEN)
        monkeypatch.setattr(audit, "MAX_LIMIT", 3)
        written: dict[str, str] = {}
        for form in ("jsonl", "csv"):
            capsys.readouterr()
            search = ["audit", "search", "--verb", "job.*", "--format", form]
            assert await asyncio.to_thread(main, search) == 0
            written[form] = capsys.readouterr().out
        lines = [line for line in written["jsonl"].splitlines() if line.startswith("{")]
        rows = [AuditEntry.model_validate_json(line) for line in lines]
        assert [row.id for row in rows] == [8, 7, 6, 5, 4, 3, 2, 1]
        table = list(csv.DictReader(io.StringIO(written["csv"][written["csv"].index("id,at,") :])))
        found = [line for line in table if line["verb"] == "job.cancel"]
        assert [int(line["id"]) for line in found] == [8, 7, 6, 5, 4, 3, 2, 1]
        assert (found[0]["object_id"], found[0]["actor"]) == ("'=1+1", "user:=eve")
        assert json.loads(found[1]["detail"]) == rows[1].detail

    @pytest.mark.parametrize(
        ("filters", "ids"),
        [
            ({"actor": "user:ada"}, [3, 2, 1]),
            ({"actor": "ada"}, [3, 2, 1]),
            ({"actor": "system:ada"}, []),
            ({"object": "job_1"}, [2]),
            ({"verb": "job.cancel"}, [3, 2, 1]),
            ({"verb": "job.*"}, [3, 2, 1]),
            ({"verb": "job%"}, []),
            ({"verb": "model.*"}, []),
            ({"outcome": "refused"}, []),
            ({"since": "2000-01-01T00:00:00Z"}, [3, 2, 1]),
            ({"until": "2000-01-01T00:00:00Z"}, []),
            ({"project": "default", "limit": 2}, [3, 2]),
        ],
    )
    async def test_filters(
        self, plane: ControlPlane, tmp_path: Path, filters: dict[str, Any], ids: list[int]
    ) -> None:
        await Trail(plane.database, tmp_path).act(3)

        async with AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
            page = await client.audit.search(**filters)
        assert [entry.id for entry in page.data] == ids

    async def test_a_projects_trail_has_its_rows_alone(self, plane: ControlPlane, tmp_path: Path) -> None:
        await Trail(plane.database, tmp_path).act(2)
        async with plane.database.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('other')"))

        async with plane.http() as http:
            assert (await http.get("/v1/projects/other/audit")).json()["data"] == []
            assert (await http.get("/v1/projects/foreign/audit")).status_code == 404

    async def test_an_attempt_sees_nothing(self, plane: ControlPlane) -> None:
        headers = {"Authorization": f"Bearer {AttemptTokens(FixedKey(ATTEMPT_KEY)).issue('att_1')}"}
        async with plane.http() as http:
            assert (await http.get("/v1/audit", headers=headers)).status_code == 403
            assert (await http.get("/v1/projects/default/audit", headers=headers)).status_code == 404

    @pytest.mark.parametrize("query", ["since=2026-01-31T12:00:00", "after=x", "outcome=maybe", "limit=0"])
    async def test_queries_that_break_a_rule(self, plane: ControlPlane, query: str) -> None:
        async with plane.http() as http:
            assert (await http.get(f"/v1/audit?{query}")).status_code == 422


async def _rows(plane: ControlPlane) -> list[dict[str, Any]]:
    return await _read(plane.database)


async def _read(database: Database) -> list[dict[str, Any]]:
    async with database.transaction() as session:
        rows = await session.execute(text("SELECT * FROM audit_log ORDER BY id"))
        return [dict(row) for row in rows.mappings()]
