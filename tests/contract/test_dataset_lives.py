"""Versions made of versions, deleted, and swept away; uploads in parts; rows kept apart from suites."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, text, update
from temporalio.testing import ActivityEnvironment
from tests.contract.ingests import PROJECT, activities_of, carry_out, digest_of, ingest, jsonl, upload
from tests.control_plane import ControlPlane, serve

from steelyard.datasets.files import export_folder
from steelyard.datasets.orders import pin_derivation
from steelyard.datasets.store import key_of, report_key
from steelyard.datasets.sweeping import SweepingService
from steelyard.governance import access
from steelyard.specs.ingests import DeriveRequest
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, DatasetVersionRow, IngestRow, JobRow

ROWS = [{"prompt": f"question {i}?", "completion": f"answer {'long ' * (i % 3)}{i}"} for i in range(90)]
OTHERS = [{"prompt": f"other {i}?", "completion": f"reply {i}"} for i in range(60)]
PART = 1 << 16


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def http(plane: ControlPlane) -> AsyncGenerator[httpx.AsyncClient]:
    async with plane.http() as http:
        yield http


async def derive(plane: ControlPlane, http: httpx.AsyncClient, name: str, **body: Any) -> dict[str, Any]:
    return await carry_out(plane, http, f"datasets/{name}/derivations", body)


async def verbs(plane: ControlPlane) -> list[str]:
    async with plane.database.transaction() as session:
        kept = AuditRow.outcome == "accepted"
        return list(await session.scalars(select(AuditRow.verb).where(kept).order_by(AuditRow.id)))


class TestDerivation:
    async def test_a_filter_keeps_its_rows_and_names_its_parent(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        await ingest(plane, jsonl(ROWS))
        child = await derive(plane, http, "long", parent="chats", where="completion LIKE '%long long%'")
        assert child["state"] == "succeeded", child["error"]
        assert child["version"]["rows_kept"] == 30
        assert child["version"]["parents"][0]["ref"] == "chats@v1"
        again = await derive(plane, http, "long", parent="chats@v1", where="completion LIKE '%long long%'")
        assert (again["version"]["version"], again["version"]["created"]) == (1, False)
        report = (await http.get(f"{PROJECT}/datasets/long/report")).json()
        assert report["parents"][0]["where"] == "completion LIKE '%long long%'"

    async def test_a_mix_takes_rows_by_weight_and_no_more_than_asked(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        await ingest(plane, jsonl(ROWS))
        await ingest(plane, jsonl(OTHERS), name="others")
        mix = [{"ref": "chats", "weight": 1.0}, {"ref": "others", "weight": 0.5}]
        whole = await derive(plane, http, "mixed", mix=mix)
        assert whole["version"]["rows_kept"] == pytest.approx(135, abs=4)
        bounded = await derive(plane, http, "mixed", mix=mix, rows=30)
        assert bounded["version"]["rows_kept"] == pytest.approx(30, abs=2)
        assert bounded["version"]["version"] == 2

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"parent": "nothing", "where": "chars > 1"}, "parent"),
            ({"mix": [{"ref": "chats"}, {"ref": "nothing"}]}, "mix.1.ref"),
            ({"parent": "chats"}, None),
            ({"mix": [{"ref": "chats"}]}, None),
            ({}, None),
        ],
    )
    async def test_bad_terms_are_refused_at_once(
        self, plane: ControlPlane, http: httpx.AsyncClient, body: dict[str, Any], param: str | None
    ) -> None:
        await ingest(plane, jsonl(OTHERS))
        refused = await http.post(f"{PROJECT}/datasets/x/derivations", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)

    async def test_a_condition_that_isnt_one_fails_by_name(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        await ingest(plane, jsonl(OTHERS))
        for where in ("nonsense >", "no_such_column > 1", "chars > 100000"):
            ended = await derive(plane, http, "x", parent="chats", where=where)
            assert (ended["state"], ended["error"]["param"]) == ("failed", "where")


class TestDeletion:
    async def test_what_nothing_refers_to_is_gone_with_its_bytes(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        digest = (await ingest(plane, jsonl(ROWS)))["version"]["digest"]
        exported = export_folder(plane.folders.objects.parent / "cache", digest) / "train.jsonl"
        exported.parent.mkdir(parents=True)
        exported.write_bytes(jsonl(ROWS))
        reports = [plane.folders.objects / report_key(digest, form) for form in ("json", "html")]
        shards = [*await shards_of(plane), *reports, exported]
        told = await http.delete(f"{PROJECT}/datasets/chats@v1")
        assert (told.status_code, told.json()["outcome"]) == (200, "gone")
        assert (await http.get(f"{PROJECT}/datasets/chats@v1")).status_code == 404
        assert (await http.get(f"{PROJECT}/datasets")).json()["data"] == []
        assert all(path.exists() for path in shards)
        assert await sweeper(plane).sweep() > 0
        assert not any(path.exists() for path in shards)
        assert (await http.delete(f"{PROJECT}/datasets/chats@v1")).status_code == 404
        again = await ingest(plane, jsonl(ROWS))
        assert again["version"]["version"] == 2

    async def test_shared_bytes_stay(self, plane: ControlPlane, http: httpx.AsyncClient) -> None:
        await ingest(plane, jsonl(ROWS))
        await ingest(plane, jsonl(ROWS), name="twin")
        shards = await shards_of(plane)
        await http.delete(f"{PROJECT}/datasets/chats@v1")
        await sweeper(plane).sweep()
        assert all(path.exists() for path in shards)
        assert (await http.get(f"{PROJECT}/datasets/twin@v1/report")).status_code == 200
        assert (await http.get(f"{PROJECT}/datasets/twin@v1/verification", timeout=60)).json()["whole"]

    async def test_a_running_ingest_holds_the_sweeper_off(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        await ingest(plane, jsonl(ROWS))
        await http.delete(f"{PROJECT}/datasets/chats@v1")
        async with plane.database.transaction() as session:
            await session.execute(update(IngestRow).values(state="running"))
        assert await sweeper(plane).sweep() == 0

    async def test_what_a_child_or_a_job_was_made_of_leaves_a_tombstone(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        await ingest(plane, jsonl(ROWS))
        await derive(plane, http, "long", parent="chats", where="chars > 20")
        told = (await http.delete(f"{PROJECT}/datasets/chats@v1")).json()
        assert (told["outcome"], told["kept_for"]) == ("tombstone", "dataset long@v1")
        spec = job_spec("long@v1")
        job = (await http.post(f"{PROJECT}/jobs", json=spec)).json()
        told = (await http.delete(f"{PROJECT}/datasets/long@v1")).json()
        assert (told["outcome"], told["kept_for"]) == ("tombstone", f"job {job['id']}")
        refused = await http.post(f"{PROJECT}/jobs", json=spec)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "dataset.ref")
        assert "was deleted by" in refused.json()["error"]["message"]
        async with plane.database.transaction() as session:
            row = await session.get_one(DatasetVersionRow, ("default", "long", 1))
            kept = await session.get_one(JobRow, job["id"])
        assert row.digest == kept.lineage["dataset"]
        assert (await verbs(plane)).count("data.delete") == 2

    async def test_the_same_rows_lift_a_tombstone(self, plane: ControlPlane, http: httpx.AsyncClient) -> None:
        await ingest(plane, jsonl(ROWS))
        await derive(plane, http, "long", parent="chats", where="chars > 20")
        await http.delete(f"{PROJECT}/datasets/chats@v1")
        again = await ingest(plane, jsonl(ROWS))
        assert (again["version"]["version"], again["version"]["created"]) == (1, False)
        assert (await http.get(f"{PROJECT}/datasets/chats@v1")).status_code == 200
        assert (await verbs(plane)).count("data.publish_again") == 1

    async def test_who_is_just_about_to_use_a_version_is_waited_for(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        await ingest(plane, jsonl(ROWS))
        body = {"parent": "chats@v1", "where": "chars > 20"}
        async with plane.database.transaction() as session:
            project = access.ProjectId("default")
            terms = await pin_derivation(session, project, DeriveRequest.model_validate(body))
            deleting = asyncio.create_task(http.delete(f"{PROJECT}/datasets/chats@v1", timeout=60))
            await until_somebody_waits(plane)
            await session.execute(
                insert(IngestRow).values(
                    id="ing_x", project_id="default", name="long", state="queued", spec={}, progress={},
                    error={}, uploads={"files": [], "derive": terms}, created_by="admin",
                )
            )  # fmt: skip
        told = (await deleting).json()
        assert (told["outcome"], told["kept_for"]) == ("tombstone", "ingest ing_x")
        refused = await http.post(f"{PROJECT}/datasets/long/derivations", json=body)
        assert refused.status_code == 422
        assert "was deleted by" in refused.json()["error"]["message"]
        await ActivityEnvironment().run(activities_of(plane).run_ingest, "ing_x")
        assert (await http.get(f"{PROJECT}/ingests/ing_x")).json()["version"]["version"] == 1

    async def test_a_bare_name_is_no_version(self, plane: ControlPlane, http: httpx.AsyncClient) -> None:
        await ingest(plane, jsonl(OTHERS))
        assert (await http.delete(f"{PROJECT}/datasets/chats")).status_code == 422


class TestParts:
    data = bytes(range(256)) * 800

    async def begin(self, http: httpx.AsyncClient, data: bytes | None = None) -> dict[str, Any]:
        data = self.data if data is None else data
        order = {"filename": "big.jsonl", "size_bytes": len(data), "digest": digest_of(data)}
        answer = await http.post(f"{PROJECT}/uploads/parts", json=order)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(
        self, http: httpx.AsyncClient, upload: str, number: int, data: bytes | None = None
    ) -> httpx.Response:
        part = self.data[(number - 1) * PART : number * PART] if data is None else data
        return await http.put(
            f"{PROJECT}/uploads/{upload}/parts/{number}",
            content=part,
            headers={"X-Content-Digest": digest_of(part)},
        )

    async def test_it_goes_on_where_it_was_and_ends_as_any_upload(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        first = await self.begin(http)
        assert first["part_size_bytes"] == PART
        assert (await self.send(http, first["id"], 3)).json()["parts"] == [3]
        missing = await http.post(f"{PROJECT}/uploads/{first['id']}/complete")
        assert missing.status_code == 409
        assert "part 1 is missing (3 of 4" in missing.json()["error"]["message"]
        resumed = await self.begin(http)
        assert (resumed["id"], resumed["parts"]) == (first["id"], [3])
        for number in (1, 2, 3, 4):
            assert (await self.send(http, first["id"], number)).status_code == 200
        for _ in range(2):
            done = (await http.post(f"{PROJECT}/uploads/{first['id']}/complete")).json()
            assert done["state"] == "complete"
        folder = plane.folders.objects.parent / "uploads" / first["id"]
        assert [path.name for path in folder.iterdir()] == ["big.jsonl"]
        assert (folder / "big.jsonl").read_bytes() == self.data
        assert (await self.begin(http))["state"] == "complete"
        assert (await verbs(plane)).count("data.upload") == 1

    async def test_asking_for_the_end_many_times_at_once_ends_it_once(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        upload = (await self.begin(http))["id"]
        for number in (1, 2, 3, 4):
            await self.send(http, upload, number)
        path = f"{PROJECT}/uploads/{upload}/complete"
        answers = await asyncio.gather(*(http.post(path, timeout=60) for _ in range(8)))
        assert {answer.json().get("state") for answer in answers} == {"complete"}
        folder = plane.folders.objects.parent / "uploads" / upload
        assert (folder / "big.jsonl").read_bytes() == self.data

    async def test_damage_is_noticed_part_by_part(self, http: httpx.AsyncClient) -> None:
        upload = (await self.begin(http))["id"]
        short = await self.send(http, upload, 1, self.data[:100])
        long = await self.send(http, upload, 4, self.data[:PART])
        outside = await self.send(http, upload, 5, b"x")
        wrong = await http.put(
            f"{PROJECT}/uploads/{upload}/parts/1",
            content=self.data[:PART],
            headers={"X-Content-Digest": digest_of(b"other")},
        )
        for answer in (short, long, outside, wrong):
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, "number")
        assert (await http.get(f"{PROJECT}/uploads/{upload}")).json()["parts"] == []

    async def test_a_whole_that_isnt_what_was_announced_begins_again(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        upload = (await self.begin(http))["id"]
        for number in (1, 2, 3, 4):
            await self.send(http, upload, number)
        partial = plane.folders.objects.parent / "uploads" / upload / ".big.jsonl.partial"
        partial.write_bytes(b"y" + partial.read_bytes()[1:])
        refused = await http.post(f"{PROJECT}/uploads/{upload}/complete")
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "digest")
        assert (await self.begin(http))["parts"] == []

    async def test_an_unfinished_one_cant_be_ingested_and_is_swept_in_time(
        self, plane: ControlPlane, http: httpx.AsyncClient
    ) -> None:
        upload = (await self.begin(http))["id"]
        await self.send(http, upload, 1)
        refused = await http.post(f"{PROJECT}/datasets/x/ingests", json={"uploads": [upload]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "uploads")
        assert await sweeper(plane).sweep() == 0
        assert await sweeper(plane, days=3).sweep() == 1
        assert (await http.get(f"{PROJECT}/uploads/{upload}")).status_code == 404
        assert not (plane.folders.objects.parent / "uploads" / upload).exists()


async def test_work_that_was_given_up_is_swept_and_the_rest_left(plane: ControlPlane) -> None:
    work = plane.folders.objects.parent / "work"
    old = [
        work / ("a" * 64) / "part.parquet",
        work / "incoming" / "tmp1" / "spool-000000",
        work / "spool" / "x",
    ]
    for path in old:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"rows")
    assert await sweeper(plane).sweep() == 0
    assert all(path.exists() for path in old)
    assert await sweeper(plane, days=8).sweep() == len(old)
    assert sorted(path.name for path in work.rglob("*")) == ["incoming", "spool"]


async def test_rows_that_a_suite_asks_for_are_dropped_and_the_suite_is_named(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    text = "the quick brown fox jumps over the lazy dog while thirteen words are needed for one match"
    rows = [*OTHERS, {"prompt": "leaked?", "completion": text}]
    suites = {"smoke@sha256:00": [text]}
    for decontaminate, kept in ((True, 60), (False, 61)):
        async with plane.http() as client:
            body = {"uploads": [await upload(client, jsonl(rows))], "decontaminate": decontaminate}
            ended = await carry_out(plane, client, "datasets/chats/ingests", body, suites)
        assert ended["version"]["rows_kept"] == kept
    async with plane.database.transaction() as session:
        row = await session.get_one(DatasetVersionRow, ("default", "chats", 1))
    assert list(row.manifest["evaluation_sets"]) == ["smoke@sha256:00"]
    for decontaminate, kept in ((True, 60), (False, 61)):
        terms = {"parent": "chats@v2", "where": "words > 0", "decontaminate": decontaminate}
        async with plane.http() as client:
            ended = await carry_out(plane, client, "datasets/child/derivations", terms, suites)
        assert ended["version"]["rows_kept"] == kept


async def until_somebody_waits(plane: ControlPlane) -> None:
    """Return when a transaction of another connection waits for a lock."""
    async with asyncio.timeout(30):
        while True:
            async with plane.database.transaction() as session:
                waiting = await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            if waiting:
                return


async def shards_of(plane: ControlPlane) -> list[Path]:
    """The objects of `chats@v1`."""
    async with plane.database.transaction() as session:
        row = await session.get_one(DatasetVersionRow, ("default", "chats", 1))
    return [plane.folders.objects / key_of(shard["digest"]) for shard in row.manifest["shards"]]


def sweeper(plane: ControlPlane, days: int = 0) -> SweepingService:
    """The worker's sweeper, so many days from now."""
    folder = plane.folders.objects.parent
    return SweepingService(
        plane.workers, plane.folders.objects, folder / "uploads", folder / "work",
        lambda: datetime.now(UTC) + timedelta(days=days), folder / "cache",
    )  # fmt: skip


def job_spec(ref: str) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": "uses-it",
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": ref},
        "training": {"max_steps": 1},
    }
