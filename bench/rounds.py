"""Whole rounds of the scheduler over a real PostgreSQL: read the snapshot, decide, write what follows.

A server of its own in a temporary folder, as the embedded platform makes it: `count` queued jobs of 50
projects with quotas, 950 that run on 125 nodes of 8 GPUs, specs of 1.5 kB each. At first these have just
begun, so nobody is preempted; at last they have all had their turn, and each round asks many to leave.
"""

import asyncio
import gc
import logging
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import structlog
from sqlalchemy import text

from steelyard.jobs.admission import AdmissionService, RoundReport
from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.embedded.postgres import make_databases, postgres_spec
from steelyard.server.embedded.postgres_place import choose_place
from steelyard.server.embedded.probes import postgres_probe
from steelyard.server.embedded.spawning import reap, spawn
from steelyard.server.home import DATABASE_NAME, DATABASE_ROLE, HomeLayout, read_secret, socket_dsn
from steelyard.storage.database import Database
from steelyard.storage.migrations import migrate

ROUNDS = 60
_WARM_UP = 5
_START_SECONDS = 60.0
_RUNNING = 950
_FILL = (
    "INSERT INTO projects (id) SELECT 'p' || n FROM generate_series(1, 50) n",
    "INSERT INTO flavors (name, price_per_gpu_hour) VALUES ('a100', 2), ('t4', 0.5)",
    """
    INSERT INTO nodes (name, executor, flavor, cpus, memory_bytes, gpu_ids, last_seen_at)
    SELECT 'n' || n, 'local', CASE WHEN n % 5 = 0 THEN 't4' ELSE 'a100' END, 64, 512000000000,
        (SELECT jsonb_agg('g' || g) FROM generate_series(1, 8) g), now() + interval '1 day'
    FROM generate_series(1, 125) n
    """,
    """
    INSERT INTO quotas (project_id, flavor, nominal, updated_by, updated_at)
    SELECT 'p' || n, 'a100', 15, 'bench', now() FROM generate_series(1, 50) n
    """,
    """
    INSERT INTO jobs (id, project_id, name, type, state, priority, spec, lineage, tags, desired,
        command_sequence, run_number, epoch, stage, attempts_count, retries_used, evictions, running_seconds,
        progress, metrics, prepared, created_by, created_at, queued_at)
    SELECT 'job_' || lpad(n::text, 8, '0'), 'p' || (1 + n % 50), 'bench', 'fine_tune',
        CASE WHEN n <= :running THEN 'running' ELSE 'queued' END, (ARRAY[300, 500, 700])[1 + n % 3],
        jsonb_build_object(
            'resources', jsonb_build_object('gpus', (ARRAY[1, 1, 1, 2, 4, 8])[1 + (n / 50) % 6], 'cpus', 1,
                'memory_gb', 4.0, 'spot', 'never'),
            'limits', jsonb_build_object('max_runtime_seconds', (ARRAY[3600, 86400])[1 + (n / 7) % 2],
                'max_retries', 3),
            'padding', repeat('x', 1500)),
        '{}', '{}', 'run', 0, 0, 0, 'train', 0, 0, 0, 0, '{}', '{}', '{}', 'bench', moment, moment
    FROM generate_series(1, CAST(:count AS INT) + :running) n,
        LATERAL (SELECT now() - interval '1 hour' + n * interval '0.1 second' AS moment) came
    """,
    """
    INSERT INTO allocations (job_id, node, project_id, run_number, cpus, memory_bytes, gpu_ids, granted_at)
    SELECT id, 'n' || (1 + row_number() OVER (ORDER BY id) % 125), project_id, 0, 1, 4000000000,
        jsonb_build_array('g' || (1 + row_number() OVER (ORDER BY id) / 125)), now() - interval '1 minute'
    FROM jobs WHERE state = 'running'
    """,
    """
    INSERT INTO attempts (id, project_id, job_id, number, launch_key, stage, epoch, state, executor,
        attempt_dir, last_step, checkpoint_requested, counted, gpus)
    SELECT 'att_' || id, project_id, id, 1, '0:1', 'train', 1, 'running', 'local', '', 0, false, false, 1
    FROM jobs WHERE state = 'running'
    """,
    "UPDATE jobs SET current_attempt_id = 'att_' || id WHERE state = 'running'",
    "ANALYZE",
)
_AGE = "UPDATE allocations SET granted_at = granted_at - interval '5 hours'"
_PREEMPTING_ROUNDS = 5


def measure_rounds(count: int) -> dict[str, float | int]:
    """Return milliseconds of whole rounds and of their parts, median and 99th percentile.

    `own_processor` is what this process computed, without PostgreSQL: on a busy machine it says more.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    root = Path(tempfile.mkdtemp(prefix="steelyard-rounds-"))
    # Root's server runs as another user, who must be able to pass through.
    root.chmod(0o711)
    try:
        return _serve(HomeLayout(root), count)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _serve(layout: HomeLayout, count: int) -> dict[str, float | int]:
    prepare_home(layout)
    make_secrets(layout)
    place = choose_place(layout)
    spec = postgres_spec(layout, place, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    assert spec.prepare is not None
    spec.prepare()
    process = spawn(spec, layout.log("postgres"))
    try:
        asyncio.run(_become_ready(layout, place.sockets))
        dsn = socket_dsn(place.sockets, DATABASE_ROLE, DATABASE_NAME, read_secret(layout.database_password))
        migrate(dsn)
        return asyncio.run(_rounds(dsn, count))
    finally:
        process.terminate()
        process.wait(30)
        reap(process)


async def _become_ready(layout: HomeLayout, sockets: Path) -> None:
    probe = postgres_probe(sockets, "postgres")
    deadline = time.monotonic() + _START_SECONDS
    while not await probe():
        if time.monotonic() > deadline:
            raise RuntimeError(layout.log("postgres").read_text()[-2000:])
        await asyncio.sleep(0.05)
    await make_databases(layout, sockets)


async def _rounds(dsn: str, count: int) -> dict[str, float | int]:
    database = Database(dsn, name="bench")
    async with database.transaction() as session:
        for statement in _FILL:
            sizes = {"count": count, "running": _RUNNING}
            named = {name: size for name, size in sizes.items() if f":{name}" in statement}
            await session.execute(text(statement), named)
    admission = AdmissionService(database)
    gc.collect()
    gc.freeze()  # as the worker does, like its look before it leads
    await admission.look()
    first = await admission.lead_round()
    reports: list[RoundReport] = []
    processor: list[float] = []
    for _ in range(_WARM_UP + ROUNDS):
        began = time.process_time()
        reports.append(await admission.lead_round())
        processor.append(time.process_time() - began)
    reports, processor = reports[_WARM_UP:], processor[_WARM_UP:]
    async with database.transaction() as session:
        await session.execute(text(_AGE))
    preempting = [await admission.lead_round() for _ in range(_PREEMPTING_ROUNDS)]
    await database.close()
    found: dict[str, float | int] = {
        "queued": reports[-1].queued,
        "rounds": len(reports),
        "first_round_grants": first.grants,
        "first_round_ms": _ms([_whole(first)], 0.5),
        "preemptions": sum(report.preemptions for report in preempting),
        "preempting_round_ms_p50": _ms([_whole(report) for report in preempting], 0.5),
        "preempting_round_ms_max": _ms([_whole(report) for report in preempting], 1.0),
    }
    for name, seconds in (
        ("round", [_whole(report) for report in reports]),
        ("read", [report.read_seconds for report in reports]),
        ("decide", [report.decide_seconds for report in reports]),
        ("apply", [report.apply_seconds for report in reports]),
        ("own_processor", processor),
    ):
        found[f"{name}_ms_p50"], found[f"{name}_ms_p99"] = _ms(seconds, 0.5), _ms(seconds, 0.99)
    return found


def _whole(report: RoundReport) -> float:
    return report.read_seconds + report.decide_seconds + report.apply_seconds


def _ms(seconds: Iterable[float], part: float) -> float:
    ordered = sorted(seconds)
    return round(1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1)
