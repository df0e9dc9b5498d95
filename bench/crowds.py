"""Pools and queues for the rounds' bench, filled by a few statements each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from steelyard.storage.database import Database


@dataclass(frozen=True)
class Crowd:
    """What a database is filled with. Nodes have 8 GPUs; running jobs hold one each; specs have 1.5 kB."""

    queued: int = 10_000
    projects: int = 50
    nodes: int = 125
    running: int = 950
    ended: int = 0
    sizes: Sequence[int] = (1, 1, 1, 2, 4, 8)
    """GPUs that queued jobs ask for, in turn."""
    nominal: int | None = 15
    """Each project's quota; None: there is none."""
    holders: int | None = None
    """Of how many projects the running jobs are; None: of all."""
    alike: bool = True
    """Whether jobs share some priorities and limits; else each has its own, and so a lane of its own."""
    rewrites: int = 0
    """How often every queued row was written since its table was vacuumed."""


async def fill(database: Database, crowd: Crowd) -> None:
    """Fill an empty, migrated database."""
    values: dict[str, Any] = {
        "queued": crowd.queued,
        "projects": crowd.projects,
        "nodes": crowd.nodes,
        "running": crowd.running,
        "ended": crowd.ended,
        "sizes": list(crowd.sizes),
        "size_count": len(crowd.sizes),
        "nominal": crowd.nominal,
        "holders": crowd.holders or crowd.projects,
        "alike": crowd.alike,
    }
    async with database.transaction() as session:
        for statement in _FILL:
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            await session.execute(text(statement), named)
    for _ in range(crowd.rewrites):
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL statement_timeout = 0"))
            await session.execute(text("UPDATE jobs SET updated_at = now() WHERE state = 'queued'"))


_FILL = (
    "SET LOCAL statement_timeout = 0",
    "INSERT INTO projects (id) SELECT 'p' || n FROM generate_series(1, CAST(:projects AS INT)) n",
    "INSERT INTO flavors (name, price_per_gpu_hour) VALUES ('a100', 2), ('t4', 0.5)",
    """
    INSERT INTO nodes (name, executor, flavor, cpus, memory_bytes, gpu_ids, last_seen_at)
    SELECT 'n' || n, 'local', CASE WHEN n % 5 = 0 THEN 't4' ELSE 'a100' END, 64, 512000000000,
        (SELECT jsonb_agg('g' || g) FROM generate_series(1, 8) g), now() + interval '1 day'
    FROM generate_series(1, CAST(:nodes AS INT)) n
    """,
    """
    INSERT INTO quotas (project_id, flavor, nominal, updated_by, updated_at)
    SELECT 'p' || n, 'a100', CAST(:nominal AS INT), 'bench', now()
    FROM generate_series(1, CAST(:projects AS INT)) n WHERE CAST(:nominal AS INT) IS NOT NULL
    """,
    """
    INSERT INTO jobs (id, project_id, name, type, state, priority, spec, lineage, tags, desired,
        command_sequence, run_number, epoch, stage, attempts_count, retries_used, evictions, running_seconds,
        progress, metrics, prepared, created_by, created_at, queued_at)
    SELECT 'job_' || lpad(n::text, 8, '0'),
        'p' || (1 + i % CASE WHEN n <= CAST(:running AS INT) THEN CAST(:holders AS INT)
            ELSE CAST(:projects AS INT) END),
        'bench', 'fine_tune',
        CASE WHEN n <= CAST(:running AS INT) THEN 'running'
            -- The ended ones came between those that wait.
            WHEN n % share = 0 THEN 'queued'
            ELSE 'succeeded' END,
        CASE WHEN :alike THEN (ARRAY[300, 500, 700])[1 + i % 3] ELSE i * 7 % 1001 END,
        jsonb_build_object(
            'resources', jsonb_build_object(
                'gpus', (CAST(:sizes AS INT[]))[1 + (i / 50) % CAST(:size_count AS INT)],
                'cpus', 1, 'memory_gb', 4.0, 'spot', 'never'),
            'limits', jsonb_build_object('max_runtime_seconds',
                CASE WHEN :alike THEN (ARRAY[3600, 86400])[1 + (i / 7) % 2] ELSE 3600 + i END,
                'max_retries', 3),
            'padding', repeat('x', 1500)),
        '{}', '{}', 'run', 0, 0, 0, 'train', 0, 0, 0, 0, '{}', '{}', '{}', 'bench', moment, moment
    FROM generate_series(1, CAST(:queued AS INT) + CAST(:ended AS INT) + CAST(:running AS INT)) n,
        LATERAL (SELECT now() - interval '1 hour' + n * interval '0.01 second' AS moment) came,
        LATERAL (SELECT 1 + CAST(:ended AS INT) / CAST(:queued AS INT) AS share) ratio,
        LATERAL (SELECT n / share AS i) counted
    """,
    """
    INSERT INTO allocations (job_id, node, project_id, run_number, cpus, memory_bytes, gpu_ids, granted_at)
    SELECT id, 'n' || (1 + place % CAST(:nodes AS INT)), project_id, 0, 1, 4000000000,
        jsonb_build_array('g' || (1 + place / CAST(:nodes AS INT))), now() - interval '1 minute'
    FROM (SELECT id, project_id, row_number() OVER (ORDER BY id) AS place FROM jobs WHERE state = 'running')
        AS held
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
