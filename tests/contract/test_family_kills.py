"""A worker that dies at any statement of a look leaves nothing half done, and the next does the rest once."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import HandClock, open_pool
from tests.households import Household

from steelyard.governance.ledger import repository
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, EventRow, JobRow, LedgerDrawRow, OutboxRow

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def house(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Household]:
    clock = HandClock(datetime(2026, 5, 20, 12, tzinfo=UTC))
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        house = Household(await open_pool(plane, clock, LEASE_SECONDS))
        yield house
        await house.require_balance()


async def test_children_are_made_once(house: Household, database_dsn: str) -> None:
    parent = await house.submit(trials=3, side_by_side=1)
    assert await look_and_die(database_dsn, parent, stride=2) > 10
    (first,) = [child.id for child in await house.children(parent)]
    async with house.pool.plane.database.transaction() as session:
        keys = await session.scalars(select(OutboxRow.key).where(OutboxRow.topic == "start_job"))
        draws = await session.scalars(select(LedgerDrawRow.reservation_id))
        verbs = await session.execute(select(AuditRow.verb, AuditRow.object_id))
        events = await session.scalars(select(EventRow.type).where(EventRow.job_id == parent))
        assert list(keys) == [first]
        assert list(draws) == [parent]
        assert sorted(tuple(row) for row in verbs if row.verb == "job.submit") == [
            ("job.submit", parent),
            ("job.submit", first),
        ]
        assert Counter(events) == {"job.submitted": 1, "job.running": 1, "family.child": 1}
    assert await house.reserved() == 6


async def test_a_life_of_looks_that_all_die_ends_as_an_undisturbed_one(
    house: Household, database_dsn: str
) -> None:
    """Made, paused, resumed, cancelled, retried, ended: at each look workers die again and again."""
    commands = house.pool.plane.services.commands
    parent = await house.submit(trials=2, side_by_side=2)
    await look_and_die(database_dsn, parent)
    first, second = [child.id for child in await house.children(parent)]
    attempt = await house.start(first)

    await commands.pause(ADMIN, "default", parent)
    await look_and_die(database_dsn, parent)
    assert await house.states(parent) == ["pausing", "pausing"]
    await house.leave(attempt)
    await house.settle(second)
    await look_and_die(database_dsn, parent)
    assert (await house.pool.job(parent)).state is JobState.PAUSED
    assert await house.reserved() == 0

    await commands.resume(ADMIN, "default", parent)
    await look_and_die(database_dsn, parent)
    assert await house.states(parent) == ["resuming", "resuming"]
    assert await house.reserved() == 4

    await commands.cancel(ADMIN, "default", parent)
    await look_and_die(database_dsn, parent)
    assert await house.states(parent) == ["cancelling", "cancelling"]
    for child in (first, second):
        await house.settle(child)
    await look_and_die(database_dsn, parent)
    assert (await house.pool.job(parent)).state is JobState.CANCELLED
    assert await house.reserved() == 0

    await commands.retry(ADMIN, "default", parent)
    await look_and_die(database_dsn, parent, run=1)
    async with house.pool.plane.database.transaction() as session:
        runs = await session.scalars(select(JobRow.run_number).where(JobRow.parent_id == parent))
        assert list(runs) == [1, 1]
    for child in (first, second):
        await house.pool.end(await house.start(child, run=1))
        await house.end(child, JobState.SUCCEEDED, Reason.COMPLETED, run=1)
    await look_and_die(database_dsn, parent, run=1)
    await house.families.note_registration(parent, 1, accepted=True)
    await look_and_die(database_dsn, parent, run=1)
    assert (await house.pool.job(parent)).state is JobState.SUCCEEDED
    async with house.pool.plane.database.transaction() as session:
        assert await repository.open_reservations(session) == []


async def look_and_die(dsn: str, family: str, run: int = 0, stride: int = 19) -> int:
    """Kill each worker some statements later than the one before, until one gets through; return how many."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.killed_looks", dsn, family, str(run), str(stride),
        cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    endings = out.decode().split()
    assert set(endings[:-1]) == {f"-{int(signal.SIGKILL)}"}
    assert endings[-1] == "0"
    return len(endings)
