"""What a careless or hostile client sends: a clear 4xx, never a 500, and nothing stored."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.control_plane import ControlPlane, serve
from tests.e2e.specs import script_spec
from tests.gpu_pool import gpu_spec
from tests.households import search_spec

from steelyard.client.spec_file import load_spec_file
from steelyard.storage.database import Database

JOBS = "/v1/projects/default/jobs"
EVER = {
    "kind": "span", "starts_at": "0001-01-01T00:00:00+14:00", "ends_at": "9999-12-31T23:59:59-12:00",
}  # fmt: skip
ALL_TIME = {"starts_on": "0001-01-01", "ends_on": "9999-12-31"}


_RLHF: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "rlhf",
    "name": "tone",
    "model": {"name_or_path": "builtin/tiny-random"},
    "dataset": {"ref": "pairs@v2"},
    "policy": {"method": "ppo", "max_steps": 5},
}


def _with_secrets(own: list[str], trial: list[str]) -> dict[str, Any]:
    return {**search_spec(), "secrets": own, "trial": {**gpu_spec(1, 60), "secrets": trial}}


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b"[1, 2]", None),
        (b'"text"', None),
        (b'{"a": NaN}', None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
        (json.dumps(script_spec("x\u0000")).encode(), None),
        (json.dumps({**script_spec("a"), "surprise": 1}).encode(), "surprise"),
        (json.dumps({**script_spec("a"), "priority": "high"}).encode(), "priority"),
        (json.dumps({**script_spec("a"), "resources": {"cpus": -1}}).encode(), "resources.cpus"),
        (json.dumps({**script_spec("a"), "type": "magic"}).encode(), "type"),
        (json.dumps({**script_spec("a"), "name": "Not A Name"}).encode(), "name"),
        (json.dumps({**script_spec("a"), "api_version": "steelyard/v0"}).encode(), "api_version"),
        (json.dumps({**script_spec("a"), "method": "sft"}).encode(), "script"),
        (json.dumps(_RLHF).encode(), "reward_model"),
        (
            json.dumps(_RLHF | {"policy": {"method": "dpo", "max_steps": 1, "gamma": 0.5}}).encode(),
            "policy.gamma",
        ),
        (
            json.dumps({**search_spec(), "trial": {**gpu_spec(1, 60), "method": "sft"}}).encode(),
            "trial.script",
        ),
        (json.dumps(_with_secrets([], ["A", "B"])).encode(), "trial.secrets.0"),
        (json.dumps(_with_secrets(["A"], ["B"])).encode(), "secrets.0"),
    ],
)
async def test_a_bad_submission_is_a_422_that_names_the_field(
    plane: ControlPlane, body: bytes, param: str | None
) -> None:
    async with plane.http() as http:
        answer = await http.post(JOBS, content=body)
        listed = await http.get(JOBS)
    assert answer.status_code == 422
    error: dict[str, Any] = answer.json()["error"]
    assert error["param"] == param
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert listed.json()["data"] == []


async def test_a_type_that_can_t_run_yet_is_a_501_with_a_sentence(plane: ControlPlane) -> None:
    spec = Path(__file__).parents[2] / "examples" / "jobs" / "retrain.yaml"
    body = load_spec_file(spec).data
    async with plane.http() as http:
        answer = await http.post(JOBS, json=body)
    assert answer.status_code == 501
    assert "retrain" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/projects/default/jobs/job_nothing", 404),
        ("GET", "/v1/projects/elsewhere/jobs", 404),
        ("POST", "/v1/projects/elsewhere/jobs", 404),
        ("GET", f"{JOBS}/%00", 422),
        ("GET", f"{JOBS}?after=%00", 422),
        ("GET", f"{JOBS}?limit=100000", 422),
        ("GET", f"{JOBS}?state=happy", 422),
        ("GET", f"{JOBS}?tag=novalue", 422),
        ("GET", f"{JOBS}/job_nothing/events?after=x", 422),
        ("PATCH", JOBS, 405),
        ("GET", "/v1/nowhere", 404),
    ],
)
async def test_every_error_has_the_one_shape(
    plane: ControlPlane, method: str, path: str, status: int
) -> None:
    async with plane.http() as http:
        answer = await http.request(method, path, json=script_spec("a") if method == "POST" else None)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"type", "code", "message", "param", "request_id", "details"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/pool/flavors/x", {"gpu_type": "a\0b"}),
        ("POST", "/v1/organizations", {"id": "abc", "display_name": "a\0b"}),
        ("POST", "/v1/organizations/default/projects", {"id": "abc", "display_name": "a\0b"}),
        ("POST", "/v1/organizations/default/service-accounts", {"name": "abc", "display_name": "a\0b"}),
        ("POST", "/v1/tokens", {"name": "a\0b"}),
        ("POST", "/v1/tokens", {"name": "abc", "projects": ["a\0"]}),
        ("POST", "/v1/users/admin/tokens", {"name": "a\0b"}),
        ("POST", "/v1/projects/default/datasets/x/ingests", {"uploads": ["a\0"]}),
        ("POST", "/v1/projects/default/models/x/promotions", {"version": 10**30, "to": "dev"}),
        ("PUT", "/v1/projects/default/budget", {"period": "fixed", "gpu_hours": "1", **ALL_TIME}),
        ("POST", "/v1/projects/default/freezes", {"reason": "x", "window": EVER}),
        ("GET", "/v1/audit?since=0001-01-01T00:00:00%2B14:00", None),
        ("GET", f"/v1/projects/default/models/x/events?after={10**22}", None),
        ("GET", f"/v1/projects/default/models/x/versions/{10**20}/card", None),
        ("POST", f"/v1/projects/default/models/x/versions/{10**20}/verify", {}),
    ],
)
async def test_what_the_database_can_t_hold_is_refused(
    plane: ControlPlane, method: str, path: str, body: dict[str, Any] | None
) -> None:
    async with plane.http() as http:
        answer = await http.request(method, path, json=body)
    assert answer.status_code in (404, 422), answer.text
    assert "internal" not in answer.text


async def test_a_fault_of_ours_in_the_database_stays_a_500(plane: ControlPlane) -> None:
    async with plane.database.transaction() as session:
        await session.execute(text("ALTER TABLE secrets RENAME TO hidden"))
    async with plane.http() as http:
        answer = await http.get("/v1/projects/default/secrets")
    assert answer.status_code == 500


async def test_no_token_and_a_wrong_one_are_401(plane: ControlPlane) -> None:
    async with plane.http() as http:
        for header in ("", "Bearer", "Bearer sy_wrong", "Basic abc", "Bearer sya_att.x", "Bearer sys_1.x"):
            answer = await http.get(JOBS, headers={"Authorization": header})
            assert answer.status_code == 401, header


async def test_a_body_without_end_is_cut_off(plane: ControlPlane) -> None:
    async with plane.http() as http:
        answer = await http.post(JOBS, content=b" " * (3 << 20))
    assert answer.status_code == 422
