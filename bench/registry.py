"""Registry writes per second: `python bench/registry.py [--json]`.

registrations: `RegistrationService.register` of finished jobs with a model of 64 kB each: gates, every byte
verified, version, signed statement, event, audit row. MLflow is not measured: its answers are made up.
moves: rollbacks over HTTP: an alias with its transition, event, audit row and promise to MLflow.
First one after the other, then 16 at once over 16 models.
promotion: from the request for `dev` (no approval) to the moved alias, through outbox, Temporal and worker.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import structlog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.live import BenchPlatform, machine, print_table, quantile, temporary_platform, wait_until
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.registration import RegistrationService
from steelyard.jobs.tracking import TrackingService
from steelyard.registry.mlflow import Mlflow
from steelyard.runtime.manifests import write_manifest
from steelyard.server.compose import load_lineage_signer
from steelyard.server.home import HomeLayout, database_dsn
from steelyard.storage.database import Database

MODELS = 16
_MODEL_BYTES = 64 * 1024
_SPEC: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "bench",
    "method": "script",
    "script": {"filename": "train.py", "source": "print('never run')"},
    "resources": {"cpus": 1, "memory_gb": 1.0},
}
_COLUMNS = """
SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = 'jobs' AND is_generated = 'NEVER'
"""
_FINISHED = """
INSERT INTO jobs ({columns}) SELECT {columns} FROM (
  SELECT filled.* FROM jobs AS model, generate_series(1, $2::int) AS number,
  LATERAL jsonb_populate_record(model, jsonb_build_object(
    'id', 'job_' || lpad(number::text, 26, '0'), 'name', 'bench-' || number % $3::int, 'state', 'running',
    'model_dir', 'model', 'mlflow_run_id', 'run-' || number)) AS filled WHERE model.id = $1) AS jobs
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--registrations", type=int, default=320)
    parser.add_argument("--moves", type=int, default=400)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with temporary_platform() as platform:
        found = asyncio.run(_measure(platform, arguments.registrations, arguments.moves))
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


async def _measure(platform: BenchPlatform, registrations: int, moves: int) -> dict[str, Any]:
    before = machine()
    registered = await _register(platform, max(registrations, 2 * MODELS))
    promoted = _promote(platform)
    async with httpx.AsyncClient(
        base_url=f"{_api_url(platform)}/v1/projects/default",
        headers={"Authorization": f"Bearer {_token(platform)}"},
        timeout=60.0,
    ) as http:
        one = await _move(http, moves, at_once=1)
        many = await _move(http, moves, at_once=MODELS)
    return {
        "before": before,
        "registrations": registered,
        "promotion_seconds": promoted,
        "moves": one,
        "moves_16_at_once": many,
        "after": machine(),
    }


async def _register(platform: BenchPlatform, count: int) -> dict[str, float]:
    layout = HomeLayout(platform.home)
    folders = Folders(objects=layout.objects, attempts=layout.attempts)
    with platform.client() as client:
        model_job = client.jobs.submit(_SPEC)
        client.jobs.cancel(model_job.id)
        client.jobs.wait(model_job.id)
    dsn = database_dsn(platform.home, None)
    columns = await _execute(dsn, _COLUMNS)
    await _execute(dsn, _FINISHED.format(columns=columns), model_job.id, count, MODELS)
    jobs = [f"job_{number:026d}" for number in range(1, count + 1)]
    for job in jobs:
        folder = folders.job("default", job) / "model"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(job.encode() + os.urandom(_MODEL_BYTES))
        write_manifest(folder, kind="model", job_id=job, attempt_id="att_bench", epoch=1, step=1)
    database = Database(dsn, name="bench")
    transport = httpx.MockTransport(_as_mlflow)
    async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as outside:
        mlflow = Mlflow(outside)
        tracking = TrackingService(database, folders, mlflow)
        service = RegistrationService(database, folders, mlflow, tracking, load_lineage_signer(layout))
        seconds: list[float] = []
        queue = iter(jobs)

        async def work() -> None:
            for job in queue:
                started = time.perf_counter()
                assert (await service.register(job)).accepted
                seconds.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(8)))
        whole = time.perf_counter() - started
    await database.close()
    # The platform's own MLflow was given none of these, and is not to be brought them while moves are timed.
    await _execute(dsn, "UPDATE model_versions SET mlflow_version = NULL")
    return _figures(seconds, whole)


async def _execute(dsn: str, statement: str, *arguments: object) -> object:
    """Run a statement; return the first value of what it answers, if it answers anything."""
    connection = await asyncpg.connect(str(dsn).replace("postgresql+asyncpg", "postgresql"))
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


def _as_mlflow(request: httpx.Request) -> httpx.Response:
    path = request.url.path
    if path.endswith("get-by-name"):
        return httpx.Response(200, json={"experiment": {"experiment_id": "1"}})
    if path.endswith("runs/search"):
        key = json.loads(request.content)["filter"].split("'")[1].split("/")[0]
        return httpx.Response(200, json={"runs": [{"info": {"run_id": f"run-{int(key[4:])}"}}]})
    if path.endswith("model-versions/create"):
        return httpx.Response(200, json={"model_version": {"version": "1"}})
    return httpx.Response(200, json={})


def _promote(platform: BenchPlatform) -> dict[str, float]:
    """Let `dev` of every model point to version 1, then to 2."""
    seconds: list[float] = []
    started = time.perf_counter()
    with platform.client() as client:
        for version in (1, 2):
            for number in range(MODELS):
                asked_at = time.perf_counter()
                asked = client.models.promote(f"bench-{number}", version, "dev")
                wait_until(
                    lambda asked=asked: client.approvals.get(asked.id).state == "promoted", "a promotion"
                )
                seconds.append(time.perf_counter() - asked_at)
    return _figures(seconds, time.perf_counter() - started)


async def _move(http: httpx.AsyncClient, count: int, *, at_once: int) -> dict[str, float]:
    seconds: list[float] = []

    async def work(worker: int) -> None:
        for turn in range(count // at_once):
            started = time.perf_counter()
            answer = await http.post(
                f"/models/bench-{worker}/rollbacks", json={"alias": "dev", "to": 1 + turn % 2}
            )
            assert answer.status_code == 201, answer.text
            seconds.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(work(worker) for worker in range(at_once)))
    whole = time.perf_counter() - started
    for worker in range(at_once):
        # So that the next round begins where this one did.
        if count // at_once % 2:
            await http.post(f"/models/bench-{worker}/rollbacks", json={"alias": "dev", "to": 2})
    return _figures(seconds, whole)


def _figures(seconds: list[float], whole: float) -> dict[str, float]:
    return {
        "per_s": len(seconds) / whole,
        "p50_ms": 1000 * quantile(seconds, 0.5),
        "p99_ms": 1000 * quantile(seconds, 0.99),
        "max_ms": 1000 * max(seconds),
    }


def _api_url(platform: BenchPlatform) -> str:
    with platform.client() as client:
        return client.api_url


def _token(platform: BenchPlatform) -> str:
    return (platform.home / "secrets" / "admin.token").read_text().strip()


def _print(found: dict[str, Any]) -> None:
    rows = [
        ("registrations, 8 at once, MLflow apart", found["registrations"]),
        ("alias moves over HTTP, one after the other", found["moves"]),
        (f"alias moves over HTTP, {MODELS} at once", found["moves_16_at_once"]),
        ("promotions to dev, request to moved", found["promotion_seconds"]),
    ]
    print_table("Registry writes", rows, digits=1)
    print(f"\nload before {found['before']['load_1min']}, after {found['after']['load_1min']}")


if __name__ == "__main__":
    main()
