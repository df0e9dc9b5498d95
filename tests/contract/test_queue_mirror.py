"""The queue that a leader keeps in memory, held to what the jobs' own rows say, under random writes."""

import json
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from tests.databases import api_dsn, worker_dsn

from steelyard.compute.queue_mirror import QueueMirror
from steelyard.compute.scheduler import QueuedJob, SpotPolicy
from steelyard.compute.scheduler.queue import Lane, lane_of
from steelyard.storage.database import Database

JOBS = 60
_INSERT = text(
    """
    INSERT INTO jobs (id, project_id, name, type, state, priority, spec, lineage, tags, desired,
        command_sequence, run_number, epoch, stage, attempts_count, retries_used, evictions, running_seconds,
        progress, metrics, prepared, created_by, created_at, queued_at)
    VALUES (:id, :project, 'x', 'fine_tune', :state, :priority, CAST(:spec AS JSONB), '{}', '{}', 'run', 0, 0,
        0, 'train', 0, 0, 0, 0, '{}', '{}', '{}', 'x', now() - make_interval(secs => :age), now())
    """
)
# What a round read before there was a table for it: all from the jobs and what refers to them.
_PLAIN = text(
    """
    SELECT job.id, job.project_id, job.priority, asked_gpus, asked_cpus, asked_memory_bytes, asked_nodes,
        asked_flavors, asked_spot, asked_price_cap,
        CASE WHEN running_seconds = 0 THEN asked_seconds
            ELSE GREATEST(1, asked_seconds - running_seconds) END AS seconds_left,
        asked_retries BETWEEN 1 AND retries_used AS last_launch, running_seconds, job.status_reason,
        (SELECT array_agg(for_job_id ORDER BY for_job_id COLLATE "C") FROM preemptions
            WHERE preemptions.job_id = job.id) AS way_for,
        EXTRACT(EPOCH FROM CASE WHEN job.command_sequence = 0 THEN job.created_at
            ELSE COALESCE(job.queued_at, job.created_at) END)::FLOAT8 AS moment,
        (SELECT nodes FROM nominations WHERE nominations.job_id = job.id) AS nodes
    FROM jobs job
    WHERE job.state = 'queued' AND job.desired = 'run'
        AND NOT EXISTS (SELECT FROM allocations held WHERE held.job_id = job.id)
    """
)
_WRITES = (
    "UPDATE jobs SET state = 'queued', queued_at = clock_timestamp() WHERE id = :job",
    "UPDATE jobs SET state = (ARRAY['running', 'succeeded', 'paused'])[1 + :number % 3] WHERE id = :job",
    "UPDATE jobs SET priority = :number % 4, command_sequence = command_sequence + 1 WHERE id = :job",
    "UPDATE jobs SET desired = (ARRAY['run', 'run', 'pause'])[1 + :number % 3] WHERE id = :job",
    "UPDATE jobs SET running_seconds = running_seconds + :number * 0.1, retries_used = :number % 4"
    " WHERE id = :job",
    "UPDATE jobs SET status_reason = (ARRAY['waiting_for_capacity', 'quota_exceeded'])[1 + :number % 2]"
    " WHERE id = :job",
    "UPDATE jobs SET progress = '{\"step\": 1}' WHERE id = :job",
    "INSERT INTO allocations (job_id, node, project_id, run_number, cpus, memory_bytes, gpu_ids)"
    " SELECT id, 'n' || i, project_id, 0, 1, 1, '[]' FROM jobs, generate_series(1, 1 + :number % 2) i"
    " WHERE id = :job ON CONFLICT DO NOTHING",
    "DELETE FROM allocations WHERE job_id = :job",
    "DELETE FROM allocations WHERE job_id = :job AND node = 'n1'",
    "INSERT INTO preemptions (job_id, for_job_id, project_id, reason, at)"
    " SELECT id, 'job_' || :number % 5, project_id, 'turn', now() FROM jobs WHERE id = :job"
    " ON CONFLICT (job_id, for_job_id) DO UPDATE SET at = excluded.at",
    "INSERT INTO nominations (job_id, project_id, nodes, since)"
    " SELECT id, project_id, jsonb_build_array('n' || :number % 3), now() FROM jobs WHERE id = :job"
    " ON CONFLICT (job_id) DO UPDATE SET nodes = excluded.nodes",
    "DELETE FROM nominations WHERE job_id = :job",
)


@pytest.fixture
async def filled(database: Database) -> Database:
    """Jobs of two projects, some of which wait."""
    rng = random.Random(1)
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO projects (id) VALUES ('ann'), ('bob')"))
        for number in range(JOBS):
            await session.execute(_INSERT, _job(number, rng))
    return database


@pytest.mark.parametrize("seed", range(3))
async def test_it_equals_a_plain_read_whatever_is_written_and_whoever_has_not_committed(
    filled: Database, seed: int
) -> None:
    rng = random.Random(seed)
    mirror = QueueMirror()
    free = list(range(JOBS))
    async with AsyncExitStack() as stack:
        writers: list[tuple[AsyncExitStack, AsyncSession, list[int]]] = []
        for _ in range(150):
            if len(writers) < 3 and rng.random() < 0.5:
                own = await stack.enter_async_context(AsyncExitStack())
                session = await own.enter_async_context(filled.transaction())
                # As in the platform, who changes a job holds its row: no two change one at a time.
                rng.shuffle(free)
                mine, free = free[:8], free[8:]
                writers.append((own, session, mine))
            if writers:
                _, session, mine = rng.choice(writers)
                values = {"job": f"job_{rng.choice(mine)}", "number": rng.randrange(1000)}
                await _write(session, rng.choice(_WRITES), values)
            if writers and rng.random() < 0.3:
                own, session, mine = writers.pop(rng.randrange(len(writers)))
                if rng.random() < 0.3:
                    await session.rollback()
                await own.aclose()
                free += mine
            if rng.random() < 0.4:
                await _hold_to_plain_read(filled, mirror)
        for own, _, _ in writers:
            await own.aclose()
    await _hold_to_plain_read(filled, mirror)


async def test_a_restart_of_the_server_is_no_reason_to_believe_what_was_seen(filled: Database) -> None:
    mirror = QueueMirror()
    await _hold_to_plain_read(filled, mirror)
    mirror._server_started = mirror._server_started.replace(year=2000)  # pyright: ignore[reportPrivateUsage]
    async with filled.transaction() as session:
        # What a server that went back in time would have forgotten.
        await session.execute(text("UPDATE jobs SET state = 'paused' WHERE id IN ('job_1', 'job_2')"))
        await session.execute(
            text("UPDATE queue_entries SET changed = '3' WHERE job_id IN ('job_1', 'job_2')")
        )
    await _hold_to_plain_read(filled, mirror)


async def test_rows_with_numbers_of_another_server_are_read_once(filled: Database) -> None:
    async with filled.transaction() as session:
        await session.execute(text("UPDATE queue_entries SET changed = '1000000000'"))
    mirror = QueueMirror()
    await _hold_to_plain_read(filled, mirror)
    async with filled.transaction() as session:
        await session.execute(text("UPDATE jobs SET priority = 77, state = 'queued' WHERE id = 'job_3'"))
    await _hold_to_plain_read(filled, mirror)


@pytest.mark.parametrize("login", [api_dsn, worker_dsn])
async def test_nobody_but_the_triggers_writes_it(filled: Database, database_dsn: str, login: Any) -> None:
    database = Database(login(database_dsn))
    for statement in (
        "UPDATE queue_entries SET wants = false",
        "DELETE FROM queue_entries",
        "INSERT INTO queue_entries (job_id, project_id, wants, lane, moment) VALUES ('x', 'a', true, '', 0)",
    ):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.transaction() as session:
                await session.execute(text(statement))
    await database.close()


def _job(number: int, rng: random.Random) -> dict[str, Any]:
    resources: dict[str, Any] = {"gpus": rng.choice((0, 1, 8)), "cpus": 2, "memory_gb": 1.5}
    if rng.random() < 0.3:
        resources |= {"flavors": ["a", "b"], "spot": rng.choice(("prefer", "only", True))}
    if rng.random() < 0.2:
        resources["max_price_per_gpu_hour"] = 1.25
    limits = {"max_runtime_seconds": rng.choice((60, 3600)), "max_retries": rng.choice((0, 2))}
    return {
        "id": f"job_{number}",
        "project": rng.choice(("ann", "bob")),
        "state": rng.choice(("queued", "queued", "running", "succeeded")),
        "priority": rng.randrange(3),
        "age": number,
        "spec": json.dumps({"resources": resources, "limits": limits}),
    }


async def _write(session: AsyncSession, statement: str, values: dict[str, Any]) -> None:
    await session.execute(text("SELECT id FROM jobs WHERE id = :job FOR UPDATE"), values)
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    await session.execute(text(statement.replace(":number", "CAST(:number AS INT)")), used)


async def _hold_to_plain_read(database: Database, mirror: QueueMirror) -> None:
    fresh = QueueMirror()
    async with database.transaction() as session:
        await mirror.refresh(session)
        await fresh.refresh(session)
        rows = (await session.execute(_PLAIN)).all()
    nominations = {row.id: tuple(row.nodes) for row in rows if row.nodes} | {"job_gone": ("n1",)}
    expected = sorted(map(_place, map(_queued, rows)))
    told = {row.id: row.status_reason for row in rows}
    for each in (mirror, fresh):
        queue = each.queue(nominations)
        assert sorted(map(_place, queue)) == expected
        assert len(queue) == len(expected)
        for lane, jobs in queue.lanes.items():
            assert [lane_of(job) for job in jobs] == [lane] * len(jobs)
            assert [job.submitted_seconds for job in jobs] == sorted(job.submitted_seconds for job in jobs)
        found = {
            name: reason for crowd in each.crowds() for reason, ids in crowd.told.items() for name in ids
        }
        assert found == told
        crowds = {(crowd.lane.project, crowd.lane.shape) for crowd in each.crowds()}
        assert crowds == {(lane.project, lane.shape) for _, lane, *_ in expected}


def _place(job: QueuedJob) -> tuple[str, Lane, float, tuple[str, ...]]:
    """Return all of a job that counts: retries are in its shape, where they make a difference."""
    return job.id, lane_of(job), job.submitted_seconds, job.nominated_nodes


def _queued(row: Any) -> QueuedJob:
    return QueuedJob(
        id=row.id,
        project=row.project_id,
        submitted_seconds=row.moment,
        cpus=row.asked_cpus,
        memory_bytes=row.asked_memory_bytes,
        gpus=row.asked_gpus,
        nodes=row.asked_nodes,
        priority=row.priority,
        flavors=tuple(json.loads(row.asked_flavors)),
        spot=SpotPolicy(row.asked_spot),
        max_price_per_gpu_hour=row.asked_price_cap,
        retries_left=0 if row.last_launch else 1,
        max_runtime_seconds=float(row.seconds_left),
        ran_seconds=row.running_seconds,
        nominated_nodes=tuple(row.nodes or ()),
        made_way_for=tuple(row.way_for or ()),
    )
