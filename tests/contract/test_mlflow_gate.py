"""MLflow's proxy: nobody reaches runs of another project, whatever the request looks like.

MLflow itself is stood in for: what is tested is which requests come through to it.
"""

import dataclasses
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update
from tests.contract import test_access_walk as walk
from tests.control_plane import ADMIN_TOKEN, serve

from steelyard.api.app import create_app
from steelyard.api.mlflow_owners import MlflowOwners
from steelyard.governance.identity import AttemptTokens, FixedKey
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

API = "/mlflow/api/2.0/mlflow"
AJAX = "/mlflow/ajax-api/2.0/mlflow"
FILES = "/mlflow/api/2.0/mlflow-artifacts/artifacts"
EXPERIMENTS = {"1": walk.PROJECT, "2": walk.FOREIGN_PROJECT}
RUNS = {"run-of-alpha": "1", "run-of-beta": "2", "other-run-of-alpha": "1"}


@dataclass
class Vendor(httpx.AsyncBaseTransport):
    """Answers as MLflow does, and notes what came through to it."""

    seen: list[str] = field(default_factory=list[str])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        path = request.url.path
        if path.endswith("/runs/get") and request.method == "GET":
            experiment = RUNS.get(request.url.params.get("run_id", ""))
            return _answer({"run": {"info": {"experiment_id": experiment}}} if experiment else None)
        if path.endswith("/experiments/get") and request.method == "GET":
            name = EXPERIMENTS.get(request.url.params["experiment_id"])
            return _answer({"experiment": {"name": name}} if name else None)
        self.seen.append(f"{request.method} {path}")
        if path.endswith("/experiments/search"):
            found = [{"experiment_id": key, "name": name} for key, name in EXPERIMENTS.items()]
            return _answer({"experiments": found})
        await request.aread()
        return _answer({})


def _answer(content: dict[str, Any] | None) -> httpx.Response:
    return httpx.Response(
        200 if content is not None else 404, content=_pieces(json.dumps(content or {}).encode())
    )


async def _pieces(content: bytes) -> AsyncGenerator[bytes]:
    yield content


@dataclass(frozen=True)
class Front:
    """The api before a stood-in MLflow."""

    http: httpx.AsyncClient
    vendor: Vendor

    async def ask(self, who: str, method: str, path: str, **how: Any) -> int:
        token = {"admin": ADMIN_TOKEN, "attempt": AttemptTokens(FixedKey(b"a" * 32)).issue(walk.ATTEMPT)}.get(
            who
        )
        headers = {"Authorization": f"Bearer {token or f'syt_{who}'}"}
        return (await self.http.request(method, path, headers=headers, **how)).status_code


@pytest.fixture
async def front(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Front]:
    vendor = Vendor()
    async with (
        httpx.AsyncClient(transport=vendor, base_url="http://mlflow") as mlflow,
        serve(database, database_dsn, tmp_path) as plane,
    ):
        services = dataclasses.replace(plane.services, mlflow=mlflow, mlflow_owners=MlflowOwners(mlflow))
        await walk.settle(database)
        async with database.transaction() as session:
            await session.execute(
                update(JobRow).where(JobRow.id == "job_of_alpha").values(mlflow_run_id="run-of-alpha")
            )
        transport = httpx.ASGITransport(create_app(services, "0"))
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as http:
            yield Front(http, vendor)


READS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", f"{API}/runs/get", {"params": {"run_id": "RUN"}}),
    ("GET", f"{API}/artifacts/list", {"params": {"run_uuid": "RUN"}}),
    (
        "GET",
        "/mlflow/ajax-api/2.0/mlflow/metrics/get-history",
        {"params": {"run_id": "RUN", "metric_key": "x"}},
    ),
    ("GET", f"{API}/artifacts/list", {"params": {"run_id": "RUN"}}),
    ("GET", f"{FILES}/EXPERIMENT/RUN/artifacts/model/weights", {}),
    ("GET", "/mlflow/get-artifact", {"params": {"run_uuid": "RUN", "path": "x"}}),
]
WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/runs/log-batch", {"json": {"run_id": "RUN", "metrics": []}}),
    ("POST", f"{API}/runs/log-metric", {"json": {"runId": "RUN", "key": "x", "value": 1}}),
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/notes.txt", {"content": b"x"}),
]
CLOSED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/runs/create", {"json": {"experiment_id": "1"}}),
    ("POST", f"{API}/experiments/create", {"json": {"name": "beta"}}),
    ("POST", f"{API}/experiments/update", {"json": {"experiment_id": "1", "new_name": "beta"}}),
    ("GET", f"{API}/registered-models/search", {}),
    ("POST", "/mlflow/graphql", {"json": {"query": "{ mlflowGetRun(input: {runId: 1}) }"}}),
    ("POST", f"{API}/runs/log-batch", {"json": {"run_id": "run-of-alpha", "run_uuid": "run-of-beta"}}),
    ("POST", f"{API}/runs/log-batch", {"json": {"run_id": "run-of-alpha", "runId": "run-of-beta"}}),
    ("POST", f"{API}/runs/search", {"json": {"experiment_ids": ["1", "2"]}}),
    ("POST", f"{API}/runs/search", {"json": {}}),
    ("GET", f"{API}/runs/get", {"params": [("run_id", "run-of-alpha"), ("run_id", "run-of-beta")]}),
    ("GET", f"{FILES}/1/run-of-alpha/artifacts/..%2F..%2F..%2F2/run-of-beta/artifacts/x", {}),
    ("GET", f"{FILES}/1/run-of-alpha/artifacts/%252e%252e/%252e%252e/x", {}),
    ("GET", FILES, {"params": {"path": "2/run-of-beta"}}),
    ("GET", f"{FILES}/2/run-of-alpha/artifacts/x", {}),
    ("PUT", f"{FILES}/1/run-of-alpha/artifacts/model/model.safetensors", {"content": b"other weights"}),
    ("PUT", f"{FILES}/1/run-of-alpha/artifacts/%2e/model/x", {"content": b"other weights"}),
    ("PUT", f"{FILES}/1/run-of-alpha/artifacts/model", {"content": b"other weights"}),
    ("DELETE", f"{FILES}/1/run-of-alpha/artifacts/model/model.safetensors", {}),
    ("POST", f"{FILES.removesuffix('artifacts')}mpu/create/1/run-of-alpha/artifacts/model/x", {}),
    (
        "POST",
        f"{API}/runs/set-tag",
        {"json": {"run_id": "run-of-alpha", "key": "steelyard.key", "value": ""}},
    ),
    ("POST", f"{API}/runs/delete-tag", {"json": {"runId": "run-of-alpha", "key": "steelyard.model"}}),
    (
        "POST",
        f"{API}/runs/log-batch",
        {"json": {"run_id": "run-of-alpha", "tags": [{"key": "steelyard.dataset", "value": "x"}]}},
    ),
]


def _of(how: dict[str, Any], path: str, run: str, experiment: str) -> tuple[str, dict[str, Any]]:
    filled = json.loads(
        json.dumps({key: value for key, value in how.items() if key != "content"}).replace("RUN", run)
    )
    return path.replace("RUN", run).replace("EXPERIMENT", experiment), {**how, **filled}


async def test_people_reach_runs_of_their_own_projects(front: Front) -> None:
    for calls, able in (
        (READS, ("a-viewer", "a-developer", "owner", "admin")),
        (WRITES, ("a-developer", "admin")),
    ):
        for method, path, how in calls:
            own, foreign = _of(how, path, "run-of-alpha", "1"), _of(how, path, "run-of-beta", "2")
            for who in able:
                assert await front.ask(who, method, own[0], **own[1]) == 200, (who, path)
            front.vendor.seen.clear()
            for who in ("a-viewer", "a-developer", "owner", "operator"):
                assert await front.ask(who, method, foreign[0], **foreign[1]) == 404, (who, path)
            assert front.vendor.seen == []
    method, path, how = WRITES[0]
    own = _of(how, path, "run-of-alpha", "1")
    assert await front.ask("a-viewer", method, own[0], **own[1]) == 403
    assert await front.ask("narrow", method, own[0], **own[1]) == 403
    assert await front.ask("disabled", method, own[0], **own[1]) == 401


async def test_an_attempt_reaches_the_run_of_its_job_alone(front: Front) -> None:
    for method, path, how in (*READS, *WRITES):
        own = _of(how, path, "run-of-alpha", "1")
        assert await front.ask("attempt", method, own[0], **own[1]) == 200, path
        front.vendor.seen.clear()
        for run, experiment in (("run-of-beta", "2"), ("other-run-of-alpha", "1")):
            other = _of(how, path, run, experiment)
            assert await front.ask("attempt", method, other[0], **other[1]) == 404, path
        assert front.vendor.seen == []
    listing = {"json": {"experiment_ids": ["1"]}}
    assert await front.ask("attempt", "POST", f"{API}/runs/search", **listing) == 404
    assert await front.ask("attempt", "GET", "/mlflow/") == 404


async def test_an_attempt_without_its_lease_writes_nothing(front: Front, database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE jobs SET epoch = 2 WHERE id = 'job_of_alpha'"))
    method, path, how = WRITES[0]
    own = _of(how, path, "run-of-alpha", "1")
    assert await front.ask("attempt", method, own[0], **own[1]) == 409
    assert front.vendor.seen == []


@pytest.mark.parametrize("who", ["a-admin", "attempt"])
async def test_what_is_ambiguous_or_unknown_is_closed(front: Front, who: str) -> None:
    for method, path, how in CLOSED:
        assert await front.ask(who, method, path, **how) == 404, (method, path, how)
    assert front.vendor.seen == []


async def test_a_list_of_experiments_holds_ones_own(front: Front) -> None:
    headers = {"Authorization": "Bearer syt_a-viewer"}
    answer = await front.http.post(f"{API}/experiments/search", json={"max_results": 10}, headers=headers)
    assert [each["name"] for each in answer.json()["experiments"]] == [walk.PROJECT]
    assert await front.ask("attempt", "POST", f"{API}/experiments/search", json={}) == 404
    assert await front.ask("a-viewer", "GET", "/mlflow/static-files/app.js") == 200
