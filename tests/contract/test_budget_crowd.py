"""Sixty-four clients at once, over HTTP, against one budget and one quota, admitted by real rounds.

Some of them submit searches, whose trials draw on what their search has reserved.

The ledger has to add up at every moment, and what the project holds never passes its quota.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from sqlalchemy import ColumnElement, Engine, select, text
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import FLAVOR, Attempt, HandClock, Pool, gpu_spec, open_pool
from tests.households import plain_step, search_spec

from steelyard.governance.ledger import repository
from steelyard.jobs.families import FamilyService, FamilyStanding
from steelyard.kit.errors import Overloaded
from steelyard.specs.families import Child, FamilyStep
from steelyard.specs.job import HpoSpec
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.pool import QuotaChange
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

CLIENTS = 64
JOBS_EACH = 2
SEARCHES, TRIALS = 0.2, 2
"""Part of the jobs that are searches, and their trials."""
NODES = 4
NOMINAL, BORROWING_LIMIT = 8, 4
BOUND = NOMINAL + BORROWING_LIMIT
"""GPUs that the project may hold, of NODES * 8."""
_BUSY_STATUSES = (429, 503)
_WATCH = """
    CREATE TABLE holdings_seen (project_id TEXT NOT NULL, gpus BIGINT NOT NULL);
    CREATE FUNCTION see_holdings() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO holdings_seen
        SELECT project_id, sum(jsonb_array_length(gpu_ids)) FROM allocations GROUP BY project_id;
        RETURN NULL;
    END
    $$;
    GRANT SELECT ON holdings_seen TO PUBLIC;
    CREATE TRIGGER watched AFTER INSERT OR UPDATE ON allocations
        FOR EACH STATEMENT EXECUTE FUNCTION see_holdings();
"""
"""Notes what projects hold after each statement that could give them more, be it committed or not."""


@pytest.fixture
async def pool(database_dsn: str, superuser: Engine, tmp_path: Path) -> AsyncGenerator[Pool]:
    """Nodes with 32 GPUs, of which the project may hold 12; every grant is watched."""
    with superuser.connect() as connection:
        connection.execute(text(_WATCH))
    clock = HandClock(datetime(2026, 5, 20, 12, tzinfo=UTC))
    database = Database(database_dsn, pool_size=20, pool_timeout_seconds=60, name="crowd")
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        found = await open_pool(plane, clock, LEASE_SECONDS, NODES)
        quota = QuotaChange(nominal=NOMINAL, borrowing_limit=BORROWING_LIMIT)
        await plane.services.quotas.put(ADMIN, "default", FLAVOR, quota)
        yield found
    await database.close()


async def test_a_crowd_on_one_budget_never_passes_it_and_leaves_nothing_reserved(pool: Pool) -> None:
    """Reservations alone keep the limit here: no job runs longer than it said."""
    await pool.set_budget(gpu_hours="2.5", money="9.5")
    crowd = _Crowd(pool, random.Random(1))

    await crowd.run()

    figures = await pool.standing()
    assert 0 < figures["gpu_hours"].spent <= Decimal("2.5")
    assert 0 < figures["money"].spent <= Decimal("9.5")
    assert crowd.answers[402] > 0
    assert crowd.answers[202] >= 10
    assert crowd.searched > 0
    await _require_settled(pool, crowd)
    # Without a quota the same crowd holds more, so the bound is one that bound.
    assert NOMINAL < await _most_held(pool) <= BOUND


async def test_a_crowd_whose_limit_falls_beneath_it_stops_within_one_lease(pool: Pool) -> None:
    """All run on when the limit is cut to a tenth; each report that comes after is one to stop."""
    await pool.set_budget(gpu_hours=200)
    crowd = _Crowd(pool, random.Random(3), cut_after=15)

    await crowd.run()

    figures = await pool.standing()
    assert crowd.cut_at is not None
    bound = Decimal(BOUND) * Decimal(LEASE_SECONDS) / 3600
    assert figures["gpu_hours"].spent <= crowd.cut_at + bound
    assert crowd.held > 0
    await _require_settled(pool, crowd)
    assert 0 < await _most_held(pool) <= BOUND


class _Crowd:
    """Clients that submit, run and end jobs at random, with time passing between."""

    def __init__(self, pool: Pool, draw: random.Random, cut_after: int | None = None) -> None:
        self._pool = pool
        self._draw = draw
        self._cut_after = cut_after
        self._reports = 0
        self.answers: Counter[int] = Counter()
        self.jobs: list[str] = []
        self.held = 0
        self.searched = 0
        self.searches: list[str] = []
        database = pool.plane.database
        self._families = FamilyService(database, {"hpo": plain_step}, pool.clock)
        self._dying = FamilyService(database, {"hpo": _step_and_die}, pool.clock)
        self.cut_at: Decimal | None = None

    async def run(self) -> None:
        """Let all of them live, with the keeper's rounds and the clock beside them."""
        stop = asyncio.Event()
        async with self._pool.plane.http() as http:
            http.timeout = httpx.Timeout(60)
            async with asyncio.TaskGroup() as group:
                beside = group.create_task(self._keep(stop))
                clients = [group.create_task(self._client(http)) for _ in range(CLIENTS)]
                await asyncio.gather(*clients)
                stop.set()
                await beside
        await self._pool.keeper.run_round()
        for parent in self.searches:
            # A held search that has nothing left to run goes on, and so to its end.
            await self._look(parent)

    async def _keep(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._pool.clock.forward(1)
            await self._pool.keeper.run_round()
            async with self._pool.plane.database.transaction() as session:
                assert await repository.imbalances(session) == []
            await asyncio.sleep(0)

    async def _client(self, http: httpx.AsyncClient) -> None:
        for _ in range(JOBS_EACH):
            gpus, seconds = self._draw.choice((1, 2, 4, 8)), self._draw.choice((30, 120, 600))
            searches = self._draw.random() < SEARCHES
            spec = search_spec(TRIALS, TRIALS, gpus, seconds) if searches else gpu_spec(gpus, seconds)
            answer = await http.post("/v1/projects/default/jobs", json=spec)
            self.answers[answer.status_code] += 1
            assert answer.status_code in (202, 402, *_BUSY_STATUSES), answer.text
            if answer.status_code == 202:
                self.jobs.append(answer.json()["id"])
                live = self._live_as_family if searches else self._live
                await live(http, answer.json()["id"], seconds)

    async def _live_as_family(self, http: httpx.AsyncClient, parent: str, seconds: int) -> None:
        """Live as a search: looks between all that its trials do; some workers die before their commit."""
        self.searches.append(parent)
        while not (standing := await self._look(parent)).over:
            if standing.chosen is not None:
                self.searched += 1
                await self._families.note_registration(parent, 0, accepted=True)
            if standing.state is JobState.PAUSED:
                return
            for child in await self._rows(JobRow.parent_id == parent):
                self.jobs += [child.id] if child.id not in self.jobs else []
                if JobState(child.state) not in TERMINAL_STATES:
                    await self._live(http, child.id, seconds)
            if self._draw.random() < 0.1:
                await http.post(f"/v1/projects/default/jobs/{parent}/cancel")

    async def _look(self, parent: str) -> FamilyStanding:
        if self._draw.random() < 0.3:
            with contextlib.suppress(_Killed):
                await self._dying.advance(parent, 0)
        return await self._families.advance(parent, 0)

    async def _live(self, http: httpx.AsyncClient, job: str, seconds: int) -> None:
        if self._draw.random() < 0.2:
            await http.post(f"/v1/projects/default/jobs/{job}/cancel")
            await self._end_job(job, JobState.CANCELLED)
            return
        attempt = await self._start(job)
        if attempt is not None:
            last = self._pool.clock.now + timedelta(seconds=seconds - 5)
            for _ in range(self._draw.randrange(1, 6)):
                await asyncio.sleep(0)
                if self._pool.clock.now > last or await self._report(attempt):
                    break
            await self._pool.end(attempt, OutcomeKind.CHECKPOINTED)
        await self._end_job(job, self._draw.choice((JobState.SUCCEEDED, JobState.FAILED)))

    async def _start(self, job: str) -> Attempt | None:
        """Run the job where there is room by the third round, else leave it in the queue."""
        for _ in range(3):
            with contextlib.suppress(AssertionError):
                return await self._pool.start(job)
        return None

    async def _report(self, attempt: Attempt) -> bool:
        self._reports += 1
        if self._reports == self._cut_after:
            spent = (await self._pool.standing())["gpu_hours"].spent
            await self._pool.set_budget(gpu_hours=f"{spent:.5f}")
            self.cut_at = (await self._pool.standing())["gpu_hours"].spent
        try:
            return (await self._pool.report(attempt)).stop
        except Overloaded:
            return False  # it tells more with its next report

    async def _rows(self, condition: ColumnElement[bool]) -> list[JobRow]:
        """Read jobs as the worker does, which waits its turn for a connection."""
        async with self._pool.plane.database.transaction() as session:
            return list(await session.scalars(select(JobRow).where(condition).order_by(JobRow.id)))

    async def _end_job(self, job: str, target: JobState) -> None:
        (row,) = await self._rows(JobRow.id == job)
        if row.status_reason in (Reason.BUDGET_EXHAUSTED, Reason.FAMILY_PAUSED):
            self.held += 1
            target = JobState.PAUSED
        if row.state == JobState.CANCELLING:
            target = JobState.CANCELLED
        for state in (target, JobState.FAILED):
            moved = await self._pool.plane.lifecycle.move(job, 0, state, None, "over", release=True)
            if moved.moved:
                return


class _Killed(Exception):
    """Stands for a worker that dies in the middle of a look."""


def _step_and_die(spec: HpoSpec, children: Sequence[Child]) -> FamilyStep:
    plain_step(spec, children)
    raise _Killed


async def _require_settled(pool: Pool, crowd: _Crowd) -> None:
    """The ledger balances, and nothing is held for a job that is over."""
    async with pool.plane.database.transaction() as session:
        assert await repository.imbalances(session) == []
        open_ = set(await repository.open_reservations(session))
        live = set(
            await session.scalars(
                text("SELECT id FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'paused')")
            )
        )
        metered = await session.scalar(text("SELECT count(*) FROM attempt_meters WHERE NOT closed"))
        placed = await session.scalar(text("SELECT count(*) FROM allocations"))
    assert open_ <= live
    assert not live.intersection(crowd.jobs)
    assert (metered, placed) == (0, 0)
    figures = await pool.standing()
    assert (figures["gpu_hours"].reserved, figures["money"].reserved) == (0, 0)


async def _most_held(pool: Pool) -> int:
    """Return the most GPUs that the project ever held."""
    async with pool.plane.database.transaction() as session:
        return await session.scalar(text("SELECT max(gpus) FROM holdings_seen WHERE project_id = 'default'"))
