"""Latency of the api under load: `python bench/control_plane.py [--workers N] [--json]`.

100,000 jobs are stored (each with an attempt, three events and an idempotency key) and 200 attempts run:
rows that hold all places of the pool, and one process that reports for each of them over HTTP with the
attempt's own token. Submit, get and list come at 20 requests/s each, in an open loop; their blocks alternate
with the same requests to a bare service: FastAPI, asyncpg, one table of 100,000 rows in the same PostgreSQL,
the same uvicorn settings. The reports go on through both. Submitted jobs find the pool full and wait.

--workers 0 measures api and database alone: the outbox fills up, no workflow starts. With a worker each
submission also starts a workflow at Temporal, prepares the job and puts it into the queue meanwhile.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.bare_app import TABLE
from bench.live import BenchPlatform, machine, quantile, spread, temporary_platform, wait_until
from bench.load import Call, Pacer
from steelyard.kit.home import admin_token_file
from steelyard.server.home import database_dsn, read_platform
from steelyard.specs.budgets import BudgetSpec

_REPOSITORY = Path(__file__).resolve().parent.parent
KINDS = ("submit", "get", "list")
SPEC: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "bench",
    "method": "script",
    "script": {"filename": "train.py", "source": "print('never run')"},
    "resources": {"cpus": 1, "memory_gb": 1.0},
    "tags": {"team": "bench"},
}
_STORED = """
INSERT INTO jobs ({columns}) SELECT {columns} FROM (
SELECT filled.* FROM jobs AS model, generate_series(1, {count}) AS number,
LATERAL jsonb_populate_record(model, jsonb_build_object(
  'id', 'job_' || lpad({offset} + number || '', 26, '0'), 'state', '{state}', 'attempts_count', 1, 'epoch', 1,
  'ended_at', CASE WHEN '{state}' = 'succeeded' THEN now() END,
  'current_attempt_id', 'att_' || lpad({offset} + number || '', 26, '0'))) AS filled
WHERE model.id = $1) AS copies
"""
# A generated column can't be inserted.
_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
WHERE attrelid = 'jobs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
_ATTEMPTS = """
INSERT INTO attempts (id, project_id, job_id, number, launch_key, stage, epoch, state, executor, node,
  attempt_dir, last_step, checkpoint_requested, counted, gpus)
SELECT current_attempt_id, project_id, id, 1, '0:1', 'train', 1, '{attempt_state}', 'local', 'bench',
  '/nowhere', 0, false, false, 0 FROM jobs WHERE state = '{state}' AND id LIKE 'job_00%'
"""
_EVENTS = """
INSERT INTO events (project_id, job_id, level, type, message, data)
SELECT project_id, id, 'info', 'job.' || kind, 'it is ' || kind, '{{}}' FROM jobs,
  unnest(ARRAY['prepared', 'running', 'succeeded']) AS kind WHERE state = 'succeeded'
"""
_KEYS = """
INSERT INTO idempotency_keys (project_id, key, body_digest, job_id, response)
SELECT project_id, 'key-' || id, 'sha256:0', id, '{{}}' FROM jobs WHERE state = 'succeeded'
"""
_PLACES = """
INSERT INTO allocations (job_id, node, project_id, run_number, cpus, memory_bytes, gpu_ids)
SELECT id, (SELECT name FROM nodes LIMIT 1), project_id, 0, 1, 1000000000, '[]' FROM jobs
  WHERE state = 'running'
"""
_NODE = """
WITH kind AS (INSERT INTO flavors (name, price_per_gpu_hour) VALUES ('local-cpu', 2) ON CONFLICT DO NOTHING)
INSERT INTO nodes (name, executor, flavor, cpus, memory_bytes, gpu_ids, last_seen_at)
SELECT 'bench', 'local', 'local-cpu', {cpus}, {cpus} * 1000000000::bigint, '["g0", "g1"]', now()
WHERE NOT EXISTS (SELECT 1 FROM nodes)
"""
_BARE = (
    f"CREATE TABLE {TABLE} (id text PRIMARY KEY, spec jsonb NOT NULL)",
    f"INSERT INTO {TABLE} SELECT id, spec FROM jobs",
)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, choices=(0, 1), default=1)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument(
        "--gpus", type=int, choices=(0, 1), default=0, help="1: each submission reserves in a budget"
    )
    parser.add_argument("--attempts", type=int, default=200)
    parser.add_argument("--report-seconds", type=float, default=5.0)
    parser.add_argument("--per-second", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block-seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    SPEC["resources"] |= {"gpus": options.gpus}
    found: dict[str, Any] = {"options": {k: v for k, v in vars(options).items() if k != "json"}}
    found["before"] = machine()
    pool = {"local_cpus": str(options.attempts), "local_memory_gb": str(options.attempts)}
    with temporary_platform(workers=str(options.workers), **pool) as platform:
        platform.wait_for("mlflow")
        ids = asyncio.run(_fill(platform, options.jobs, options.attempts, options.workers))
        with _bare_service(platform) as bare_port, _reporters(platform, options.report_seconds) as reporters:
            found["kinds"] = asyncio.run(_measure(platform, bare_port, ids, options))
        found["reports"] = reporters
    found["after"] = machine()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


async def _fill(platform: BenchPlatform, jobs: int, attempts: int, workers: int) -> list[str]:
    """Store jobs and running attempts as copies of one that the api has taken; return ids of some."""
    with platform.client() as client:
        model = client.jobs.submit(SPEC).id
        if workers:
            client.jobs.wait(model)
        client.budgets.put(BudgetSpec(gpu_hours=Decimal(10**9), money=Decimal(10**9)))
    connection = await asyncpg.connect(database_dsn(platform.home))
    await connection.execute(_NODE.format(cpus=attempts))
    columns = await connection.fetchval(_COLUMNS)
    for state, count, offset in (("succeeded", jobs, 0), ("running", attempts, jobs)):
        copies = _STORED.format(columns=columns, count=count, offset=offset, state=state)
        await connection.execute(copies, model)
    await connection.execute(_ATTEMPTS.format(state="succeeded", attempt_state="ended"))
    await connection.execute(_ATTEMPTS.format(state="running", attempt_state="running"))
    for statement in (_EVENTS.format(), _KEYS.format(), _PLACES, *_BARE):
        await connection.execute(statement)
    await connection.execute("DELETE FROM outbox")
    await connection.execute("VACUUM ANALYZE")
    rows = await connection.fetch(f"SELECT id FROM {TABLE} ORDER BY random() LIMIT 5000")
    await connection.close()
    return [row["id"] for row in rows]


@contextmanager
def _bare_service(platform: BenchPlatform) -> Generator[int]:
    """Run the bare service with the api's own uvicorn settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--no-access-log"]
    arguments += ["--timeout-keep-alive", "75", "--no-server-header", "--log-level", "warning"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "uvicorn",
            "--app-dir",
            str(_REPOSITORY),
            "bench.bare_app:app",
            *arguments,
        ],
        env={**os.environ, "BENCH_DSN": database_dsn(platform.home)},
    )
    try:
        wait_until(lambda: _answers(port), "the bare service")
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/jobs").status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def _reporters(platform: BenchPlatform, seconds: float) -> Generator[dict[str, Any]]:
    """Run the process that reports; what it counted is in the dictionary after the block."""
    command = [sys.executable, str(Path(__file__).with_name("attempts.py")), str(platform.home), str(seconds)]
    counted: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield counted
        finally:
            process.send_signal(signal.SIGTERM)
            counted.update(json.loads(process.stdout.readline() or "{}"))


async def _measure(
    platform: BenchPlatform, bare_port: int, ids: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    addresses = read_platform(platform.home)
    ours = Pacer(addresses.api_host, addresses.api_port, options.per_second)
    bare = Pacer("127.0.0.1", bare_port, options.per_second)
    headers = (("Authorization", f"Bearer {admin_token_file(platform.home).read_text().strip()}"),)
    sides = {"ours": (ours, "/v1/projects/default/jobs", headers), "bare": (bare, "/jobs", ())}
    seen: dict[str, dict[str, list[list[float]]]] = {kind: {side: [] for side in sides} for kind in KINDS}
    await asyncio.sleep(options.report_seconds)
    for number in range(options.rounds + 1):
        for kind in KINDS:
            for side, (pacer, path, extra) in sides.items():
                seconds = options.block_seconds if number else 2.0
                block = await pacer.run(
                    _maker(kind, path, extra, ids), seconds, 202 if kind == "submit" else 200
                )
                if number:  # the first round only warms up
                    seen[kind][side].append(block)
    ours.close()
    bare.close()
    return {kind: _figures(blocks) for kind, blocks in seen.items()}


def _maker(
    kind: str, path: str, headers: tuple[tuple[str, str], ...], ids: list[str]
) -> Callable[[int], Call]:
    body = json.dumps(SPEC).encode()
    typed = (*headers, ("Content-Type", "application/json"))

    def make(number: int) -> Call:
        if kind == "submit":
            key = f"{time.time_ns()}-{number}"
            return Call("POST", path, body, (*typed, ("Idempotency-Key", key)))
        if kind == "get":
            return Call("GET", f"{path}/{random.choice(ids)}", headers=headers)
        return Call("GET", f"{path}?limit=50", headers=headers)

    return make


def _figures(blocks: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Percentiles over all blocks of a side, and the spread of the blocks' medians and their ratios."""
    found: dict[str, Any] = {}
    for side, rounds in blocks.items():
        every = [latency for block in rounds for latency in block]
        found[side] = {
            "requests": len(every),
            "p50_ms": quantile(every, 0.5),
            "p99_ms": quantile(every, 0.99),
            "max_ms": max(every),
            "p50_ms_by_block": spread([quantile(block, 0.5) for block in rounds]),
            "p99_ms_by_block": spread([quantile(block, 0.99) for block in rounds]),
        }
    for name, share in (("ratio_p50", 0.5), ("ratio_p99", 0.99)):
        pairs = zip(blocks["ours"], blocks["bare"], strict=True)
        found[name] = spread([quantile(one, share) / quantile(other, share) for one, other in pairs])
    return found


def _print(found: dict[str, Any]) -> None:
    options, reports = found["options"], found["reports"]
    print(
        f"\n{options['jobs']:,} jobs stored, {reports['attempts']} running attempts,"
        f" {reports['reports_per_second']:.0f} reports/s ({reports['refused']} refused),"
        f" {options['per_second']:g} requests/s, {options['workers']} worker"
    )
    names = ("p50 ms", "p99 ms", "max ms", "bare p50", "bare p99", "bare max", "ratio p50", "min", "max")
    print(f"  {'':<8}" + "".join(f"{name:>10}" for name in names))
    for kind, figures in found["kinds"].items():
        row = [figures[side][name] for side in ("ours", "bare") for name in ("p50_ms", "p99_ms", "max_ms")]
        row += [figures["ratio_p50"][name] for name in ("median", "min", "max")]
        print(f"  {kind:<8}" + "".join(f"{value:>10.2f}" for value in row))
    print(f"  {'report':<8}{reports['p50_ms']:>10.2f}{reports['p99_ms']:>10.2f}")
    print(f"\nload before {found['before']['load_1min']}, after {found['after']['load_1min']}")


if __name__ == "__main__":
    main()
