"""The pool over the api: flavors, quotas, interruptions, rules, and who may do what."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.control_plane import LEASE_SECONDS, ControlPlane, serve
from tests.gpu_pool import FLAVOR, HandClock, Pool, gpu_spec, open_pool

from steelyard.jobs.idleness import IdleKeeper
from steelyard.jobs.supervision import SupervisionService
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.pool import Interruption
from steelyard.specs.states import JobState
from steelyard.storage.database import Database

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def pool(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Pool]:
    """Two nodes of eight GPUs."""
    clock = HandClock(START)
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        yield await open_pool(plane, clock, LEASE_SECONDS, nodes=2)


@pytest.fixture
async def http(pool: Pool) -> AsyncGenerator[httpx.AsyncClient]:
    async with pool.plane.http() as client:
        yield client


async def make_project(database: Database, *names: str) -> None:
    """Make projects."""
    async with database.transaction() as session:
        for name in names:
            await session.execute(text("INSERT INTO projects (id) VALUES (:id)"), {"id": name})


async def audited(plane: ControlPlane, verb: str) -> int:
    """Return how often an act is in the trail."""
    async with plane.database.transaction() as session:
        found = await session.scalar(
            text("SELECT count(*) FROM audit_log WHERE verb = :verb"), {"verb": verb}
        )
    return int(found or 0)


class TestFlavorsAndRules:
    async def test_a_flavor_is_set_shown_and_on_record(self, pool: Pool, http: httpx.AsyncClient) -> None:
        body = {"gpu_type": "a100-80gb", "spot": True, "price_per_gpu_hour": "2.5"}
        answer = await http.put(f"/v1/pool/flavors/{FLAVOR}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["gpus"] == 16
        shown = (await http.get("/v1/pool")).json()
        (flavor,) = [each for each in shown["flavors"] if each["name"] == FLAVOR]
        assert (flavor["spot"], flavor["price_per_gpu_hour"], flavor["free_gpus"]) == (True, "2.5", 16)
        assert {node["spot"] for node in shown["nodes"]} == {True}
        assert await audited(pool.plane, "flavor.set") == 1
        again = await http.put(f"/v1/pool/flavors/{FLAVOR}", json={**body, "price_per_gpu_hour": "3"})
        assert again.json()["price_per_gpu_hour"] == "3"

    async def test_rules_are_kept_and_the_next_round_goes_by_them(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        shown = (await http.get("/v1/pool")).json()["settings"]
        shown["policy"]["min_runtime_seconds"] = 5.0
        shown["currency"] = "CHF"
        assert (await http.put("/v1/pool/settings", json=shown)).status_code == 200
        again = (await http.get("/v1/pool")).json()["settings"]
        assert (again["currency"], again["policy"]["min_runtime_seconds"]) == ("CHF", 5.0)
        assert again["policy"]["preemption"] == ["reclaim", "priority", "turn", "lent_turn"]
        wrong = await http.put("/v1/pool/settings", json={"policy": {"usage_weight": 2}})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "policy.usage_weight")


class TestQuotas:
    async def test_a_quota_is_set_and_its_project_sees_where_it_stands(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        body = {"nominal": 4, "borrowing_limit": 8, "lending_limit": 2, "weight": 3}
        answer = await http.put(f"/v1/projects/default/quotas/{FLAVOR}", json=body)
        assert answer.status_code == 200, answer.text
        await pool.start(await pool.submit(gpus=6))
        pool.clock.forward(36)
        view = (await http.get("/v1/projects/default/quotas")).json()
        (figures,) = view["quotas"]
        assert (figures["held_gpus"], figures["borrowed_gpus"], figures["flavor_gpus"]) == (6, 2, 16)
        assert view["weight"] == 3
        assert view["used_gpu_hours"] == pytest.approx(0.06, rel=0.01)
        assert await audited(pool.plane, "quota.set") == 1

    @pytest.mark.parametrize(
        ("gpus", "borrows", "admissible", "words"),
        [
            (1, 0, True, "stays within them"),
            (4, 3, True, "would borrow 3"),
            (5, 4, True, "would pass what it may hold (7)"),
            (8, 7, False, "wait for ever"),
        ],
    )
    async def test_a_plan_says_what_a_job_would_do_to_the_quota(
        self, pool: Pool, http: httpx.AsyncClient, gpus: int, borrows: int, admissible: bool, words: str
    ) -> None:
        body = {"nominal": 4, "borrowing_limit": 3}
        assert (await http.put(f"/v1/projects/default/quotas/{FLAVOR}", json=body)).status_code == 200
        await pool.start(await pool.submit(gpus=3))
        plan = await http.post("/v1/projects/default/jobs/plan", json=gpu_spec(gpus, 3600))
        (quota,) = plan.json()["quotas"]
        assert (quota["held_gpus"], quota["would_borrow_gpus"]) == (3, borrows)
        assert quota["admissible"] is admissible
        assert words in quota["message"]
        without = await http.post("/v1/projects/default/jobs/plan", json=gpu_spec(0, 3600))
        assert without.json()["quotas"] == []

    async def test_what_is_not_there_or_makes_no_sense_is_refused(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        good = {"nominal": 1}
        assert (await http.put("/v1/projects/nobody/quotas/x", json=good)).status_code == 404
        assert (await http.put("/v1/projects/default/quotas/x", json=good)).status_code == 404
        lending = {"nominal": 1, "lending_limit": 2}
        answer = await http.put(f"/v1/projects/default/quotas/{FLAVOR}", json=lending)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "lending_limit")

    async def test_a_borrowing_limit_holds_and_explain_names_the_quota(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        body = {"nominal": 2, "borrowing_limit": 1}
        await http.put(f"/v1/projects/default/quotas/{FLAVOR}", json=body)
        await pool.start(await pool.submit(gpus=2))
        waiting = await pool.submit(gpus=2)
        await pool.plane.lifecycle.move(waiting, 0, JobState.QUEUED, None, "waiting for a place")
        await pool.plane.admission.run_round()
        job = await pool.job(waiting)
        assert job.status_reason == "quota_exceeded"
        assert "holds 2 sim-a100 GPUs of at most 3" in (job.status_message or "")


class TestInterruptions:
    async def test_jobs_save_and_queue_again_without_a_retry_and_the_node_gets_no_new_ones(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        attempt = await pool.start(await pool.submit(gpus=8))
        node = (await pool.job(attempt.job_id)).attempts[0].node
        await pool.report(attempt)
        notice = {"in_seconds": 30, "reason": "a test"}
        answer = await http.post(f"/v1/nodes/{node}/interruption", json=notice)
        assert (answer.status_code, answer.json()["state"]) == (202, "interrupted"), answer.text
        assert (await pool.report(attempt, 2)).stop
        seen = await SupervisionService(pool.plane.workers, pool.clock).look_at(attempt.id)
        assert (seen.stop_reason, seen.node_left_seconds) == ("spot_interrupted", 30.0)

        await pool.end(attempt, OutcomeKind.CHECKPOINTED)
        await pool.plane.lifecycle.move(
            attempt.job_id, 0, JobState.QUEUED, "spot_interrupted", "saved", release=True
        )
        ended = (await pool.job(attempt.job_id)).attempts[0]
        assert (ended.cause, ended.counted) == ("spot_interrupted", False)
        other = await pool.submit(gpus=8)
        await pool.plane.lifecycle.move(other, 0, JobState.QUEUED, None, "waiting for a place")
        assert await pool.plane.admission.run_round() == 1, "one node is left"
        nodes = {each["name"]: each for each in (await http.get("/v1/pool")).json()["nodes"]}
        assert nodes[str(node)]["jobs"] == 0

        await http.delete(f"/v1/nodes/{node}/interruption")
        assert await pool.plane.admission.run_round() == 1
        assert await audited(pool.plane, "node.interrupt") == await audited(pool.plane, "node.restore") == 1

    async def test_a_node_is_back_when_its_agent_starts_anew_after_the_deadline(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        await http.post("/v1/nodes/node-0/interruption", json={"in_seconds": 30})

        async def state_with_an_agent_since(started: datetime) -> str:
            gpus = tuple(f"sim-0-{index}" for index in range(8))
            await pool.plane.admission.report_node(
                "node-0", "local", 64, 1 << 40, gpus, FLAVOR, agent_started_at=started
            )
            nodes = (await http.get("/v1/pool")).json()["nodes"]
            return next(each["state"] for each in nodes if each["name"] == "node-0")

        assert await state_with_an_agent_since(START) == "interrupted"
        assert await state_with_an_agent_since(START + timedelta(seconds=29)) == "interrupted"
        assert await state_with_an_agent_since(START + timedelta(seconds=31)) == "up"

    async def test_a_place_that_was_granted_just_before_is_given_back(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        job_id = await pool.submit(gpus=8)
        await pool.plane.lifecycle.move(job_id, 0, JobState.QUEUED, None, "waiting for a place")
        await pool.plane.admission.run_round()
        async with pool.plane.database.transaction() as session:
            node = await session.scalar(text("SELECT node FROM allocations"))
        await http.post(f"/v1/nodes/{node}/interruption", json={})
        launched = await pool.plane.lifecycle.start_attempt(job_id, 0, "0:1", "train")
        assert launched.attempt_id is None
        assert await pool.plane.admission.run_round() == 1, "on the other node"
        launched = await pool.plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
        assert launched.attempt_id is not None

    async def test_the_last_retry_leaves_spot_capacity(self, pool: Pool, http: httpx.AsyncClient) -> None:
        await http.put(f"/v1/pool/flavors/{FLAVOR}", json={"spot": True})
        await pool.plane.admission.report_node("calm", "local", 64, 1 << 40, ("c1",), "on-demand")
        resources = {"cpus": 1, "memory_gb": 1.0, "gpus": 1, "spot": "prefer"}
        limits = {"max_runtime_seconds": 600, "max_retries": 1}
        attempt = await pool.start(await pool.submit(resources=resources, limits=limits))
        assert (await pool.job(attempt.job_id)).attempts[0].node != "calm"
        await pool.end(attempt, OutcomeKind.FAILED)
        async with pool.plane.database.transaction() as session:
            await session.execute(text("UPDATE jobs SET retries_used = 1"))
        await pool.plane.lifecycle.move(attempt.job_id, 0, JobState.RECOVERING, "x", "again")
        refused = await pool.plane.lifecycle.start_attempt(attempt.job_id, 0, "0:2", "train")
        assert refused.attempt_id is None
        last = await pool.start(attempt.job_id, "0:3")
        assert (await pool.job(last.job_id)).attempts[-1].node == "calm"

    async def test_a_price_cap_waits_for_a_lower_price(self, pool: Pool, http: httpx.AsyncClient) -> None:
        resources = {"cpus": 1, "memory_gb": 1.0, "gpus": 1, "max_price_per_gpu_hour": 3.0}
        job_id = await pool.submit(resources=resources)
        await pool.plane.lifecycle.move(job_id, 0, JobState.QUEUED, None, "waiting for a place")
        assert await pool.plane.admission.run_round() == 0
        assert (await pool.job(job_id)).status_reason == "price_cap"
        await http.put(f"/v1/pool/flavors/{FLAVOR}", json={"price_per_gpu_hour": "2.9"})
        assert await pool.plane.admission.run_round() == 1


class TestIdleReclaim:
    async def _until(self, pool: Pool, keeper: IdleKeeper, attempt_id: str, seconds: int) -> None:
        """Let an attempt report the same step for so long."""
        for _ in range(seconds // 30):
            pool.clock.forward(30)
            async with pool.plane.database.transaction() as session:
                await session.execute(
                    text("UPDATE attempts SET last_report_at = :now WHERE id = :id"),
                    {"now": pool.clock(), "id": attempt_id},
                )
            await keeper.run_round()

    @pytest.mark.parametrize(("action", "desired"), [("requeue", "run"), ("stop", "pause")])
    async def test_an_idle_attempt_is_warned_then_leaves_by_the_projects_rule(
        self, pool: Pool, http: httpx.AsyncClient, action: str, desired: str
    ) -> None:
        rule = {"action": action, "window_seconds": 300, "warning_seconds": 120}
        assert (await http.put("/v1/projects/default/idle-policy", json=rule)).json()["idle_is_own"]
        attempt = await pool.start(await pool.submit(gpus=4))
        await pool.report(attempt, 5)
        keeper = IdleKeeper(pool.plane.workers, pool.clock)
        await keeper.run_round()
        await self._until(pool, keeper, attempt.id, 270)
        assert not (await pool.report(attempt, 5)).stop
        await self._until(pool, keeper, attempt.id, 60)
        events = (await http.get(f"/v1/projects/default/jobs/{attempt.job_id}/events")).json()["data"]
        assert "attempt.idle" in [event["type"] for event in events]
        assert not (await pool.report(attempt, 5)).stop
        await self._until(pool, keeper, attempt.id, 120)
        assert (await pool.report(attempt, 5)).stop
        async with pool.plane.database.transaction() as session:
            row = (
                await session.execute(
                    text("SELECT desired, stop_reason FROM jobs JOIN attempts ON job_id = jobs.id")
                )
            ).one()
        assert (row.desired, row.stop_reason) == (desired, "idle")
        await pool.end(attempt, OutcomeKind.CHECKPOINTED)
        assert not (await pool.job(attempt.job_id)).attempts[0].counted
        if action == "stop":
            await pool.plane.lifecycle.move(
                attempt.job_id, 0, JobState.PAUSED, "paused_by_user", "paused", release=True
            )
            job = await pool.job(attempt.job_id)
            assert (job.state, job.status_reason) == ("paused", "idle")

    async def test_steps_keep_it_busy_and_take_a_warning_back(self, pool: Pool) -> None:
        attempt = await pool.start(await pool.submit(gpus=4))
        keeper = IdleKeeper(pool.plane.workers, pool.clock)
        for step in range(1, 100):
            await pool.report(attempt, step)
            pool.clock.forward(45)
            await keeper.run_round()
        assert not (await pool.report(attempt, 100)).stop

    async def test_gpus_that_hardly_work_are_idle_whatever_the_steps_say_and_everybody_sees_it(
        self, pool: Pool, http: httpx.AsyncClient
    ) -> None:
        attempt = await pool.start(await pool.submit(gpus=4))
        assert (await pool.job(attempt.job_id)).attempts[0].gpu_utilisation is None
        keeper = IdleKeeper(pool.plane.workers, pool.clock)
        for step in range(1, 46):
            await pool.report(attempt, step, gpu_utilisation=0.04)
            pool.clock.forward(45)
            await keeper.run_round()
        assert (await pool.job(attempt.job_id)).attempts[0].gpu_utilisation == 0.04
        events = (await http.get(f"/v1/projects/default/jobs/{attempt.job_id}/events")).json()["data"]
        (warning,) = [event for event in events if event["type"] == "attempt.idle"]
        assert "its GPUs worked 4% of the time" in warning["message"]


async def test_reading_the_pool_is_for_operators_and_quotas_for_members(
    pool: Pool, http: httpx.AsyncClient
) -> None:
    stranger = httpx.AsyncClient(base_url=pool.plane.url)
    assert (await stranger.get("/v1/pool")).status_code == 401
    await stranger.aclose()
    assert (await http.get("/v1/projects/nobody/quotas")).status_code == 404


def test_a_notice_has_a_bound() -> None:
    with pytest.raises(ValueError, match="in_seconds"):
        Interruption.model_validate_json(json.dumps({"in_seconds": -1}))
    assert Decimal(str(Interruption().in_seconds)) == 120
