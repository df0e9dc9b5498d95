"""Secrets over a real api and database: they go in, reach attempts, and come back to nobody."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, text, update
from tests.control_plane import ADMIN, ControlPlane, serve

from steelyard.governance.access import ProjectId
from steelyard.governance.secrets.service import SecretService
from steelyard.kit.errors import NotFound
from steelyard.storage.database import Database
from steelyard.storage.encryption import KeyFile, SealBroken, add_key, drop_keys, read_keys
from steelyard.storage.tables import AuditRow, SecretRow

VALUE = "hf_of-nobody-else"
PROJECT = ProjectId("default")


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def http(plane: ControlPlane) -> AsyncGenerator[httpx.AsyncClient]:
    async with plane.http() as http:
        yield http


@pytest.fixture
def keys(plane: ControlPlane, tmp_path: Path) -> Path:
    return tmp_path / "secrets.keys"


async def put(http: httpx.AsyncClient, name: str, value: str = VALUE) -> httpx.Response:
    return await http.put(f"/v1/projects/default/secrets/{name}", json={"value": value})


async def test_a_value_goes_in_and_never_comes_out(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    answers = [await put(http, "HF_TOKEN"), await put(http, "HF_TOKEN", VALUE + "2")]
    answers.append(await http.get("/v1/projects/default/secrets"))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[1].json()["version"] == 2
    assert [each["name"] for each in answers[2].json()["data"]] == ["HF_TOKEN"]
    assert all(VALUE not in answer.text for answer in answers)
    async with plane.database.transaction() as session:
        dump = (
            await session.execute(text("SELECT secrets::text, audit_log::text FROM secrets, audit_log"))
        ).all()
        verbs = list(await session.scalars(select(AuditRow.verb).order_by(AuditRow.id)))
    assert VALUE not in str(dump)
    assert VALUE.encode().hex() not in str(dump)
    assert verbs == ["secret.set", "secret.set"]
    assert await plane.secrets.reveal(PROJECT, ["HF_TOKEN"]) == {"HF_TOKEN": VALUE + "2"}


@pytest.mark.parametrize(("name", "body"), [("lower", {"value": "x"}), ("OK", {"value": ""}), ("OK", {})])
async def test_bad_names_and_values_name_the_field_and_not_the_value(
    http: httpx.AsyncClient, name: str, body: dict[str, str]
) -> None:
    answer = await http.put(f"/v1/projects/default/secrets/{name}", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"]


async def test_a_value_that_is_too_long_is_not_repeated_in_the_error(http: httpx.AsyncClient) -> None:
    answer = await put(http, "HF_TOKEN", VALUE * 4000)
    assert answer.status_code == 422
    assert VALUE not in answer.text


async def test_removed_is_gone_and_removing_it_again_is_404(http: httpx.AsyncClient) -> None:
    await put(http, "HF_TOKEN")
    assert (await http.delete("/v1/projects/default/secrets/HF_TOKEN")).status_code == 204
    assert (await http.delete("/v1/projects/default/secrets/HF_TOKEN")).status_code == 404
    assert (await http.get("/v1/projects/default/secrets")).json()["data"] == []


async def test_a_row_that_was_moved_to_another_name_doesnt_open(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    await put(http, "HF_TOKEN")
    async with plane.database.transaction() as session:
        await session.execute(update(SecretRow).values(name="MINE"))
    with pytest.raises(SealBroken):
        await plane.secrets.reveal(PROJECT, ["MINE"])


async def test_a_rotation_wraps_anew_and_the_old_key_can_go(
    plane: ControlPlane, http: httpx.AsyncClient, keys: Path
) -> None:
    for name in ("ONE", "TWO"):
        await put(http, name)
    fresh = add_key(keys)
    await put(http, "THREE")
    service = SecretService(plane.workers, KeyFile(keys))
    assert await service.rewrap_all() == 2
    assert await service.rewrap_all() == 0
    drop_keys(keys, {"k1"})
    assert list(read_keys(keys)) == [fresh]
    revealed = await plane.secrets.reveal(PROJECT, ["ONE", "TWO", "THREE"])
    assert revealed == dict.fromkeys(("ONE", "TWO", "THREE"), VALUE)


async def test_values_set_while_keys_rotate_all_open_after(
    plane: ControlPlane, http: httpx.AsyncClient, keys: Path
) -> None:
    service = SecretService(plane.workers, KeyFile(keys))

    async def rotate() -> None:
        for _ in range(5):
            await asyncio.to_thread(add_key, keys)
            await service.rewrap_all()

    await asyncio.gather(rotate(), *(put(http, f"S{number}") for number in range(20)))
    await service.rewrap_all()
    drop_keys(keys, set(read_keys(keys)))
    names = [f"S{number}" for number in range(20)]
    assert await service.reveal(PROJECT, names) == dict.fromkeys(names, VALUE)


async def test_a_job_names_its_secrets_and_gets_them_by_file(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    spec = {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": "with-a-secret",
        "method": "script",
        "script": {"filename": "train.py", "source": "print(1)"},
        "secrets": ["HF_TOKEN"],
    }
    refused = await http.post("/v1/projects/default/jobs", json=spec)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "secrets.0")
    await put(http, "HF_TOKEN")
    job_id = (await http.post("/v1/projects/default/jobs", json=spec)).json()["id"]
    await plane.admit(job_id)
    attempt_id = (await plane.lifecycle.start_attempt(job_id, 0, "0:1", "train")).attempt_id
    assert attempt_id is not None
    launch = await plane.launching.launch_spec(attempt_id)
    assert launch.secrets == (("HF_TOKEN", VALUE),)
    assert ("HF_TOKEN_PATH", f"{launch.run.attempt_dir}/secrets/HF_TOKEN") in launch.environment
    assert VALUE not in repr(launch)
    assert VALUE not in launch.run.model_dump_json()
    await plane.services.secrets.remove(ADMIN, "default", "HF_TOKEN")
    with pytest.raises(NotFound, match="HF_TOKEN"):
        await plane.launching.launch_spec(attempt_id)
    assert VALUE not in json.dumps((await http.get(f"/v1/projects/default/jobs/{job_id}")).json())
