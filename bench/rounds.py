"""Whole rounds of the scheduler over a real PostgreSQL: read the snapshot, decide, write what follows.

`python bench/rounds.py [--queue 10000] [--only SHAPE ...]`, or `python bench/scheduler.py --queue 10000
--database`. One JSON object per shape of pool and queue: `round_ms` of many rounds, `first_round_ms` of new
leaders (a fresh process, that has looked at the queue as a worker does), and `eventful_round_ms` of rounds
that grant or preempt many at once. `cpu_ms` is what this process and PostgreSQL's backend computed together:
on a busy machine it says more.

The server is one of its own in a temporary folder, as the embedded platform makes it; every shape gets a
database and processes of its own.
"""

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import create_engine, make_url, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.crowds import Crowd, fill
from steelyard.jobs.admission import AdmissionService, RoundReport
from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.embedded.postgres import make_databases, postgres_spec
from steelyard.server.embedded.postgres_place import choose_place
from steelyard.server.embedded.probes import postgres_probe
from steelyard.server.embedded.spawning import reap, spawn
from steelyard.server.home import DATABASE_NAME, DATABASE_ROLE, HomeLayout, read_secret, socket_dsn
from steelyard.storage.database import Database
from steelyard.storage.migrations import migrate

Figures = dict[str, float | int]

_WARM_UP = 5
_START_SECONDS = 60.0
_FIRST_ROUNDS = 5


@dataclass(frozen=True)
class Shape:
    """A crowd, and what happens before each eventful round."""

    crowd: Crowd
    event: tuple[str, ...] = ()
    events: int = 0
    rounds: int = 60


_AGE = "UPDATE allocations SET granted_at = granted_at - interval '5 hours'"
_FREE_100 = (
    """
    UPDATE jobs SET state = 'running', current_attempt_id = NULL
    WHERE state = 'queued' AND id IN (SELECT job_id FROM allocations)
    """,
    """
    WITH over AS (
        DELETE FROM allocations WHERE job_id IN (SELECT job_id FROM allocations ORDER BY job_id LIMIT 100)
        RETURNING job_id
    )
    UPDATE jobs SET state = 'succeeded' FROM over WHERE jobs.id = over.job_id
    """,
)
_GUARANTEE_13 = (
    """
    INSERT INTO quotas (project_id, flavor, nominal, updated_by, updated_at)
    SELECT id, 'a100', 8, 'bench', now() FROM projects
    WHERE id LIKE 'p%' AND id NOT IN (SELECT project_id FROM quotas) ORDER BY id DESC LIMIT 13
    """,
)
SHAPES = {
    "usual": Shape(Crowd(), event=(_AGE,), events=5),
    "all_different": Shape(
        Crowd(projects=100, running=1000, nodes=200, nominal=12, alike=False), event=(_AGE,), events=5
    ),
    "large_and_bloated": Shape(
        Crowd(projects=100, running=1000, nodes=200, ended=50_000, nominal=12, rewrites=5)
    ),
    "grants_100": Shape(Crowd(sizes=(1,), running=1000), event=_FREE_100, events=9, rounds=20),
    "preempts_104": Shape(
        Crowd(sizes=(8,), running=1000, projects=100, holders=1, nominal=None),
        event=(_AGE, *_GUARANTEE_13),
        events=5,
        rounds=20,
    ),
}
"""`preempts_104`: one project has borrowed all; each time 13 others, who wait with 8 GPUs a job, are
guaranteed 8. `grants_100`: 100 running jobs end each time."""


def measure_rounds(count: int, only: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield milliseconds of rounds over `count` queued jobs, shape by shape."""
    root = Path(tempfile.mkdtemp(prefix="steelyard-rounds-"))
    # Root's server runs as another user, who must be able to pass through.
    root.chmod(0o711)
    try:
        yield from _serve(HomeLayout(root), count, list(only) or list(SHAPES))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _serve(layout: HomeLayout, count: int, names: list[str]) -> Iterator[dict[str, Any]]:
    prepare_home(layout)
    make_secrets(layout)
    place = choose_place(layout)
    spec = postgres_spec(layout, place, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    assert spec.prepare is not None
    spec.prepare()
    process = spawn(spec, layout.log("postgres"))
    try:
        asyncio.run(_become_ready(layout, place.sockets))
        migrate(_dsn(layout, place.sockets, DATABASE_NAME))
        for name in names:
            yield {"shape": name, **_in_own_process(layout, place.sockets, name, count)}
    finally:
        process.send_signal(signal.SIGINT)  # which ends those who are connected too
        process.wait(60)
        reap(process)


def _in_own_process(layout: HomeLayout, sockets: Path, name: str, count: int) -> Figures:
    """Let new processes fill a copy of the database and measure one shape: nothing is warm at first."""
    superuser = socket_dsn(sockets, "postgres", "postgres", read_secret(layout.superuser_password))
    engine = create_engine(
        make_url(superuser).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {DATABASE_NAME} OWNER {DATABASE_ROLE}"))
    engine.dispose()
    dsn = _dsn(layout, sockets, name)
    shape = replace(SHAPES[name], crowd=replace(SHAPES[name].crowd, queued=count))
    asyncio.run(_fill(dsn, shape.crowd))
    firsts = [_spawned(_first_round, dsn) for _ in range(_FIRST_ROUNDS)]
    found: Figures = {
        "first_round_ms_min": round(min(first["ms"] for first in firsts), 1),
        "first_round_ms_max": round(max(first["ms"] for first in firsts), 1),
        "first_round_cpu_ms_min": round(min(first["cpu"] for first in firsts), 1),
        "first_round_cpu_ms_max": round(max(first["cpu"] for first in firsts), 1),
        "first_round_grants": max(first["grants"] for first in firsts),
    }
    return found | _spawned(_rounds, dsn, shape)


def _spawned(measure: Callable[..., Figures], *args: object) -> Figures:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, args)


def _dsn(layout: HomeLayout, sockets: Path, name: str) -> str:
    return socket_dsn(sockets, DATABASE_ROLE, name, read_secret(layout.database_password))


async def _become_ready(layout: HomeLayout, sockets: Path) -> None:
    probe = postgres_probe(sockets, "postgres")
    deadline = time.monotonic() + _START_SECONDS
    while not await probe():
        if time.monotonic() > deadline:
            raise RuntimeError(layout.log("postgres").read_text()[-2000:])
        await asyncio.sleep(0.05)
    await make_databases(layout, sockets)


async def _fill(dsn: str, crowd: Crowd) -> None:
    database = Database(dsn, name="bench-fill")
    await fill(database, crowd)
    await database.close()


def _first_round(dsn: str) -> Figures:
    return asyncio.run(_lead_once(dsn))


async def _lead_once(dsn: str) -> Figures:
    leader = await _become_leader(dsn)
    first = await leader.lead()
    await leader.database.close()
    return {"ms": first.ms, "cpu": first.cpu_ms, "grants": first.report.grants}


def _rounds(dsn: str, shape: Shape) -> Figures:
    return asyncio.run(_lead(dsn, shape))


async def _lead(dsn: str, shape: Shape) -> Figures:
    leader = await _become_leader(dsn)
    for _ in range(_WARM_UP):
        await leader.lead()
    rounds = [await leader.lead() for _ in range(shape.rounds)]
    reports = [each.report for each in rounds]
    found: Figures = {
        "queued": reports[-1].queued,
        "grants": sum(report.grants for report in reports),
        "preemptions": sum(report.preemptions for report in reports),
        **_spread("round", rounds),
    }
    for part in ("read", "decide", "apply"):
        seconds = [getattr(report, f"{part}_seconds") for report in reports]
        found[f"{part}_ms_p50"] = round(1e3 * sorted(seconds)[len(seconds) // 2], 1)
    eventful: list[Measured] = []
    for _ in range(shape.events):
        async with leader.database.transaction() as session:
            for statement in shape.event:
                await session.execute(text(statement))
        eventful.append(await leader.lead())
    if eventful:
        found |= _spread("eventful_round", eventful)
        found["eventful_grants"] = sum(each.report.grants for each in eventful)
        found["eventful_preemptions"] = sum(each.report.preemptions for each in eventful)
    await leader.database.close()
    return found


@dataclass(frozen=True)
class Measured:
    """A round, and what this process and PostgreSQL's computed for it."""

    report: RoundReport
    cpu_ms: float

    @property
    def ms(self) -> float:
        """How long it took."""
        report = self.report
        return 1e3 * (report.read_seconds + report.decide_seconds + report.apply_seconds)


@dataclass(frozen=True)
class Leader:
    """Who leads, over one connection, as in a worker."""

    database: Database
    admission: AdmissionService
    backend: int

    async def lead(self) -> Measured:
        """Lead a round."""
        before = self._cpu_ms()
        report = await self.admission.lead_round()
        return Measured(report, self._cpu_ms() - before)

    def _cpu_ms(self) -> float:
        postgres = int(Path(f"/proc/{self.backend}/schedstat").read_text().split()[0])
        return 1e3 * time.process_time() + postgres / 1e6


async def _become_leader(dsn: str) -> Leader:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    database = Database(dsn, name="bench", pool_size=1)
    admission = AdmissionService(database)
    gc.collect()
    gc.freeze()  # as the worker does, like its look before it leads
    await admission.look()
    async with database.transaction() as session:
        backend = int(await session.scalar(text("SELECT pg_backend_pid()")) or 0)
    return Leader(database, admission, backend)


def _spread(name: str, rounds: Iterable[Measured]) -> Figures:
    """Return quantiles of the time; below 100 rounds the 99th percentile is the maximum."""
    measured = list(rounds)
    ordered = sorted(each.ms for each in measured)
    cpu = sorted(each.cpu_ms for each in measured)
    last = len(ordered) - 1
    places = {"min": 0, "p50": len(ordered) // 2, "p99": int(0.99 * len(ordered)), "max": last}
    found = {f"{name}_ms_{key}": round(ordered[min(last, place)], 1) for key, place in places.items()}
    return {
        **found,
        f"{name}_cpu_ms_min": round(cpu[0], 1),
        f"{name}_cpu_ms_p50": round(cpu[len(cpu) // 2], 1),
    }


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queue", type=int, default=10_000, help="queued jobs (10,000)")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=[], help="shapes (all)")
    arguments = parser.parse_args()
    for figures in measure_rounds(arguments.queue, arguments.only):
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
