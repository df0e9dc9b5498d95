"""Rounds of the scheduler against a real database: promises, leaders, crowds, and the use that is charged."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.databases import worker_dsn
from tests.gpu_pool import FLAVOR, HandClock, Pool, gpu_spec, open_pool

from steelyard.compute.settings import scheduler_policy
from steelyard.compute.usage import charge, held_for, usage_at
from steelyard.jobs import admission
from steelyard.jobs.admission import AdmissionService
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.pool import PoolPolicy, PoolSettings, QuotaChange
from steelyard.specs.states import JobState
from steelyard.storage.database import Database

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HALF_LIFE_SECONDS = PoolPolicy().usage_half_life_seconds


@pytest.fixture
async def pool(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Pool]:
    """Two nodes of eight GPUs, three projects, and rules under which anybody may be preempted."""
    clock = HandClock(START)
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('ann'), ('bob')"))
        found = await open_pool(plane, clock, LEASE_SECONDS, nodes=2)
        rules = PoolSettings(policy=PoolPolicy(min_runtime_seconds=0, entry_penalty_seconds=0))
        await plane.services.pool.put_settings(ADMIN, rules)
        yield found


async def quota(pool: Pool, project: str, nominal: int, **limits: Any) -> None:
    """Set a quota."""
    change = QuotaChange(nominal=nominal, **limits)
    await pool.plane.services.quotas.put(ADMIN, project, FLAVOR, change)


async def queue(pool: Pool, project: str, gpus: int, **blocks: Any) -> str:
    """Submit a job and bring it into the queue."""
    body = json.dumps(gpu_spec(gpus, 3600, **blocks)).encode()
    job_id = (await pool.plane.services.submission.submit(ADMIN, project, body, None)).job_id
    await pool.plane.lifecycle.move(job_id, 0, JobState.QUEUED, None, "waiting for a place")
    return job_id


async def pass_time(pool: Pool, seconds: float) -> None:
    """Let time pass, in which the nodes' agents go on reporting."""
    pool.clock.forward(seconds)
    async with pool.plane.database.transaction() as session:
        await session.execute(text("UPDATE nodes SET last_seen_at = :now"), {"now": pool.clock()})


async def rows(pool: Pool, query: str) -> list[Any]:
    """Return what a query finds."""
    async with pool.plane.database.transaction() as session:
        return list(await session.execute(text(query)))


async def released(pool: Pool, job_id: str) -> None:
    """Let a job that was asked to leave do so."""
    await pool.plane.lifecycle.move(job_id, 0, JobState.QUEUED, "preempted", "made room", release=True)


class TestPromises:
    async def test_reclaim_takes_a_place_back_and_a_new_leader_keeps_the_promise(self, pool: Pool) -> None:
        await quota(pool, "ann", 8)
        borrowers = [await queue(pool, "bob", 8) for _ in range(2)]
        await pool.plane.admission.run_round()
        await pass_time(pool, 60)
        attempts = {job_id: await pool.launch(job_id, "0:1") for job_id in borrowers}
        owner = await queue(pool, "ann", 8)
        assert await pool.plane.admission.run_round() == 0
        (victim,) = [row.job_id for row in await rows(pool, "SELECT job_id FROM preemptions")]
        assert (await pool.report(attempts[victim])).stop
        (promise,) = await rows(pool, "SELECT job_id, nodes, since FROM nominations")
        assert promise.job_id == owner

        rival = await queue(pool, "bob", 8, priority=1000)
        await pool.end(attempts[victim], OutcomeKind.CHECKPOINTED)
        await released(pool, victim)
        another = AdmissionService(pool.plane.workers, pool.clock)
        await pass_time(pool, 1)
        assert await another.run_round() == 1
        held = {row.job_id: row.node for row in await rows(pool, "SELECT job_id, node FROM allocations")}
        assert held[owner] == promise.nodes[0]
        assert rival not in held
        assert owner not in {row.job_id for row in await rows(pool, "SELECT job_id FROM nominations")}

    async def test_explain_tells_who_borrows_until_when_and_names_no_other_tenants_jobs(
        self, pool: Pool
    ) -> None:
        await quota(pool, "ann", 8)
        borrowers = [await queue(pool, "bob", 8) for _ in range(2)]
        await pool.plane.admission.run_round()
        for job_id in borrowers:
            await pool.launch(job_id, "0:1")
        waiting = await queue(pool, "ann", 8)
        await pass_time(pool, 600)
        explained = await pool.plane.services.queries.explain(ADMIN, "ann", waiting)
        said = " ".join(explained.waiting_for)
        assert explained.queue_position == 1
        assert "1 other projects borrow 16 sim-a100 GPUs, 8 of them of what is guaranteed to ann" in said
        assert "until its time limit in 50 minutes" in said
        assert "ann holds 0 of 16 sim-a100 GPUs: 8 are guaranteed to it" in said
        assert not any(job_id in said + explained.summary for job_id in borrowers)

    async def test_a_raised_priority_counts_at_once_and_may_preempt(self, pool: Pool) -> None:
        low = [await queue(pool, "bob", 8, priority=400) for _ in range(2)]
        await pool.plane.admission.run_round()
        for job_id in low:
            await pool.launch(job_id, "0:1")
        await pass_time(pool, 60)
        waiting = await queue(pool, "bob", 8, priority=300)
        await pool.plane.admission.run_round()
        assert await rows(pool, "SELECT * FROM preemptions") == []
        await pool.plane.services.commands.set_priority(ADMIN, "bob", waiting, 900)
        await pool.plane.admission.run_round()
        (made,) = await rows(pool, "SELECT job_id, for_job_id, reason FROM preemptions")
        assert (made.for_job_id, made.reason) == (waiting, "priority")
        assert made.job_id in low

    async def test_a_fresh_job_takes_the_place_of_one_that_has_had_its_turn_and_keeps_it(
        self, pool: Pool
    ) -> None:
        old = [await queue(pool, "bob", 8) for _ in range(2)]
        await pool.plane.admission.run_round()
        attempts = {job_id: await pool.launch(job_id, "0:1") for job_id in old}
        await pass_time(pool, 1400)
        fresh = await queue(pool, "bob", 8)
        await pass_time(pool, 390)
        await pool.plane.admission.run_round()
        assert await rows(pool, "SELECT * FROM preemptions") == [], "8 GPUs use 4 GPU-hours in 1,800 seconds"
        said = " ".join((await pool.plane.services.queries.explain(ADMIN, "bob", fresh)).waiting_for)
        assert "this one has used 0.00: it may take the place of one of no higher priority" in said

        await pass_time(pool, 20)
        await pool.plane.admission.run_round()
        assert await rows(pool, "SELECT * FROM preemptions") == [], (
            "a script that never saved keeps its place"
        )
        async with pool.plane.database.transaction() as session:
            await session.execute(_SAVED)
        await pool.plane.admission.run_round()
        (made,) = await rows(pool, "SELECT job_id, for_job_id, reason FROM preemptions")
        assert (made.for_job_id, made.reason) == (fresh, "turn")
        await pool.end(attempts[made.job_id], OutcomeKind.CHECKPOINTED)
        await released(pool, made.job_id)
        assert await pool.plane.admission.run_round() == 1
        assert fresh in {row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")}

        await pool.launch(fresh, "0:1")
        await pass_time(pool, 3000)
        await pool.plane.admission.run_round()
        assert len(await rows(pool, "SELECT * FROM preemptions")) == 1, "who has had its turn takes no place"
        explained = await pool.plane.services.queries.explain(ADMIN, "bob", made.job_id)
        assert "and this one has used 4.02" in " ".join(explained.waiting_for)

    async def test_a_gang_is_made_room_for_by_all_in_its_way_at_once_and_each_is_told_once(
        self, pool: Pool
    ) -> None:
        await quota(pool, "ann", 16)
        borrowers = [await queue(pool, "bob", 4) for _ in range(4)]
        await pool.plane.admission.run_round()
        attempts = [await pool.launch(job_id, "0:1") for job_id in borrowers[:3]]
        await pass_time(pool, 60)
        gang = await queue(pool, "ann", 8, distributed={"strategy": "ddp", "num_nodes": 2})
        await pool.plane.admission.run_round()
        await pool.plane.admission.run_round()
        made = await rows(pool, "SELECT job_id, for_job_id FROM preemptions")
        assert sorted(row.job_id for row in made) == sorted(borrowers)
        assert {row.for_job_id for row in made} == {gang}
        assert all([(await pool.report(attempt)).stop for attempt in attempts])
        told = await rows(pool, "SELECT job_id FROM events WHERE type = 'job.leaving' AND level = 'warn'")
        assert sorted(row.job_id for row in told) == sorted(borrowers)
        signals = await rows(pool, "SELECT key FROM outbox WHERE payload->>'signal' = 'preempt'")
        assert sorted(row.key for row in signals) == sorted(borrowers[:3])
        held = {row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")}
        assert held == set(borrowers[:3]), "who had no attempt yet has left already"

    async def test_who_has_no_attempt_yet_gives_its_place_back_at_once(self, pool: Pool) -> None:
        await quota(pool, "ann", 16)
        granted = [await queue(pool, "bob", 8) for _ in range(2)]
        await pool.plane.admission.run_round()
        await pass_time(pool, 60)
        owner = await queue(pool, "ann", 8)
        await pool.plane.admission.run_round()
        (victim,) = [row.job_id for row in await rows(pool, "SELECT job_id FROM preemptions")]
        assert victim in granted
        launched = await pool.plane.lifecycle.start_attempt(victim, 0, "0:1", "train")
        assert launched.attempt_id is None
        assert await pool.plane.admission.run_round() == 1
        assert owner in {row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")}


class TestLeaders:
    async def test_a_killed_leader_is_replaced_at_once(
        self, pool: Pool, superuser: Engine, database_dsn: str
    ) -> None:
        job_id = await queue(pool, "bob", 1)
        dead = Database(worker_dsn(database_dsn), name="dead-leader")
        holding, killed = asyncio.Event(), asyncio.Event()

        async def lead() -> None:
            async with dead.transaction() as session:
                assert await session.scalar(text("SELECT pg_try_advisory_xact_lock(7316111)"))
                holding.set()
                await killed.wait()
                await session.execute(text("SELECT 1"))

        leader = asyncio.create_task(lead())
        await holding.wait()
        report = await pool.plane.admission.lead_round()
        assert (report.led, report.grants) == (False, 0)
        with superuser.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE application_name = 'dead-leader'"
                )
            )
        report = await pool.plane.admission.lead_round()
        assert (report.led, report.grants) == (True, 1)
        killed.set()
        with pytest.raises(Exception, match=r"database|connection|terminat"):
            await leader
        await dead.close()
        assert [row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")] == [job_id]

    async def test_a_look_needs_no_lead_and_changes_nothing(self, pool: Pool) -> None:
        await queue(pool, "bob", 1)
        async with pool.plane.database.transaction() as session:
            assert await session.scalar(text("SELECT pg_try_advisory_xact_lock(7316111)"))
            await AdmissionService(pool.plane.workers, pool.clock).look()
        assert await rows(pool, "SELECT * FROM allocations") == []
        assert (await pool.plane.admission.lead_round()).grants == 1

    async def test_who_follows_learns_of_the_queue_and_leads_as_whoever_was_killed_would(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "_FOLLOWING_SECONDS", 0.0)
        follower = AdmissionService(pool.plane.workers, pool.clock)
        await queue(pool, "bob", 8)
        await follower.look()
        async with pool.plane.database.transaction() as session:
            assert await session.scalar(text("SELECT pg_try_advisory_xact_lock(7316111)"))
            first, gone = await queue(pool, "ann", 8), await queue(pool, "ann", 8)
            assert not (await follower.lead_round()).led
            await pool.plane.services.commands.cancel(ADMIN, "ann", gone)
            await pool.plane.services.commands.set_priority(ADMIN, "ann", first, 900)
        report = await follower.lead_round()
        assert (report.led, report.queued, report.grants) == (True, 2, 2)
        held = {row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")}
        assert first in held
        assert gone not in held

    async def test_a_round_keeps_nobody_waiting_who_submits_reports_or_asks(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = await queue(pool, "bob", 8)
        await pool.plane.admission.run_round()
        attempt = await pool.launch(running, "0:1")
        waiting = [await queue(pool, "ann", 8) for _ in range(2)]
        written, over = asyncio.Event(), asyncio.Event()
        tell = admission._tell_reasons  # pyright: ignore[reportPrivateUsage]

        async def tell_and_wait(*given: Any) -> None:
            await tell(*given)
            written.set()
            await over.wait()

        monkeypatch.setattr(admission, "_tell_reasons", tell_and_wait)
        leading = asyncio.create_task(pool.plane.admission.lead_round())
        await written.wait()
        # The round has written all that it writes, and holds its locks.
        async with asyncio.timeout(30):
            fresh = await queue(pool, "ann", 1)
            assert not (await pool.report(attempt)).stop
            await pool.plane.services.queries.explain(ADMIN, "ann", fresh)
            await pool.plane.services.commands.set_priority(ADMIN, "ann", fresh, 900)
        over.set()
        assert (await leading).grants == 1
        held = {row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")}
        assert len(held & {*waiting}) == 1

    async def test_what_a_failed_round_has_seen_is_not_taken_for_done(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = await queue(pool, "bob", 8)

        async def fail(*_: object) -> None:
            raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(admission, "_tell_reasons", fail)
            with pytest.raises(RuntimeError, match="killed"):
                await pool.plane.admission.lead_round()
        assert await rows(pool, "SELECT * FROM allocations") == []
        assert await pool.plane.admission.run_round() == 1
        assert [row.job_id for row in await rows(pool, "SELECT job_id FROM allocations")] == [job_id]

    async def test_a_round_over_a_long_queue_takes_few_statements(self, pool: Pool) -> None:
        for _ in range(3):
            await queue(pool, "ann", 8)
        async with pool.plane.database.transaction() as session:
            await session.execute(_COPIES, {"count": 2000})
        await pool.plane.admission.run_round()
        statements: list[str] = []

        def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
            statements.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        report = await pool.plane.admission.lead_round()
        event.remove(Engine, "before_cursor_execute", note)
        assert (report.queued, report.grants) == (2001, 0)
        assert len(statements) < 9, statements


_SAVED = text(
    """
    INSERT INTO checkpoints (id, project_id, job_id, attempt_id, attempt_number, epoch, step, path,
        manifest_digest, size_bytes, status)
    SELECT 'ckpt_' || id, project_id, job_id, id, number, epoch, 1, 'step-1', '', 1, 'available' FROM attempts
    """
)
_COPIES = text(
    """
    INSERT INTO jobs (id, project_id, name, type, state, priority, spec, lineage, tags, desired,
        command_sequence, run_number, epoch, stage, attempts_count, retries_used, evictions,
        running_seconds, progress, metrics, prepared, created_by, queued_at)
    SELECT id || '-' || number, project_id, name, type, state, priority, spec, lineage, tags, desired,
        command_sequence, run_number, epoch, stage, attempts_count, retries_used, evictions,
        running_seconds, progress, metrics, prepared, created_by, queued_at
    FROM (SELECT * FROM jobs LIMIT 1) one, generate_series(1, :count) number
    """
)


class TestCrowds:
    async def test_many_leaders_and_endings_never_pass_a_quota_nor_give_a_gpu_twice(self, pool: Pool) -> None:
        rng = random.Random(4)
        await quota(pool, "ann", 4, borrowing_limit=2)
        await quota(pool, "bob", 6, borrowing_limit=4, lending_limit=3)
        leaders = [AdmissionService(pool.plane.workers, pool.clock) for _ in range(3)]
        jobs = [
            await queue(
                pool,
                rng.choice(("ann", "bob", "default")),
                rng.choice((1, 1, 2, 3)),
                distributed={"strategy": "ddp", "num_nodes": rng.choice((1, 1, 2))},
            )
            for _ in range(24)
        ]
        over: set[str] = set()
        for turn in range(60):
            await asyncio.gather(*(leader.run_round() for leader in leaders))
            held = await rows(pool, "SELECT job_id, project_id, node, gpu_ids FROM allocations")
            _check(held)
            await _check_gangs(pool, {row.job_id for row in held})
            ending = rng.sample(sorted({row.job_id for row in held}), k=min(3, len({r.job_id for r in held})))
            await pass_time(pool, 30)
            await asyncio.gather(
                *(_leave_twice(pool, job_id, f"0:{turn}") for job_id in ending),
                *(leader.run_round() for leader in leaders),
            )
            over |= set(ending)
            if over == set(jobs):
                break
        assert over == set(jobs), "every job has had its turn"
        assert await rows(pool, "SELECT * FROM allocations") == []


def _check(held: list[Any]) -> None:
    taken: set[tuple[str, str]] = set()
    used: defaultdict[str, int] = defaultdict(int)
    for row in held:
        used[row.project_id] += len(row.gpu_ids)
        for gpu in row.gpu_ids:
            assert (row.node, gpu) not in taken, "no GPU is held twice"
            taken.add((row.node, gpu))
    assert used["ann"] <= 4 + 2
    assert used["bob"] <= 6 + 4


async def _check_gangs(pool: Pool, job_ids: set[str]) -> None:
    found = await rows(
        pool,
        "SELECT jobs.id, asked_nodes, count(*) AS nodes FROM jobs JOIN allocations ON job_id = jobs.id"
        " GROUP BY jobs.id",
    )
    assert {row.id for row in found if row.id in job_ids and row.asked_nodes != row.nodes} == set()


async def _leave_twice(pool: Pool, job_id: str, launch: str) -> None:
    """End a job twice at once, as a worker and its successor might."""
    await pool.plane.lifecycle.start_attempt(job_id, 0, launch, "train")
    await asyncio.gather(
        *(
            pool.plane.lifecycle.move(job_id, 0, JobState.SUCCEEDED, None, "done", release=True)
            for _ in range(2)
        )
    )


class TestUsage:
    async def test_it_makes_no_difference_how_often_and_by_whom_a_grant_is_charged(self, pool: Pool) -> None:
        attempt = await pool.start(await pool.submit(gpus=4))
        rng = random.Random(1)
        for _ in range(20):
            pool.clock.forward(rng.choice((0, 1, 3600, 86400)))
            await asyncio.gather(*(_charge(pool) for _ in range(3)))
        passed = (pool.clock() - START).total_seconds()
        async with pool.plane.database.transaction() as session:
            before = await usage_at(session, pool.clock(), HALF_LIFE_SECONDS)
        assert before["default"].gpu_seconds == pytest.approx(4 * held_for(passed, HALF_LIFE_SECONDS))

        await pool.finish(attempt)
        pool.clock.forward(HALF_LIFE_SECONDS)
        async with pool.plane.database.transaction() as session:
            after = await usage_at(session, pool.clock(), HALF_LIFE_SECONDS)
        assert after["default"].gpu_seconds == pytest.approx(before["default"].gpu_seconds / 2)

    async def test_a_release_that_fails_charges_nothing(self, pool: Pool) -> None:
        await pool.start(await pool.submit(gpus=4))
        pool.clock.forward(100)
        with pytest.raises(RuntimeError):
            await _charge_and_die(pool)
        assert await rows(pool, "SELECT * FROM project_usage") == []
        async with pool.plane.database.transaction() as session:
            found = await usage_at(session, pool.clock(), HALF_LIFE_SECONDS)
        assert found["default"].gpu_seconds == pytest.approx(400, rel=1e-3)


async def _charge(pool: Pool) -> None:
    late = pool.clock() - timedelta(seconds=random.Random(2).random())
    async with pool.plane.database.transaction() as session:
        await charge(session, late, HALF_LIFE_SECONDS)


async def _charge_and_die(pool: Pool) -> None:
    async with pool.plane.database.transaction() as session:
        await charge(session, pool.clock(), HALF_LIFE_SECONDS)
        raise RuntimeError("killed just before the commit")


def test_the_rules_reach_the_scheduler() -> None:
    policy = scheduler_policy(PoolPolicy(eviction_cap=7, preemption=["fair_share"]))
    assert (policy.eviction_cap, [rule.value for rule in policy.preemption]) == (7, ["fair_share"])
