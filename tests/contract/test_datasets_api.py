"""Datasets over HTTP: files go up, a version comes out, and it can be looked at closely."""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest_asyncio
from tests.contract.ingests import PROJECT, ingest, jsonl, upload
from tests.control_plane import ADMIN, ControlPlane, serve

from steelyard.datasets.store import key_of
from steelyard.storage.database import Database


@pytest_asyncio.fixture
async def control_plane(
    database: Database, database_dsn: str, tmp_path: Path
) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


_OLD = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(60)]


async def test_the_same_bytes_give_the_same_version_and_more_give_the_next(
    control_plane: ControlPlane,
) -> None:
    first = await ingest(control_plane, jsonl([*_OLD, _OLD[0]]))
    assert first["state"] == "succeeded"
    assert first["version"]["created"]
    assert (first["version"]["rows_in"], first["version"]["rows_kept"]) == (61, 60)
    again = await ingest(control_plane, jsonl([*_OLD, _OLD[0]]), filename="renamed.jsonl")
    assert (again["version"]["version"], again["version"]["created"]) == (1, False)
    assert again["version"]["digest"] == first["version"]["digest"]
    more = await ingest(control_plane, jsonl([*_OLD, {"prompt": "new", "completion": "row"}]))
    assert more["version"]["version"] == 2


async def test_rows_are_appended_to_a_version(control_plane: ControlPlane) -> None:
    await ingest(control_plane, jsonl(_OLD))
    child = await ingest(
        control_plane, jsonl([_OLD[0], {"prompt": "new", "completion": "row"}]), append_to="chats"
    )
    assert (child["version"]["version"], child["version"]["rows_kept"]) == (2, 61)
    assert child["version"]["parents"][0]["ref"] == "chats@v1"
    async with control_plane.http() as http:
        body = {"uploads": [await upload(http, b"{}")], "append_to": "nothing"}
        refused = await http.post(f"{PROJECT}/datasets/chats/ingests", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "append_to")


async def test_versions_are_compared_verified_and_reported(control_plane: ControlPlane) -> None:
    await ingest(control_plane, jsonl(_OLD))
    new = await ingest(control_plane, jsonl([*_OLD[5:], {"prompt": "new", "completion": "row"}]))
    async with control_plane.http() as http:
        http.timeout = httpx.Timeout(60.0)
        diff = (await http.get(f"{PROJECT}/datasets/chats@v2/diff", params={"against": "chats@v1"})).json()
        assert (diff["rows_added"], diff["rows_removed"], diff["rows_shared"]) == (1, 5, 55)
        whole = (await http.get(f"{PROJECT}/datasets/chats@v1/verification")).json()
        assert (whole["whole"], whole["faults"]) == (True, [])
        page = await http.get(f"{PROJECT}/datasets/chats/report", params={"form": "html"})
        assert page.headers["content-type"].startswith("text/html")
        assert "<svg" in page.text
        report = (await http.get(f"{PROJECT}/datasets/chats/report")).json()
        assert report["digest"] == new["version"]["digest"]
        assert report["files"] == ["chats.jsonl"]
        version = await control_plane.services.datasets.resolve(ADMIN, "default", "chats@v1")
        _damage(control_plane.folders.objects / key_of(version.manifest["shards"][0]["digest"]))
        broken = (await http.get(f"{PROJECT}/datasets/chats@v1/verification")).json()
        assert not broken["whole"]
        assert "is damaged" in broken["faults"][0]
        missing = await http.get(f"{PROJECT}/datasets/chats@v9/report")
        assert missing.status_code == 404


async def test_a_browser_that_is_signed_in_opens_the_report_and_nothing_else_of_the_api(
    control_plane: ControlPlane,
) -> None:
    await ingest(control_plane, jsonl(_OLD))
    page = f"{PROJECT}/datasets/chats@v1/report?form=html"
    async with control_plane.http() as http, httpx.AsyncClient(base_url=control_plane.url) as browser:
        assert (await browser.get(page)).status_code == 401
        link = (await http.post("/v1/sessions", params={"to": page})).json()
        arrived = await browser.get(link["url"], follow_redirects=True)
        assert arrived.status_code == 200
        assert "<svg" in arrived.text
        assert (await browser.get(f"{PROJECT}/datasets/chats@v1")).status_code == 401


async def test_a_fault_in_the_data_is_told_by_file_line_and_field(control_plane: ControlPlane) -> None:
    ended = await ingest(control_plane, jsonl([*_OLD, {"prompt": "x", "completion": ""}]))
    assert (ended["state"], ended["version"]) == ("failed", None)
    assert ended["error"]["code"] == "invalid_dataset"
    assert "chats.jsonl:61: completion: is empty" in ended["error"]["message"]
    assert str(control_plane.folders.objects.parent) not in ended["error"]["message"]


async def test_uploads_that_arrive_damaged_or_with_names_that_climb_are_refused(
    control_plane: ControlPlane,
) -> None:
    async with control_plane.http() as http:
        for filename, digest in (("a.jsonl", "sha256:00"), ("../a.jsonl", None), (".hidden", None)):
            headers = {"X-Content-Digest": digest} if digest else {}
            answer = await http.post(
                f"{PROJECT}/uploads", params={"filename": filename}, content=b"{}", headers=headers
            )
            assert answer.status_code == 422, filename
        asked = await http.post(f"{PROJECT}/datasets/chats/ingests", json={"uploads": ["upl_none"]})
        assert asked.status_code in (404, 422)
    assert list((control_plane.folders.objects.parent / "uploads").rglob("*")) == []


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
